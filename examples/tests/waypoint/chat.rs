//! What is said by WebSocket, or rather on the connection that goes on by it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::world::soon;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: till.shop.svc\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Asks for a WebSocket by HTTP/1.1, says two words that come back, and ends it.
pub async fn chat(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    io.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("answer", io.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let told = head.to_lowercase();
    assert!(
        told.starts_with("http/1.1 101") && told.contains("upgrade: websocket"),
        "{head}"
    );
    // Of the key above, as RFC 6455 §1.3 has it.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    talk(&mut io).await;
    io.shutdown().await.unwrap();
    drop(soon("end", io.read_to_end(&mut Vec::new())).await);
}

/// Two words, each of which comes back.
pub async fn talk(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    for word in ["one", "two"] {
        io.write_all(word.as_bytes()).await.unwrap();
        let mut echo = [0; 3];
        soon("echo", io.read_exact(&mut echo)).await.unwrap();
        assert_eq!(&echo, word.as_bytes());
    }
}
