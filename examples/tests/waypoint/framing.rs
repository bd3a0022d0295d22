//! Where a message ends: what is sent on says it once, and who said it twice is not listened to again.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::shop::Shop;
use crate::world::{App, soon};

const SECOND: &str = "GET /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Notes what it reads, and answers each request, whose end it takes for that of a chunked body.
async fn note(mut tcp: TcpStream, seen: Arc<Mutex<String>>) {
    let mut buf = [0; 4096];
    while let Ok(read @ 1..) = tcp.read(&mut buf).await {
        let is_whole = {
            let mut seen = seen.lock().unwrap();
            seen.push_str(std::str::from_utf8(&buf[..read]).unwrap());
            seen.ends_with("\r\n\r\n") && (seen.ends_with("\r\n0\r\n\r\n") || seen.contains("GET /second"))
        };
        if is_whole {
            tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await
                .unwrap();
        }
    }
}

/// What is answered to a request in chunks, with these lines in its head, and one after it; and what
/// reaches the endpoint.
async fn exchange(lines: &str) -> (String, String) {
    let seen = Arc::<Mutex<String>>::default();
    let noted = Arc::clone(&seen);
    let cluster = Cluster::start_before(async |ip| Shop {
        app: App::start_at(ip, move |tcp| note(tcp, Arc::clone(&noted))).await,
        asked: Arc::new(AtomicUsize::new(0)),
    })
    .await;
    let caller = cluster.call("cart").await;
    let mut tunnel = caller.open().await.unwrap();
    let request = format!("POST /first HTTP/1.1\r\nhost: a\r\n{lines}\r\n3\r\nabc\r\n0\r\n\r\n{SECOND}");
    tunnel.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The client's own side stays open: it is for the waypoint to end.
    soon("the end", tunnel.read_to_string(&mut answer)).await.unwrap();
    let seen = seen.lock().unwrap().to_ascii_lowercase();
    (answer.to_ascii_lowercase(), seen)
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_sent_on_and_ends_the_connection() {
    for lines in [
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "Content-Length: 13\r\nTransfer-Encoding: chunked\r\nContent-Length: 13\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
    ] {
        let (answer, seen) = exchange(lines).await;
        assert_eq!(answer.matches("http/1.1 200").count(), 1, "{lines:?}: {answer}");
        assert!(answer.contains("connection: close"), "{lines:?}: {answer}");
        assert_eq!(
            seen.matches("transfer-encoding: chunked").count(),
            1,
            "{lines:?}: {seen}"
        );
        assert!(
            !seen.contains("content-length") && !seen.contains("/second"),
            "{lines:?}: {seen}"
        );
        assert!(seen.contains("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{lines:?}: {seen}");
    }
}

#[tokio::test]
async fn chunks_alone_are_no_reason_to_end_a_connection() {
    let (answer, seen) = exchange("transfer-encoding: chunked\r\n").await;
    assert_eq!(answer.matches("http/1.1 200").count(), 2, "{answer}");
    assert!(seen.contains("get /second"), "{seen}");
}
