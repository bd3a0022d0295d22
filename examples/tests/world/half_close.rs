//! Applications of which one ends its side before the other.

use std::io;
use std::net::IpAddr;

use mesh_testkit::payload::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::{App, soon};

/// Bytes that an application sends before or after an end.
pub const LAST_WORDS: usize = 256 * 1024;

impl App {
    /// Receives everything up to the end, and only then sends.
    pub async fn listener_first() -> Self {
        Self::listener_first_at([127, 0, 0, 1].into()).await
    }

    /// As [`listener_first`](Self::listener_first), at another address.
    pub async fn listener_first_at(ip: IpAddr) -> Self {
        Self::start_at(ip, |mut tcp| async move {
            let mut received = Vec::new();
            tcp.read_to_end(&mut received).await.unwrap();
            tcp.write_all(&received).await.unwrap();
            tcp.write_all(&Payload::new(7).take(LAST_WORDS)).await.unwrap();
            tcp.shutdown().await.unwrap();
        })
        .await
    }

    /// Sends, ends its side, and waits for the other end.
    pub async fn talkative() -> Self {
        Self::talkative_at([127, 0, 0, 1].into()).await
    }

    /// As [`talkative`](Self::talkative), at another address.
    pub async fn talkative_at(ip: IpAddr) -> Self {
        Self::start_at(ip, |mut tcp| async move {
            tcp.write_all(&Payload::new(7).take(LAST_WORDS)).await.unwrap();
            tcp.shutdown().await.unwrap();
            // However that end comes.
            drop(tcp.read_to_end(&mut Vec::new()).await);
        })
        .await
    }

    /// Ends its side at once, and then receives everything; tells what.
    pub async fn speechless() -> (Self, mpsc::Receiver<io::Result<Vec<u8>>>) {
        Self::speechless_at([127, 0, 0, 1].into()).await
    }

    /// As [`speechless`](Self::speechless), at another address.
    pub async fn speechless_at(ip: IpAddr) -> (Self, mpsc::Receiver<io::Result<Vec<u8>>>) {
        let (tell, told) = mpsc::channel(1);
        let app = Self::start_at(ip, move |mut tcp| {
            let tell = tell.clone();
            async move {
                tcp.shutdown().await.unwrap();
                let mut received = Vec::new();
                let result = tcp.read_to_end(&mut received).await;
                tell.send(result.map(|_| received)).await.unwrap();
            }
        })
        .await;
        (app, told)
    }
}

/// Ends this side after a few bytes, and checks that what a
/// [`listener_first`](App::listener_first) then sends arrives whole.
pub async fn half_close_first(mut tcp: TcpStream) {
    tcp.write_all(b"my last words").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut received = Vec::new();
    soon("last words", tcp.read_to_end(&mut received)).await.unwrap();
    let (echo, rest) = received.split_at(13);
    assert_eq!(echo, b"my last words");
    assert_eq!(rest.len(), LAST_WORDS);
    Payload::new(7).verify(rest);
}

/// Receives all that a [`talkative`](App::talkative) application sends, and its end.
pub async fn receive_last_words(mut tcp: TcpStream) {
    let mut received = Vec::new();
    soon("last words", tcp.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), LAST_WORDS);
    Payload::new(7).verify(&received);
}

/// Waits for the end of a [`speechless`](App::speechless) application, and sends only then.
pub async fn half_close_last(mut tcp: TcpStream, mut told: mpsc::Receiver<io::Result<Vec<u8>>>) {
    assert_eq!(soon("end", tcp.read(&mut [0])).await.unwrap(), 0);
    let payload = Payload::new(7).take(LAST_WORDS);
    tcp.write_all(&payload).await.unwrap();
    tcp.shutdown().await.unwrap();
    let received = soon("last words", told.recv()).await.unwrap().unwrap();
    assert_eq!(received.len(), LAST_WORDS);
    Payload::new(7).verify(&received);
}
