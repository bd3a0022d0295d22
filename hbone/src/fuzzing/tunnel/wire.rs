//! A transport in memory, and the frames on it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line;
use crate::flood::{Scanner, kind};

/// What one side reads, and what it wrote.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    inbound: VecDeque<u8>,
    outbound: Vec<u8>,
    /// Bytes that may be written.
    room: usize,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy)]
enum End {
    Closed,
    Failed,
}

impl Wire {
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut ends = self.lock();
        if ends.end.is_none() {
            ends.inbound.extend(bytes);
        }
        wake(ends.reader.take());
    }

    pub(super) fn frame(&self, frame: &Frame) {
        self.send(&frame.0);
    }

    pub(super) fn allow(&self, bytes: usize) {
        let mut ends = self.lock();
        ends.room = ends.room.saturating_add(bytes);
        wake(ends.writer.take());
    }

    pub(super) fn close(&self) {
        self.finish(End::Closed);
    }

    pub(super) fn fail(&self) {
        self.finish(End::Failed);
    }

    fn finish(&self, end: End) {
        let mut ends = self.lock();
        ends.end.get_or_insert(end);
        wake(ends.reader.take());
        wake(ends.writer.take());
    }

    /// What was written is frames, and no DATA is empty that ends nothing.
    pub(super) fn check_sent(&self) {
        let ends = self.lock();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let frames = ends.outbound.strip_prefix(preface).unwrap_or(&ends.outbound);
        let Ok(()) = Scanner::default().scan(frames, |head| {
            let is_end = head.flags & 1 != 0;
            assert!(head.kind != kind::DATA || head.len > 0 || is_end, "empty DATA");
            assert!(head.kind <= kind::CONTINUATION, "unknown frame type {}", head.kind);
            Ok::<(), Infallible>(())
        });
    }

    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.lock();
        if ends.inbound.is_empty() {
            return match ends.end {
                Some(End::Closed) => Poll::Ready(Ok(())),
                Some(End::Failed) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => {
                    ends.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        }
        let n = ends.inbound.len().min(buf.remaining());
        let bytes: Vec<u8> = ends.inbound.drain(..n).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.lock();
        if ends.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if ends.room == 0 {
            ends.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = buf.get(..ends.room).unwrap_or(buf);
        ends.room -= bytes.len();
        ends.outbound.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A frame, encoded.
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
        let mut bytes = len.get(1..).unwrap_or_default().to_vec();
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        Self(bytes)
    }

    pub(super) fn settings() -> Self {
        Self::raw(kind::SETTINGS, 0, 0, &[])
    }

    /// CONNECT to the authority that names a line.
    pub(super) fn request(stream: u32, line: usize, ends: bool) -> Self {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "CONNECT".to_owned()),
            (
                ":authority",
                line::authority(line).map(|to| to.to_string()).unwrap_or_default(),
            ),
        ] {
            block.push(0);
            for text in [name.as_bytes(), value.as_bytes()] {
                block.push(u8::try_from(text.len()).unwrap_or(0));
                block.extend_from_slice(text);
            }
        }
        Self::raw(kind::HEADERS, 4 | u8::from(ends), stream, &block)
    }

    /// 200 or, for a refusal, 404; both are in HPACK's static table.
    pub(super) fn response(stream: u32, refuses: bool, ends: bool) -> Self {
        let status = if refuses { 0x8d } else { 0x88 };
        Self::raw(kind::HEADERS, 4 | u8::from(ends), stream, &[status])
    }

    pub(super) fn data(stream: u32, payload: &[u8], ends: bool) -> Self {
        Self::raw(kind::DATA, u8::from(ends), stream, payload)
    }

    pub(super) fn reset(stream: u32, code: u8) -> Self {
        Self::raw(kind::RST_STREAM, 0, stream, &u32::from(code % 16).to_be_bytes())
    }

    pub(super) fn window_update(stream: u32, increment: u8) -> Self {
        let increment = u32::from(increment).pow(4) & 0x7fff_ffff;
        Self::raw(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
    }
}
