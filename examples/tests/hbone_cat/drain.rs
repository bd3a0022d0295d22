//! SIGTERM.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pair::Served;
use crate::world::{App, Process, eventually, soon};

#[tokio::test]
async fn a_server_ends_with_its_last_tunnel() {
    let (mut served, echo) = (Served::start().await, App::echo().await);
    let client = served.listen(echo.addr).await;
    let mut tunnel = begin(client.connect().await).await;
    served.server.terminate();
    eventually("closed listener", async || TcpStream::connect(served.addr).await.err()).await;
    finish(&mut tunnel).await;
    assert_eq!(served.server.end().await.0, Some(0));
}

#[tokio::test]
async fn a_client_ends_with_its_last_tunnel() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let mut client = served.listen(echo.addr).await;
    let mut tunnel = begin(client.connect().await).await;
    client.process.terminate();
    eventually("closed listener", async || TcpStream::connect(client.addr).await.err()).await;
    finish(&mut tunnel).await;
    assert_eq!(client.process.end().await.0, Some(0));
}

#[tokio::test]
async fn tunnels_that_outlive_the_drain_are_reset() {
    let (mut served, echo) = (Served::start().await, App::echo().await);
    let client = served.listen(echo.addr).await;
    let mut tunnel = begin(client.connect().await).await;
    served.server.terminate();
    let error = soon("reset", tunnel.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(served.server.end().await.0, Some(0));
}

/// Only a write can tell an application that has read the end.
#[tokio::test]
async fn half_closed_tunnels_that_outlive_the_drain_end_too() {
    let served = Served::start().await;
    let app = App::start(|mut tcp| async move {
        tcp.shutdown().await.unwrap();
        drop(tcp.read_u8().await);
    })
    .await;
    let mut client = served.listen(app.addr).await;
    let mut tunnel = client.connect().await;
    assert_eq!(soon("end", tunnel.read(&mut [0])).await.unwrap(), 0);
    client.process.terminate();
    assert_eq!(client.process.end().await.0, Some(0));
    eventually("failed write", async || tunnel.write_all(b"too late").await.err()).await;
}

#[tokio::test]
async fn idle_programs_end_at_once() {
    let (mut served, echo) = (Served::start().await, App::echo().await);
    let mut client = served.listen(echo.addr).await;
    client.exchange(1000).await;
    for process in [&mut client.process, &mut served.server] {
        process.terminate();
        let ended = tokio::time::timeout(Duration::from_secs(2), process.end());
        assert_eq!(ended.await.unwrap().0, Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_ends_a_program_at_once() {
    let (mut served, echo) = (Served::start().await, App::echo().await);
    let client = served.listen(echo.addr).await;
    let _tunnel = begin(client.connect().await).await;
    served.server.terminate();
    eventually("closed listener", async || TcpStream::connect(served.addr).await.err()).await;
    served.server.terminate();
    let (code, stderr) = tokio::time::timeout(Duration::from_secs(2), served.server.end())
        .await
        .unwrap();
    assert_eq!(code, Some(1));
    let last = stderr.last().unwrap();
    assert_eq!(last, "hbone-cat: stopped before everything had ended");
}

#[tokio::test]
async fn a_piped_tunnel_is_not_cut_short_with_success() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let mut client = Process::start(&mut served.dial(echo.addr));
    client.ready().await;
    let stdin = client.take_stdin();
    client.terminate();
    let (code, stderr) = client.end().await;
    assert_eq!(code, Some(1), "{stderr:?}");
    drop(stdin);
}

/// Sends something through and gets it back, so that the tunnel is open.
async fn begin(mut tcp: TcpStream) -> TcpStream {
    tcp.write_all(b"a").await.unwrap();
    assert_eq!(soon("echo", tcp.read_u8()).await.unwrap(), b'a');
    tcp
}

/// Sends something more, and the end.
async fn finish(tcp: &mut TcpStream) {
    tcp.write_all(b"bc").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut rest = String::new();
    soon("rest of the echo", tcp.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "bc");
}
