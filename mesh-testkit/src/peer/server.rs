use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::Wire;
use super::{Message, RawPeer};
use crate::frames::{Frame, Kind};
use crate::hpack::Block;

/// The side that is asked.
#[derive(Debug)]
pub struct Server {
    last_accepted: u32,
}

impl<T: AsyncRead + AsyncWrite + Unpin> RawPeer<T, Server> {
    /// A server on `io` that has not said anything yet.
    #[must_use]
    pub fn new(io: T) -> Self {
        Self::on(Wire::new(io, true), Server { last_accepted: 0 })
    }

    /// Sends SETTINGS, and waits for the preface and the client's SETTINGS. The acknowledgement of the server's own is
    /// not waited for.
    ///
    /// # Panics
    ///
    /// When the client sends something else than the preface, or not by the deadline.
    pub async fn handshake(&mut self) {
        let settings = Frame::settings(&self.own_settings);
        self.queue(&settings);
        self.until("SETTINGS of the client", |server| server.heard_settings.then_some(()))
            .await;
        self.hand_over().await;
    }

    /// The next request on a new stream, in the order of arrival.
    ///
    /// # Panics
    ///
    /// When none comes by the deadline.
    pub async fn accept(&mut self) -> Message {
        let last = self.side.last_accepted;
        let mut stream = 0;
        self.until("request", |server| {
            let opening = |frame: &Frame| frame.kind == Kind::HEADERS && frame.stream > last;
            stream = server
                .inbox
                .iter()
                .map(|received| &received.frame)
                .find(|frame| opening(frame))?
                .stream;
            Some(())
        })
        .await;
        self.side.last_accepted = stream;
        self.expect_headers(stream).await
    }

    /// Answers a request with a status; the stream stays open.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn respond(&mut self, stream: u32, status: u16) {
        self.respond_with(stream, Block::new().field(":status", status.to_string()))
            .await;
    }

    /// Answers a request with a header block; the stream stays open.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn respond_with(&mut self, stream: u32, block: Block) {
        self.send_block(stream, block).await;
    }
}
