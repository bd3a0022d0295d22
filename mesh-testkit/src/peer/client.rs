use tokio::io::{AsyncRead, AsyncWrite};

use super::RawPeer;
use super::wire::Wire;
use crate::frames::{Frame, PREFACE};
use crate::hpack::Block;

/// The side that opens streams.
#[derive(Debug)]
pub struct Client {
    next_stream: u32,
}

impl<T: AsyncRead + AsyncWrite + Unpin> RawPeer<T, Client> {
    /// A client on `io` that has not said anything yet.
    #[must_use]
    pub fn new(io: T) -> Self {
        Self::on(Wire::new(io, false), Client { next_stream: 1 })
    }

    /// Sends the preface and SETTINGS, and waits for the server's SETTINGS. The acknowledgement of the client's own is
    /// not waited for.
    ///
    /// # Panics
    ///
    /// When the server's SETTINGS do not come by the deadline.
    pub async fn handshake(&mut self) {
        self.wire.queue_bytes(PREFACE);
        let settings = Frame::settings(&self.own_settings);
        self.queue(&settings);
        self.until("SETTINGS of the server", |client| client.heard_settings.then_some(()))
            .await;
        self.hand_over().await;
    }

    /// Opens a stream with an honest CONNECT request, and returns the stream.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn connect(&mut self, authority: &str) -> u32 {
        self.open(Block::connect(authority)).await
    }

    /// Opens a stream with exactly these fields, pseudo-header fields among them, in this order, and returns the stream.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn request(&mut self, fields: &[(&str, &str)]) -> u32 {
        self.open(Block::new().fields(fields.iter().copied())).await
    }

    /// Opens a stream with a header block, in as many CONTINUATION frames as it needs, and returns the stream.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn open(&mut self, block: Block) -> u32 {
        let stream = self.reserve_stream();
        self.send_block(stream, block).await;
        stream
    }

    /// Takes the next stream of a client's numbers without sending anything on it.
    pub fn reserve_stream(&mut self) -> u32 {
        let stream = self.side.next_stream;
        self.side.next_stream += 2;
        stream
    }
}
