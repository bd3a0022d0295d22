//! How the program ends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::Cluster;
use crate::world::soon;

#[tokio::test]
async fn requests_under_way_end_before_the_program() {
    let mut cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let (mut busy, mut idle) = (caller.open().await.unwrap(), caller.open().await.unwrap());
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(soon("answer", read(&mut idle)).await.starts_with("HTTP/1.1 200"));
    busy.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        .await
        .unwrap();
    // Until the waypoint has the beginning of it.
    crate::world::eventually("a request", async || (cluster.one.asked() == 2).then_some(())).await;
    cluster.waypoint.terminate();
    // Whoever waits for a request is told that there will be no more.
    assert_eq!(soon("end", read(&mut idle)).await, "");
    busy.write_all(b"cd").await.unwrap();
    let answer = soon("answer", read(&mut busy)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop((busy, idle, caller));
    let (code, stderr) = cluster.waypoint.end().await;
    assert_eq!(code, Some(0), "{stderr:?}");
}

async fn read(tunnel: &mut hbone::TunnelStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = tunnel.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}
