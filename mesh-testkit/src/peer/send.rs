//! What a script says.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::RawPeer;
use crate::frames::{Frame, Kind, Reason};
use crate::hpack::Block;

/// A flood hands its frames to the transport in portions of about this size.
const FLOOD_PORTION: usize = 16 * 1024;

impl<T: AsyncRead + AsyncWrite + Unpin, S> RawPeer<T, S> {
    /// Sends a frame, whatever it is, without regard to flow control. Reads meanwhile, so that two peers that write
    /// a lot do not wait for each other.
    ///
    /// # Panics
    ///
    /// When the other side takes no more, or not by the deadline.
    pub async fn send(&mut self, frame: Frame) {
        self.queue(&frame);
        self.hand_over().await;
    }

    /// Sends a frame as [`send`](Self::send) does, to a side that may have gone.
    ///
    /// # Errors
    ///
    /// When the transport takes no more.
    ///
    /// # Panics
    ///
    /// When the other side does not take it by the deadline.
    pub async fn try_send(&mut self, frame: Frame) -> io::Result<()> {
        self.queue(&frame);
        self.flush().await
    }

    /// Sends bytes that need not be frames.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.queue_bytes(bytes);
        self.hand_over().await;
    }

    /// Sends up to `count` frames, made by their number from 0, as fast as the other side takes them. Returns how many
    /// were handed over before it sent GOAWAY or closed.
    ///
    /// # Panics
    ///
    /// When the other side stops taking bytes and does not close by the deadline.
    pub async fn flood(&mut self, count: usize, mut frame: impl FnMut(usize) -> Frame) -> usize {
        for sent in 0..count {
            if self.went_away || self.wire.end().is_some() || self.wire.write_error().is_some() {
                return sent;
            }
            self.queue(&frame(sent));
            if self.wire.queued_bytes() >= FLOOD_PORTION && self.flush().await.is_err() {
                return sent;
            }
        }
        match self.flush().await {
            // A side that closes while it takes the last portion has been handed all of it.
            Ok(()) | Err(_) => count,
        }
    }

    /// Sends one DATA frame with these bytes, without regard to flow control.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_data(&mut self, stream: u32, data: impl Into<Bytes>) {
        self.send(Frame::data(stream, data)).await;
    }

    /// Sends bytes in as many DATA frames as the other side's frame size and flow control ask for.
    ///
    /// # Panics
    ///
    /// When credit does not come by the deadline, and as [`send`](Self::send).
    pub async fn send_all(&mut self, stream: u32, data: impl Into<Bytes>) {
        let mut rest = data.into();
        while !rest.is_empty() {
            self.until("credit to send", |peer| {
                (peer.credit.available(stream) > 0).then_some(())
            })
            .await;
            let n = rest
                .len()
                .min(self.credit.available(stream))
                .min(self.peer_max_frame_size());
            self.send_data(stream, rest.split_to(n)).await;
        }
    }

    /// Ends a stream: an empty DATA frame with END_STREAM.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn end(&mut self, stream: u32) {
        self.send(Frame::data(stream, Bytes::new()).end_stream()).await;
    }

    /// Resets a stream.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn reset(&mut self, stream: u32, reason: Reason) {
        self.send(Frame::rst_stream(stream, reason)).await;
    }

    /// Sends a PING and waits for its answer: what was sent before has then been seen.
    ///
    /// # Panics
    ///
    /// When the answer does not come by the deadline.
    pub async fn ping(&mut self) {
        self.pings += 1;
        let opaque = self.pings.to_be_bytes();
        self.send(Frame::ping(opaque)).await;
        self.expect_frame("answer to a PING", |frame| {
            frame.kind == Kind::PING && frame.is_ack() && frame.opaque() == opaque
        })
        .await;
    }

    /// Shuts the transport's writing side down; reading goes on.
    ///
    /// # Panics
    ///
    /// When the transport does not allow it.
    pub async fn shut_down(&mut self) {
        let io = self.wire.io_mut();
        if let Err(error) = poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await {
            panic!("the transport does not shut down: {error}");
        }
    }

    pub(super) async fn send_block(&mut self, stream: u32, block: Block) {
        for frame in Frame::header_block(stream, block, self.peer_max_frame_size()) {
            self.queue(&frame);
        }
        self.hand_over().await;
    }

    pub(super) async fn hand_over(&mut self) {
        if let Err(error) = self.flush().await {
            panic!("the other side takes no more: {error}; had seen{}", self.history);
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut deadline = Box::pin(tokio::time::sleep(self.deadline));
        poll_fn(|cx| {
            self.drive(cx);
            if let Some(error) = self.wire.write_error() {
                return Poll::Ready(Err(error.into()));
            }
            if self.wire.is_written_out() {
                return Poll::Ready(Ok(()));
            }
            let overdue = deadline.as_mut().poll(cx).is_ready();
            assert!(
                !overdue,
                "the other side neither took bytes nor closed within {:?}; had seen{}",
                self.deadline, self.history,
            );
            Poll::Pending
        })
        .await
    }
}
