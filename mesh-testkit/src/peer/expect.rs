//! What a script expects.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{End, Message, RawPeer, Received};
use crate::frames::{Frame, Kind, Reason};

impl<T: AsyncRead + AsyncWrite + Unpin, S> RawPeer<T, S> {
    /// The next frame of all, in the order of arrival.
    ///
    /// # Panics
    ///
    /// When none comes by the deadline, or the connection ends.
    pub async fn recv(&mut self) -> Received {
        self.expect_frame("frame", |_| true).await
    }

    /// The first frame that fits; those before it stay queued. `what` describes it in the panic message.
    ///
    /// # Panics
    ///
    /// When none comes by the deadline, or the connection ends.
    pub async fn expect_frame(&mut self, what: &str, mut fits: impl FnMut(&Frame) -> bool) -> Received {
        let mut looked_at = 0;
        self.until(what, |peer| {
            let found = peer
                .inbox
                .iter()
                .skip(looked_at)
                .position(|received| fits(&received.frame));
            let position = found.map(|position| looked_at + position);
            looked_at = peer.inbox.len();
            position.and_then(|position| peer.inbox.remove(position))
        })
        .await
    }

    /// A whole header block on the stream.
    ///
    /// # Panics
    ///
    /// When another frame of the stream comes first, and as [`recv`](Self::recv).
    pub async fn expect_headers(&mut self, stream: u32) -> Message {
        let first = self.expect_on(stream, Kind::HEADERS).await;
        let end_stream = first.frame.is_end_stream();
        let mut fields = first.fields;
        loop {
            match fields {
                Some(fields) => {
                    return Message {
                        stream,
                        fields,
                        end_stream,
                    };
                }
                None => fields = self.expect_on(stream, Kind::CONTINUATION).await.fields,
            }
        }
    }

    /// One DATA frame on the stream; its data is [`Frame::body`].
    ///
    /// # Panics
    ///
    /// When another frame of the stream comes first, and as [`recv`](Self::recv).
    pub async fn expect_data(&mut self, stream: u32) -> Frame {
        self.expect_on(stream, Kind::DATA).await.frame
    }

    /// The data on the stream up to its orderly end.
    ///
    /// # Panics
    ///
    /// When anything but DATA comes before the end, and as [`recv`](Self::recv).
    pub async fn read_to_end(&mut self, stream: u32) -> Bytes {
        let mut read = Vec::new();
        loop {
            let frame = self.expect_data(stream).await;
            read.extend_from_slice(&frame.body());
            if frame.is_end_stream() {
                return read.into();
            }
        }
    }

    /// RST_STREAM on the stream, for this reason.
    ///
    /// # Panics
    ///
    /// When another frame of the stream comes first, the reason is another, and as [`recv`](Self::recv).
    pub async fn expect_rst(&mut self, stream: u32, reason: Reason) {
        let frame = self.expect_on(stream, Kind::RST_STREAM).await.frame;
        assert!(
            frame.reason() == reason,
            "expected {reason:?}, got {frame:?}; had seen{}",
            self.history
        );
    }

    /// The next GOAWAY, for this reason.
    ///
    /// # Panics
    ///
    /// When the reason is another, and as [`recv`](Self::recv).
    pub async fn expect_goaway(&mut self, reason: Reason) -> Frame {
        let frame = self
            .expect_frame("GOAWAY", |frame| frame.kind == Kind::GOAWAY)
            .await
            .frame;
        assert!(
            frame.reason() == reason,
            "expected {reason:?}, got {frame:?}; had seen{}",
            self.history
        );
        frame
    }

    /// The orderly end of the connection, with nothing left unread but WINDOW_UPDATE.
    ///
    /// # Panics
    ///
    /// When there are unread frames or half a frame, the connection ends otherwise, or not by the deadline.
    pub async fn expect_eof(&mut self) {
        let end = self.closed().await;
        assert!(
            end == End::Eof,
            "expected an orderly end, got {end:?}; had seen{}",
            self.history
        );
        let unread: Vec<_> = self
            .inbox
            .iter()
            .map(|unread| &unread.frame)
            .filter(|frame| frame.kind != Kind::WINDOW_UPDATE)
            .collect();
        assert!(unread.is_empty(), "unread frames before the end: {unread:?}");
        assert!(
            !self.wire.has_part_of_a_frame(),
            "the connection ended within a frame; had seen{}",
            self.history
        );
    }

    /// Waits for the end of the connection, however it comes, and whatever comes before it.
    ///
    /// # Panics
    ///
    /// When the connection does not end by the deadline.
    pub async fn closed(&mut self) -> End {
        let mut deadline = Box::pin(tokio::time::sleep(self.deadline));
        poll_fn(|cx| {
            self.drive(cx);
            if let Some(end) = self.wire.end() {
                return Poll::Ready(end);
            }
            let overdue = deadline.as_mut().poll(cx).is_ready();
            assert!(
                !overdue,
                "the connection did not end within {:?}; had seen{}",
                self.deadline, self.history
            );
            Poll::Pending
        })
        .await
    }

    /// Reads for this long, in tokio's time, in which no frame that the script sees may come and the connection may
    /// not end. Frames queued before do not count.
    ///
    /// # Panics
    ///
    /// When a frame comes, or the connection ends.
    pub async fn expect_quiet(&mut self, time: Duration) {
        let queued = self.inbox.len();
        let mut quiet = Box::pin(tokio::time::sleep(time));
        poll_fn(|cx| {
            self.drive(cx);
            assert!(
                self.inbox.len() == queued,
                "a frame came within {time:?}; had seen{}",
                self.history
            );
            assert!(
                self.wire.end().is_none(),
                "the connection ended within {time:?}; had seen{}",
                self.history
            );
            quiet.as_mut().poll(cx)
        })
        .await;
    }

    async fn expect_on(&mut self, stream: u32, kind: Kind) -> Received {
        let what = format!("{kind:?} on stream {stream}");
        let received = self
            .expect_frame(&what, |frame| {
                frame.stream == stream && !matches!(frame.kind, Kind::WINDOW_UPDATE | Kind::PRIORITY)
            })
            .await;
        assert!(
            received.frame.kind == kind,
            "expected {what}, got {:?}; had seen{}",
            received.frame,
            self.history
        );
        received
    }

    /// Moves bytes until `ready` answers.
    pub(super) async fn until<R>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<R>) -> R {
        let mut deadline = Box::pin(tokio::time::sleep(self.deadline));
        poll_fn(|cx| {
            self.drive(cx);
            if let Some(answer) = ready(self) {
                return Poll::Ready(answer);
            }
            if let Some(end) = self.wire.end() {
                panic!("the connection ended ({end:?}) before {what}; had seen{}", self.history);
            }
            let overdue = deadline.as_mut().poll(cx).is_ready();
            assert!(
                !overdue,
                "no {what} within {:?}; had seen{}",
                self.deadline, self.history
            );
            Poll::Pending
        })
        .await
    }
}
