//! Bytes and their ends.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use mesh_testkit::payload::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

use crate::pair::Served;
use crate::world::{App, Process, exchange, free_addr, half_close_first, half_close_last, soon};

const MB: u64 = 1_000_000;

#[tokio::test]
async fn a_pipe_ends_with_what_the_echo_sent_back() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let mut client = Process::start(&mut served.dial(echo.addr));
    client.ready().await;
    client.take_stdin().write_all(b"half-close me\n").unwrap();
    let mut stdout = client.take_stdout();
    let output = spawn_blocking(move || io::read_to_string(&mut stdout));
    assert_eq!(soon("echo", output).await.unwrap().unwrap(), "half-close me\n");
    let (code, stderr) = client.end().await;
    assert_eq!((code, stderr.len()), (Some(0), 1), "{stderr:?}");
}

#[tokio::test]
async fn the_peers_end_closes_stdout_and_leaves_stdin_open() {
    let served = Served::start().await;
    let (tell, mut told) = mpsc::channel(1);
    let app = App::start(move |mut tcp| {
        let tell = tell.clone();
        async move {
            tcp.write_all(b"nothing more from here").await.unwrap();
            tcp.shutdown().await.unwrap();
            let mut received = String::new();
            tcp.read_to_string(&mut received).await.unwrap();
            tell.send(received).await.unwrap();
        }
    })
    .await;
    let mut client = Process::start(&mut served.dial(app.addr));
    let (mut stdin, mut stdout) = (client.take_stdin(), client.take_stdout());
    let output = spawn_blocking(move || io::read_to_string(&mut stdout));
    assert_eq!(
        soon("end of stdout", output).await.unwrap().unwrap(),
        "nothing more from here"
    );
    stdin.write_all(b"but from here").unwrap();
    drop(stdin);
    assert_eq!(soon("stdin", told.recv()).await.unwrap(), "but from here");
    assert_eq!(client.end().await.0, Some(0));
}

