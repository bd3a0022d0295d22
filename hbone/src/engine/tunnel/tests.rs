use std::task::Poll;

use bytes::{Bytes, BytesMut};
use mesh_testkit::frames::{Frame, Kind};
use mesh_testkit::hpack::Block;
use proptest::prelude::*;

use super::frame::PREFACE;
use super::protocol::Protocol;
use crate::config::Config;
use crate::engine::{EngineError, Received};
use crate::observe::Role;
use crate::wire::ErrorCode;

/// One side, and what it has been told of.
struct Side {
    protocol: Protocol,
    /// Slots of its streams, in the order of their ids.
    slots: Vec<usize>,
}

impl Side {
    /// A server whose client has shaken hands.
    fn server() -> Self {
        let mut side = Self::new(Role::Server);
        side.hear(PREFACE);
        side.see(&[Frame::settings(&[]), Frame::settings_ack()]);
        side
    }

    /// A client with two streams, whose server has shaken hands.
    fn client() -> Self {
        let mut side = Self::new(Role::Client);
        side.see(&[Frame::settings(&[]), Frame::settings_ack()]);
        for _ in 0..2 {
            let head = http::Request::connect("10.0.0.1:80").body(()).unwrap();
            let (slot, _) = side.protocol.open(&head).unwrap();
            side.slots.push(slot);
        }
        side
    }

