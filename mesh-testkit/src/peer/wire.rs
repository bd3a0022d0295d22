//! The transport under a scripted peer: bytes out, frames in, as far as they move without waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::{Frame, PREFACE};

const READ_SIZE: usize = 16 * 1024;

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The other side closed in an orderly way.
    Eof,
    /// Reading failed.
    Error(io::ErrorKind),
}

pub(super) struct Wire<T> {
    io: T,
    outbound: BytesMut,
    inbound: BytesMut,
    scratch: Box<[u8]>,
    needs_flush: bool,
    write_error: Option<io::ErrorKind>,
    end: Option<End>,
    awaits_preface: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// On a server's side the preface comes before the first frame.
    pub(super) fn new(io: T, awaits_preface: bool) -> Self {
        Self {
            io,
            outbound: BytesMut::new(),
            inbound: BytesMut::new(),
            scratch: vec![0; READ_SIZE].into(),
            needs_flush: false,
            write_error: None,
            end: None,
            awaits_preface,
        }
    }

    pub(super) fn queue(&mut self, frame: &Frame) {
        frame.encode(&mut self.outbound);
    }

    pub(super) fn queue_bytes(&mut self, bytes: &[u8]) {
        self.outbound.extend_from_slice(bytes);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.outbound.len()
    }

    /// Writes and flushes what is queued, as far as the other side takes it.
    pub(super) fn write_out(&mut self, cx: &mut Context<'_>) {
        while !self.is_written_out() {
            let step = if self.outbound.is_empty() {
                Pin::new(&mut self.io)
                    .poll_flush(cx)
                    .map_ok(|()| self.needs_flush = false)
            } else {
                let written = Pin::new(&mut self.io).poll_write(cx, &self.outbound);
                written.map_ok(|n| {
                    self.outbound.advance(n);
                    self.needs_flush = true;
                })
            };
            match step {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => self.write_error = Some(error.kind()),
            }
        }
    }

    /// Whether nothing waits to be written, or nothing ever will be.
    pub(super) fn is_written_out(&self) -> bool {
        self.write_error.is_some() || (self.outbound.is_empty() && !self.needs_flush)
    }

    /// Reads once. Pending at the end of the connection too: see `end`.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Pending;
        }
        let mut buf = ReadBuf::new(&mut self.scratch);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if buf.filled().is_empty() => self.end = Some(End::Eof),
            Poll::Ready(Ok(())) => self.inbound.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => self.end = Some(End::Error(error.kind())),
        }
        Poll::Ready(())
    }

    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        if self.awaits_preface {
            let preface = self.inbound.get(..PREFACE.len())?;
            assert!(
                preface == PREFACE,
                "expected the preface, got `{}`",
                preface.escape_ascii()
            );
            self.inbound.advance(PREFACE.len());
            self.awaits_preface = false;
        }
        Frame::decode(&mut self.inbound)
    }

    /// Whether bytes came in that are no whole frame.
    pub(super) fn has_part_of_a_frame(&self) -> bool {
        !self.inbound.is_empty()
    }

    pub(super) fn write_error(&self) -> Option<io::ErrorKind> {
        self.write_error
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    pub(super) fn io_mut(&mut self) -> &mut T {
        &mut self.io
    }

    pub(super) fn into_io(self) -> T {
        self.io
    }
}