#[tokio::test]
async fn a_reset_after_the_peers_end_fails_a_client_without_input() {
    let served = Served::start().await;
    let (reset, order) = oneshot::channel();
    let order = Arc::new(Mutex::new(Some(order)));
    let app = App::start(move |mut tcp| {
        let order = order.lock().unwrap().take().unwrap();
        async move {
            tcp.write_all(b"the last words").await.unwrap();
            tcp.shutdown().await.unwrap();
            order.await.unwrap();
            tcp.set_zero_linger().unwrap();
        }
    })
    .await;
    let mut client = Process::start(&mut served.dial(app.addr));
    let (_stdin, mut stdout) = (client.take_stdin(), client.take_stdout());
    let output = spawn_blocking(move || io::read_to_string(&mut stdout));
    assert_eq!(soon("end of stdout", output).await.unwrap().unwrap(), "the last words");
    reset.send(()).unwrap();
    let (code, stderr) = client.end().await;
    assert_eq!(code, Some(1), "{stderr:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_cross_each_way_at_once() {
    let served = Served::start().await;
    let app = App::start(|tcp| both_ways(tcp, 100 * MB)).await;
    let mut client = Process::start(&mut served.dial(app.addr));
    let (mut stdin, mut stdout) = (client.take_stdin(), client.take_stdout());
    let send = spawn_blocking(move || write_payload(&mut stdin, 1, 100 * MB));
    let receive = spawn_blocking(move || read_payload(&mut stdout, 2));
    soon("stdin", send).await.unwrap().unwrap();
    assert_eq!(soon("stdout", receive).await.unwrap(), 100 * MB);
    assert_eq!(client.end().await.0, Some(0));
}

#[tokio::test]
async fn killing_the_server_fails_the_client() {
    let (mut served, echo) = (Served::start().await, App::echo().await);
    let mut client = Process::start(&mut served.dial(echo.addr));
    let (mut stdin, mut stdout) = (client.take_stdin(), client.take_stdout());
    let send = spawn_blocking(move || write_payload(&mut stdin, 1, u64::MAX));
    let (tell, flowing) = oneshot::channel();
    let receive = spawn_blocking(move || {
        stdout.read_exact(&mut [0; 100_000])?;
        tell.send(()).unwrap();
        io::copy(&mut stdout, &mut io::sink())
    });
    soon("bytes", flowing).await.unwrap();
    served.server.kill();
    soon("end of stdout", receive).await.unwrap().unwrap();
    let (code, stderr) = client.end().await;
    assert_eq!((code, stderr.len()), (Some(1), 2), "{stderr:?}");
    assert!(stderr[1].starts_with("hbone-cat: connection lost: "), "{stderr:?}");
    assert_eq!(
        soon("stdin", send).await.unwrap().unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn killing_the_server_fails_a_client_that_only_sends() {
    let mut served = Served::start().await;
    let (app, _told) = App::speechless().await;
    let mut client = Process::start(&mut served.dial(app.addr));
    let (stdin, mut stdout) = (client.take_stdin(), client.take_stdout());
    let output = spawn_blocking(move || io::read_to_string(&mut stdout));
    assert_eq!(soon("end of stdout", output).await.unwrap().unwrap(), "");
    served.server.kill();
    let (code, stderr) = client.end().await;
    assert_eq!((code, stderr.len()), (Some(1), 2), "{stderr:?}");
    drop(stdin);
}

#[tokio::test]
async fn killing_the_client_resets_the_application() {
    let served = Served::start().await;
    let (tell, mut told) = mpsc::channel(1);
    let app = App::start(move |mut tcp| {
        let tell = tell.clone();
        async move {
            let mut received = Vec::new();
            tell.send(tcp.read_to_end(&mut received).await.map_err(|error| error.kind()))
                .await
                .unwrap();
        }
    })
    .await;
    let mut client = Process::start(&mut served.dial(app.addr));
    client.ready().await;
    client.take_stdin().write_all(b"to be continued").unwrap();
    served.server.says("ready").await;
    client.kill();
    let end = soon("end of the application's connection", told.recv()).await.unwrap();
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_reset_application_fails_the_client() {
    let served = Served::start().await;
    let app = App::start(|tcp| async move {
        tcp.peek(&mut [0]).await.unwrap();
        tcp.set_zero_linger().unwrap();
    })
    .await;
    let mut client = Process::start(&mut served.dial(app.addr));
    client.ready().await;
    let mut stdin = client.take_stdin();
    stdin.write_all(b"unread").unwrap();
    let (code, stderr) = client.end().await;
    assert_eq!(code, Some(1));
    assert_eq!(
        stderr[1],
        "hbone-cat: peer reset the tunnel with CONNECT_ERROR: aborted by the connection behind it"
    );
}

#[tokio::test]
async fn a_closed_stdout_aborts_the_tunnel() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let mut client = Process::start(&mut served.dial(echo.addr));
    client.ready().await;
    let mut stdin = client.take_stdin();
    drop(client.take_stdout());
    stdin.write_all(b"nobody reads this").unwrap();
    let (code, stderr) = client.end().await;
    assert_eq!(
        (code, stderr[1].as_str()),
        (Some(1), "hbone-cat: stdout: Broken pipe (os error 32)")
    );
    served.server.says("ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_share_one_connection_to_the_server() {
    let served = Served::start_with(|server| {
        server.env("RUST_LOG", "debug");
    })
    .await;
    let echo = App::echo().await;
    let client = served.listen(echo.addr).await;
    let mut connections = JoinSet::new();
    for seed in 0..50 {
        let tcp = client.connect().await;
        connections.spawn(exchange(tcp, seed, 100_000));
    }
    soon("fifty exchanges", connections.join_all()).await;
    let opened = served
        .server
        .stderr()
        .iter()
        .filter(|line| line.contains("ConnectionOpened"))
        .count();
    assert_eq!(opened, 1);
}

#[tokio::test]
async fn either_application_may_end_first() {
    let served = Served::start().await;
    let app = App::listener_first().await;
    half_close_first(served.listen(app.addr).await.connect().await).await;
    let (app, told) = App::speechless().await;
    half_close_last(served.listen(app.addr).await.connect().await, told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_an_address() {
    let served = Served::start_with(|server| {
        server.args(["--threads", "3"]);
    })
    .await;
    let echo = App::echo().await;
    let client = served
        .listen_with(echo.addr, |client| {
            client.args(["--threads", "2"]);
        })
        .await;
    let mut connections = JoinSet::new();
    for seed in 0..40 {
        connections.spawn(exchange(client.connect().await, seed, 100_000));
    }
    soon("forty exchanges", connections.join_all()).await;
}

#[tokio::test]
async fn a_server_may_forward_everything_to_one_address() {
    let echo = App::echo().await;
    let served = Served::start_with(|server| {
        server.args(["--forward", &echo.addr.to_string()]);
    })
    .await;
    let client = served.listen("192.0.2.1:80".parse().unwrap()).await;
    client.exchange(1000).await;
}

#[tokio::test]
async fn a_closed_port_is_a_refusal() {
    let served = Served::start().await;
    let mut client = Process::start(&mut served.dial(free_addr()));
    let (code, stderr) = client.end().await;
    assert_eq!(
        (code, stderr),
        (
            Some(1),
            vec!["hbone-cat: peer refused the tunnel with status 503: destination unavailable".to_owned()]
        )
    );
    let line = served.server.says("tunnel refused").await;
    assert!(
        line.contains("status=503") && line.contains("Connection refused"),
        "{line}"
    );
}

/// Sends one payload and checks another at the same time, to the end of both.
async fn both_ways(tcp: TcpStream, len: u64) {
    let (mut read, mut write) = tcp.into_split();
    let send = async {
        let mut payload = Payload::new(2);
        while payload.offset() < len {
            let left = usize::try_from(len - payload.offset()).unwrap();
            write.write_all(&payload.take(left.min(256 * 1024))).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let receive = async {
        let mut payload = Payload::new(1);
        let mut buf = vec![0; 256 * 1024];
        loop {
            match read.read(&mut buf).await.unwrap() {
                0 => return assert_eq!(payload.offset(), len),
                n => payload.verify(&buf[..n]),
            }
        }
    };
    tokio::join!(send, receive);
}

fn write_payload(to: &mut impl Write, seed: u64, len: u64) -> io::Result<()> {
    let mut payload = Payload::new(seed);
    while payload.offset() < len {
        let left = usize::try_from(len - payload.offset()).unwrap();
        to.write_all(&payload.take(left.min(256 * 1024)))?;
    }
    Ok(())
}

fn read_payload(from: &mut impl Read, seed: u64) -> u64 {
    let mut payload = Payload::new(seed);
    let mut buf = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buf).unwrap() {
            0 => return payload.offset(),
            n => payload.verify(&buf[..n]),
        }
    }
}