    fn new(role: Role) -> Self {
        let mut config = Config::default();
        config.set_stream_window(64 * 1024).set_max_tunnels(4);
        let mut protocol = Protocol::new(role, &config);
        protocol.output().0.clear();
        Self {
            protocol,
            slots: Vec::new(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.protocol.receive(&mut BytesMut::from(bytes), bytes.len());
        while let Some((_, slot, _)) = self.protocol.next_arrival() {
            self.slots.push(slot);
        }
    }

    fn see(&mut self, frames: &[Frame]) {
        for frame in frames {
            let mut wire = BytesMut::new();
            frame.encode(&mut wire);
            self.hear(&wire);
        }
    }

    /// What it says, without SETTINGS and windows: resets, and GOAWAY as of stream 0.
    fn verdicts(&mut self) -> Vec<(u32, ErrorCode)> {
        let said = std::mem::take(self.protocol.output().0);
        Frame::decode_all(&said)
            .iter()
            .filter(|frame| matches!(frame.kind, Kind::RST_STREAM | Kind::GOAWAY))
            .map(|frame| (frame.stream, ErrorCode::from(frame.reason().0)))
            .collect()
    }

    fn received(&mut self, stream: usize) -> Result<(Vec<u8>, bool), ErrorCode> {
        let mut bytes = Vec::new();
        loop {
            match self.protocol.poll_recv(self.slots[stream]) {
                Poll::Pending => return Ok((bytes, false)),
                Poll::Ready(Ok(Received::Data(data))) => bytes.extend_from_slice(&data),
                Poll::Ready(Ok(_)) => return Ok((bytes, true)),
                Poll::Ready(Err(EngineError::Reset { code, .. })) => return Err(code),
                Poll::Ready(Err(error)) => panic!("{error}"),
            }
        }
    }
}

fn request(stream: u32) -> Frame {
    Frame::headers(stream, Block::connect("10.0.0.1:80")).end_headers()
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame::new(Kind(kind), flags, stream, payload.to_vec())
}

/// Frames of a client that break the protocol, and the stream and code that answer: section by
/// section of RFC 9113.
fn violations() -> Vec<(&'static str, Vec<Frame>, (u32, ErrorCode))> {
    let data = |stream, len: usize| Frame::data(stream, vec![0; len]);
    let open = || request(1);
    vec![
        ("4.2", vec![open(), data(1, 65_537)], (0, ErrorCode::FRAME_SIZE_ERROR)),
        ("4.3", vec![raw(1, 4, 1, &[0xff])], (0, ErrorCode::COMPRESSION_ERROR)),
        (
            "4.3",
            vec![Frame::headers(1, Block::connect("a:1")), Frame::ping([0; 8])],
            (0, ErrorCode::PROTOCOL_ERROR),
        ),
        ("5.1 idle", vec![data(1, 1)], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "5.1 idle",
            vec![Frame::window_update(1, 1)],
            (0, ErrorCode::PROTOCOL_ERROR),
        ),
        (
            "5.1 half-closed",
            vec![open().end_stream(), data(1, 1)],
            (1, ErrorCode::STREAM_CLOSED),
        ),
        (
            "5.1 closed",
            vec![open(), raw(3, 0, 1, &[0, 0, 0, 8]), data(1, 1)],
            (1, ErrorCode::STREAM_CLOSED),
        ),
        ("5.1.1 even", vec![request(2)], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "5.1.1 smaller",
            vec![request(5), request(3)],
            (0, ErrorCode::PROTOCOL_ERROR),
        ),
        (
            "5.1.2",
            [1, 3, 5, 7, 9].map(request).to_vec(),
            (9, ErrorCode::REFUSED_STREAM),
        ),
        ("6.1", vec![data(0, 1)], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "6.1 padding",
            vec![open(), raw(0, 8, 1, &[2, 0])],
            (0, ErrorCode::PROTOCOL_ERROR),
        ),
        ("6.2", vec![raw(1, 4, 0, &[])], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "6.3",
            vec![open(), raw(2, 0, 1, &[0; 4])],
            (1, ErrorCode::FRAME_SIZE_ERROR),
        ),
        (
            "6.4",
            vec![open(), raw(3, 0, 1, &[0; 3])],
            (0, ErrorCode::FRAME_SIZE_ERROR),
        ),
        ("6.4 idle", vec![raw(3, 0, 1, &[0; 4])], (0, ErrorCode::PROTOCOL_ERROR)),
        ("6.5", vec![raw(4, 0, 0, &[0; 5])], (0, ErrorCode::FRAME_SIZE_ERROR)),
        ("6.5", vec![raw(4, 0, 1, &[])], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "6.5.2",
            vec![Frame::settings(&[(4, 1 << 31)])],
            (0, ErrorCode::FLOW_CONTROL_ERROR),
        ),
        ("6.6", vec![raw(5, 4, 1, &[0; 4])], (0, ErrorCode::PROTOCOL_ERROR)),
        ("6.7", vec![raw(6, 0, 0, &[0; 7])], (0, ErrorCode::FRAME_SIZE_ERROR)),
        (
            "6.9 connection",
            vec![Frame::window_update(0, 0)],
            (0, ErrorCode::PROTOCOL_ERROR),
        ),
        (
            "6.9 stream",
            vec![open(), Frame::window_update(1, 0)],
            (1, ErrorCode::PROTOCOL_ERROR),
        ),
        (
            "6.9.1 connection",
            vec![Frame::window_update(0, 0x7fff_ffff)],
            (0, ErrorCode::FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1 stream",
            vec![open(), Frame::window_update(1, 0x7fff_ffff)],
            (1, ErrorCode::FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1 exceeded",
            vec![open(), data(1, 60_000), data(1, 6_000)],
            (1, ErrorCode::FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2",
            vec![
                open(),
                Frame::window_update(1, 0x7fff_0000),
                Frame::settings(&[(4, 0x7fff_ffff)]),
            ],
            (0, ErrorCode::FLOW_CONTROL_ERROR),
        ),
        ("6.10", vec![open(), raw(9, 4, 1, &[])], (0, ErrorCode::PROTOCOL_ERROR)),
        (
            "8.1.1",
            vec![Frame::headers(1, Block::connect("a:1").field("X", "y")).end_headers()],
            (1, ErrorCode::PROTOCOL_ERROR),
        ),
        (
            "8.5 trailers that end nothing",
            vec![open(), Frame::headers(1, Block::new().field("x", "y")).end_headers()],
            (1, ErrorCode::PROTOCOL_ERROR),
        ),
    ]
}

#[test]
fn each_violation_has_the_answer_of_the_standard() {
    for (section, frames, expected) in violations() {
        let mut server = Side::server();
        server.see(&frames);
        assert_eq!(server.verdicts(), [expected], "section {section}");
        let (stream, _) = expected;
        assert_eq!(server.protocol.is_over(), stream == 0, "section {section}");
    }
}

#[test]
fn settings_come_first() {
    let mut server = Side::new(Role::Server);
    server.hear(PREFACE);
    server.see(&[Frame::ping([0; 8])]);
    assert_eq!(server.verdicts(), [(0, ErrorCode::PROTOCOL_ERROR)]);
    let mut other = Side::new(Role::Server);
    other.hear(b"GET / HTTP/1.1\r\n");
    assert_eq!(other.verdicts(), [(0, ErrorCode::PROTOCOL_ERROR)]);
}

/// RFC 9113 §5.1: what was under way when the stream was reset.
#[test]
fn what_follows_a_reset_is_ignored_as_far_as_it_may_have_been_sent() {
    let mut server = Side::server();
    server.see(&[request(1), Frame::data(1, vec![0; 10_000])]);
    server.protocol.reset(server.slots[0], ErrorCode::CANCEL);
    assert_eq!(server.verdicts(), [(1, ErrorCode::CANCEL)]);
    for _ in 0..5 {
        server.see(&[Frame::data(1, vec![0; 10_000]), Frame::window_update(1, 1)]);
    }
    assert_eq!(server.verdicts(), []);
    server.see(&[Frame::data(1, vec![0; 10_000])]);
    assert_eq!(server.verdicts(), [(0, ErrorCode::FLOW_CONTROL_ERROR)]);
}

/// RFC 9113 §6.1: padding takes window, and nobody reads it.
#[test]
fn padding_is_given_back_at_once() {
    let mut server = Side::server();
    server.see(&[request(1)]);
    for _ in 0..1_000 {
        server.see(&[Frame::data(1, &b"x"[..]).padded(200)]);
        assert_eq!(server.received(0), Ok((b"x".to_vec(), false)));
        server.protocol.release(server.slots[0], 1);
    }
    assert_eq!(server.verdicts(), []);
}

/// A client may open any number of streams, and send on them, before it has seen any SETTINGS.
#[test]
fn streams_beyond_the_limit_are_refused_and_what_they_carry_is_ignored() {
    let mut server = Side::server();
    let streams: Vec<u32> = (0..200).map(|n| n * 2 + 1).collect();
    for stream in &streams {
        server.see(&[request(*stream)]);
    }
    let refused: Vec<_> = streams[4..].iter().map(|id| (*id, ErrorCode::REFUSED_STREAM)).collect();
    assert_eq!(server.verdicts(), refused);
    for stream in &streams {
        server.see(&[
            Frame::data(*stream, vec![0; 100]),
            Frame::data(*stream, vec![0; 100]).end_stream(),
        ]);
    }
    assert_eq!(server.verdicts(), []);
    assert!(!server.protocol.is_over());
}

/// A stream that nobody reads gives its bytes back to the connection when it goes.
#[test]
fn forgotten_streams_cost_the_connection_no_window() {
    let mut server = Side::server();
    for n in 0..1_000 {
        let stream = n * 2 + 1;
        server.see(&[
            request(stream),
            Frame::data(stream, vec![0; 60_000]).padded(200),
            Frame::data(stream, vec![0; 100]),
        ]);
        let slot = server.slots.pop().unwrap();
        server.protocol.forget(slot);
    }
    assert!(!server.protocol.is_over());
    assert_eq!(server.verdicts().len(), 1_000);
}

/// The oldest stream may be the last that is reset.
#[test]
fn a_stream_is_remembered_for_as_long_after_its_reset_however_old_it_is() {
    let mut server = Side::server();
    server.see(&[request(1)]);
    for n in 1..=1_100 {
        server.see(&[request(2 * n + 1)]);
        server.protocol.forget(server.slots.pop().unwrap());
    }
    server.protocol.reset(server.slots[0], ErrorCode::CANCEL);
    server.verdicts();
    let trailers = Frame::headers(1, Block::new().field("x", "y"))
        .end_headers()
        .end_stream();
    server.see(&[Frame::data(1, "on its way"), trailers]);
    assert_eq!(server.verdicts(), []);
    assert!(!server.protocol.is_over());
}

/// A peer can have this side reset what it does not reset itself.
#[test]
fn streams_that_end_before_anybody_saw_them_are_counted_whoever_ends_them() {
    for (kind, payload) in [(3, [0, 0, 0, 8]), (8, [0; 4])] {
        let (mut server, mut wire) = (Side::server(), BytesMut::new());
        for stream in (1..200).step_by(2) {
            request(stream).encode(&mut wire);
            raw(kind, 0, stream, &payload).encode(&mut wire);
        }
        server.protocol.receive(&mut wire, 0);
        assert!(server.protocol.is_over());
        assert_eq!(server.verdicts().last(), Some(&(0, ErrorCode::ENHANCE_YOUR_CALM)));
    }
}

#[test]
fn a_payload_keeps_no_buffer_that_is_much_larger() {
    for (len, is_kept) in [(4_096, false), (16_000, true)] {
        let mut server = Side::server();
        server.see(&[request(1)]);
        let mut input = BytesMut::with_capacity(32 * 1024);
        // What is before the payload is dropped, so that the payload ends with the buffer.
        raw(0x2a, 0, 0, &vec![0; input.capacity() - 2 * 9 - len]).encode(&mut input);
        Frame::data(1, vec![7; len]).encode(&mut input);
        let (whole, buffer) = (input.len(), input.as_ptr_range());
        server.protocol.receive(&mut input, whole);
        let Poll::Ready(Ok(Received::Data(data))) = server.protocol.poll_recv(server.slots[0]) else {
            panic!("no data");
        };
        assert_eq!(data.len(), len);
        assert_eq!(buffer.contains(&data.as_ptr()), is_kept, "{len}");
    }
}

#[test]
fn a_client_takes_answers_and_nothing_else() {
    let response = |stream, status: &str| Frame::headers(stream, Block::new().field(":status", status)).end_headers();
    let mut client = Side::client();
    client.see(&[
        response(1, "103"),
        response(1, "200"),
        Frame::data(1, &b"hi"[..]).end_stream(),
    ]);
    assert!(client.protocol.poll_response(client.slots[0]).is_ready());
    assert_eq!(client.received(0), Ok((b"hi".to_vec(), true)));
    client.see(&[Frame::data(3, &b"early"[..])]);
    assert_eq!(client.verdicts(), [(3, ErrorCode::PROTOCOL_ERROR)]);
    assert_eq!(client.received(1), Err(ErrorCode::PROTOCOL_ERROR));
    client.see(&[response(5, "200")]);
    assert_eq!(client.verdicts(), [(0, ErrorCode::PROTOCOL_ERROR)]);
}

proptest! {
    /// Bytes mean the same however they are cut.
    #[test]
    fn the_cut_of_the_bytes_does_not_matter(
        frames in prop::collection::vec((0_u8..11, any::<u8>(), 0_u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        cut in 1_usize..50,
    ) {
        let mut wire = BytesMut::new();
        for stream in [1, 3] {
            request(stream).encode(&mut wire);
        }
        for (kind, flags, stream, payload) in frames {
            raw(kind, flags, stream, &payload).encode(&mut wire);
        }
        let mut whole = Side::server();
        whole.hear(&wire);
        let mut parts = Side::server();
        let mut input = BytesMut::new();
        for part in wire.chunks(cut) {
            input.extend_from_slice(part);
            parts.protocol.receive(&mut input, wire.len());
        }
        parts.hear(b"");
        prop_assert_eq!(whole.verdicts(), parts.verdicts());
        prop_assert_eq!(whole.protocol.is_over(), parts.protocol.is_over());
        if !whole.protocol.is_over() {
            prop_assert_eq!(whole.received(0).ok(), parts.received(0).ok());
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut server = Side::server();
        server.hear(&bytes);
        let mut client = Side::client();
        client.hear(&Bytes::from(bytes));
    }
}
