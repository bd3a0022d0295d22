use super::*;
use crate::frames::{Kind, Reason};
use crate::hpack::Block;
use crate::payload::Payload;
use crate::pipe::{self, Cut, Direction, Pipe};
use bytes::Bytes;
use std::time::Duration;
use tokio::task::JoinSet;

/// A raw client and a raw server that have shaken hands.
async fn shaken() -> (RawClient<Pipe>, RawServer<Pipe>) {
    let (left, right) = pipe::pair();
    let (mut client, mut server) = (RawClient::new(left), RawServer::new(right));
    tokio::join!(client.handshake(), server.handshake());
    (client, server)
}

/// An h2 server that answers each request with 200 and echoes its data.
async fn echo_with_h2(io: Pipe) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    let mut streams = JoinSet::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        streams.spawn(async move {
            let mut body = request.into_body();
            let mut reply = respond.send_response(http::Response::new(()), false).unwrap();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                reply.send_data(data, false).unwrap();
            }
            if body.is_end_stream() {
                reply.send_data(Bytes::new(), true).unwrap();
            }
        });
    }
}

/// Runs `script` beside an h2 server.
async fn against_h2_server(script: impl AsyncFnOnce(RawClient<Pipe>)) {
    let (left, right) = pipe::pair();
    let mut tasks = JoinSet::new();
    tasks.spawn(echo_with_h2(right));
    script(RawClient::new(left)).await;
}

#[tokio::test(start_paused = true)]
async fn a_raw_client_tunnels_through_an_h2_server() {
    against_h2_server(async |mut client| {
        client.handshake().await;
        let stream = client.connect("10.0.0.1:8080").await;
        let response = client.expect_headers(stream).await;
        assert_eq!(response.fields.status(), 200);
        assert!(!response.end_stream);

        client.send_data(stream, "hello").await;
        assert_eq!(client.expect_data(stream).await.body(), "hello");
        client.ping().await;
        client.end(stream).await;
        assert_eq!(client.read_to_end(stream).await, "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_megabyte_flows_both_ways_under_flow_control() {
    against_h2_server(async |mut client| {
        client.handshake().await;
        let stream = client.connect("bulk:1").await;
        client.expect_headers(stream).await;
        client.send_all(stream, Payload::new(5).take(1 << 20)).await;
        client.end(stream).await;
        let echoed = client.read_to_end(stream).await;
        assert_eq!(echoed.len(), 1 << 20);
        Payload::new(5).verify(&echoed);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_h2_client_tunnels_through_a_raw_server() {
    let (left, right) = pipe::pair();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (send, connection) = h2::client::handshake(left).await.unwrap();
        let request = async move {
            let mut send = send.ready().await.unwrap();
            let request = http::Request::connect("pod:80").header("baggage", "k8s.namespace.name=default");
            let (response, mut tunnel) = send.send_request(request.body(()).unwrap(), false).unwrap();
            let mut response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            tunnel.send_data("ping".into(), true).unwrap();
            assert_eq!(response.body_mut().data().await.unwrap().unwrap(), "pong");
            let reset = response.body_mut().data().await.unwrap().unwrap_err();
            assert_eq!(reset.reason(), Some(h2::Reason::CONNECT_ERROR));
        };
        tokio::join!(request, async { connection.await.unwrap() });
    });

    let mut server = RawServer::new(right).with_settings(&[(setting::MAX_CONCURRENT_STREAMS, 7)]);
    server.handshake().await;
    assert!(server.peer_setting(setting::INITIAL_WINDOW_SIZE).is_none());
    let request = server.accept().await;
    assert_eq!(request.fields.get(":method"), Some("CONNECT"));
    assert_eq!(request.fields.get(":authority"), Some("pod:80"));
    assert_eq!(request.fields.get("baggage"), Some("k8s.namespace.name=default"));
    server.respond(request.stream, 200).await;
    assert_eq!(server.read_to_end(request.stream).await, "ping");
    server.send_data(request.stream, "pong").await;
    server.reset(request.stream, Reason::CONNECT_ERROR).await;
    server.expect_goaway(Reason::NO_ERROR).await;
    server.expect_eof().await;
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn h2_refuses_what_the_script_spoils() {
    type Spoil = fn(u32) -> Frame;
    let spoiled: [(Spoil, Reason); 5] = [
        (|_| Frame::window_update(0, 0), Reason::PROTOCOL_ERROR),
        (|_| Frame::new(Kind::PRIORITY, 0, 1, vec![0; 4]), Reason::PROTOCOL_ERROR),
        (|_| Frame::ping([0; 8]).claiming_len(1 << 20), Reason::FRAME_SIZE_ERROR),
        (|id| Frame::rst_stream(id + 2, Reason::CANCEL), Reason::PROTOCOL_ERROR),
        (|id| Frame::new(Kind::DATA, 0x8, id, vec![200]), Reason::PROTOCOL_ERROR),
    ];
    for (spoil, reason) in spoiled {
        against_h2_server(async |mut client| {
            client.handshake().await;
            let stream = client.connect("pod:80").await;
            client.expect_headers(stream).await;
            client.send(spoil(stream)).await;
            client.expect_goaway(reason).await;
            assert_eq!(client.closed().await, End::Eof);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rapid_reset_flood_ends_in_goaway() {
    against_h2_server(async |mut client| {
        client.handshake().await;
        let block = Bytes::from(Block::connect("pod:80"));
        let sent = client
            .flood(40_000, |i| {
                let stream = u32::try_from(i / 2 * 2 + 1).unwrap();
                match i % 2 {
                    0 => Frame::headers(stream, block.clone()).end_headers(),
                    _ => Frame::rst_stream(stream, Reason::CANCEL),
                }
            })
            .await;
        assert!(sent < 40_000, "{sent} frames went through");
        let goaway = client.expect_goaway(Reason::ENHANCE_YOUR_CALM).await;
        assert_eq!(goaway.debug_data(), "too_many_resets");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_header_block_larger_than_a_frame_arrives_whole() {
    let (mut client, mut server) = shaken().await;
    let large = "x".repeat(40_000);
    let stream = client
        .request(&[(":method", "CONNECT"), ("large", &large), (":authority", "late:1")])
        .await;
    let request = server.accept().await;
    assert_eq!(request.stream, stream);
    let names: Vec<_> = request.fields.iter().map(|(name, _)| name.to_vec()).collect();
    assert_eq!(names, [&b":method"[..], b"large", b":authority"]);
    assert_eq!(request.fields.get("large"), Some(large.as_str()));
}

#[tokio::test(start_paused = true)]
async fn habits_can_be_switched_off() {
    let (left, right) = pipe::pair();
    let mut client = RawClient::new(left)
        .without_settings_acks()
        .without_ping_acks()
        .without_window_updates();
    let mut server = RawServer::new(right).with_settings(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    tokio::join!(client.handshake(), server.handshake());
    let settings = client.recv().await.frame;
    assert_eq!(settings.settings_values(), [(setting::INITIAL_WINDOW_SIZE, 10)]);
    assert!(client.recv().await.frame.is_ack());

    server.send(Frame::ping(*b"question")).await;
    assert_eq!(client.recv().await.frame, Frame::ping(*b"question"));
    server.send_data(1, "data").await;
    assert_eq!(client.recv().await.frame.body(), "data");
    let quiet = server.expect_quiet(Duration::from_secs(1));
    tokio::join!(quiet, client.expect_quiet(Duration::from_secs(1)));
}

#[tokio::test(start_paused = true)]
async fn frames_of_other_streams_wait_for_their_turn() {
    let (mut client, mut server) = shaken().await;
    let first = client.connect("a:1").await;
    client.send_data(first, "one").await;
    let trailers = Bytes::from(Block::new().field("a", "b"));
    client
        .send(Frame::headers(first, trailers).end_headers().end_stream())
        .await;
    let second = client.connect("b:2").await;
    client.send_data(second, "two").await;
    assert_eq!(server.accept().await.stream, first);
    assert_eq!(server.accept().await.fields.get(":authority"), Some("b:2"));
    assert_eq!(server.expect_data(second).await.body(), "two");
    assert_eq!(server.expect_data(first).await.body(), "one");
    assert!(server.expect_headers(first).await.end_stream);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "expected HEADERS on stream 1, got RST_STREAM(stream=1, flags=0x0, len=4, REFUSED_STREAM)")]
async fn another_frame_of_the_stream_is_not_skipped() {
    let (mut client, mut server) = shaken().await;
    client.connect("a:1").await;
    server.reset(1, Reason::REFUSED_STREAM).await;
    server.respond(1, 200).await;
    client.expect_headers(1).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "no frame within 5s; had seen\n  -> SETTINGS")]
async fn a_missing_frame_ends_the_test_with_what_crossed() {
    let (mut client, _server) = shaken().await;
    client.recv().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "expected the preface, got `GET / HTTP/1.1")]
async fn something_else_than_the_preface_ends_the_test() {
    let (left, right) = pipe::pair();
    RawClient::new(left)
        .send_bytes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    RawServer::new(right).handshake().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "neither took bytes nor closed within 5s")]
async fn a_flood_that_is_neither_read_nor_cut_ends_the_test() {
    let (left, _right) = pipe::pair();
    let mut client = RawClient::new(left);
    client.stop_reading();
    client.flood(1_000_000, |_| Frame::ping([0; 8])).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_when_the_other_side_closes() {
    let (left, right) = pipe::pair();
    let mut client = RawClient::new(left);
    client.stop_reading();
    let close = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(right);
    };
    let (sent, ()) = tokio::join!(client.flood(1_000_000, |_| Frame::ping([0; 8])), close);
    assert!(
        (3000..6000).contains(&sent),
        "{sent} pings went through a pipe of 64 KiB"
    );
    client.try_send(Frame::ping([0; 8])).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn bytes_stay_in_the_transport_while_not_reading() {
    let (mut client, mut server) = shaken().await;
    client.stop_reading();
    server.send_data(1, "unread").await;
    client.expect_quiet(Duration::from_secs(1)).await;
    client.resume_reading();
    assert_eq!(client.expect_data(1).await.body(), "unread");
}

#[tokio::test(start_paused = true)]
async fn ends_are_told_apart() {
    let (mut client, mut server) = shaken().await;
    client.shut_down().await;
    server.expect_eof().await;

    let (mut client, server) = shaken().await;
    server.into_io().abort();
    assert_eq!(client.closed().await, End::Error(std::io::ErrorKind::ConnectionReset));

    let (client, mut server) = shaken().await;
    let control = client.into_io().control();
    assert!(control.stats(Direction::LeftToRight).delivered > 0);
    control.cut(Cut::Reset);
    assert_eq!(server.closed().await, End::Error(std::io::ErrorKind::ConnectionReset));
}
