//! Reads ahead under TLS: one large `recv` where the TLS layer would ask for each record.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First and idle size of the buffer.
const SMALL: usize = 4 * 1024;

/// Size of the buffer while a connection carries bulk data.
const LARGE: usize = 128 * 1024;

/// Reads after which a buffer that was not needed shrinks.
const PATIENCE: u8 = 32;

/// A byte stream whose reads are served from one buffer; writes pass through.
///
/// The buffer grows when a read fills it and shrinks after many reads that bring little.
#[derive(Debug)]
pub(crate) struct ReadAhead<Io> {
    io: Io,
    buf: Vec<u8>,
    /// Bytes of `buf` that are valid, and those of them that were read.
    filled: usize,
    read: usize,
    size: usize,
    small_reads: u8,
}

impl<Io> ReadAhead<Io> {
    pub(crate) fn new(io: Io) -> Self {
        Self {
            io,
            buf: Vec::new(),
            filled: 0,
            read: 0,
            size: SMALL,
            small_reads: 0,
        }
    }

    /// Chooses the size of the next read from how much the last one brought.
    fn adapt(&mut self, brought: usize) {
        if brought == self.buf.len() {
            self.size = LARGE;
            self.small_reads = 0;
        } else if brought < SMALL {
            self.small_reads += 1;
            if self.small_reads >= PATIENCE {
                self.size = SMALL;
                self.small_reads = 0;
            }
        }
    }
}

impl<Io: AsyncRead + Unpin> ReadAhead<Io> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buf.len() != self.size {
            self.buf = vec![0; self.size];
        }
        let mut buf = ReadBuf::new(&mut self.buf);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut buf);
        self.read = 0;
        self.filled = buf.filled().len();
        ready!(polled)?;
        self.adapt(self.filled);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for ReadAhead<Io> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read == this.filled {
            ready!(this.poll_fill(cx))?;
        }
        let unread = this.buf.get(this.read..this.filled).unwrap_or_default();
        let n = unread.len().min(buf.remaining());
        buf.put_slice(unread.get(..n).unwrap_or_default());
        this.read += n;
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for ReadAhead<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn gives_every_byte_in_order_and_then_the_end() {
        let (mut near, far) = tokio::io::duplex(300 * 1024);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let writer = async move {
            near.write_all(&copy).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut reader = ReadAhead::new(far);
        let mut got = Vec::new();
        let (read, ()) = tokio::join!(reader.read_to_end(&mut got), writer);
        assert_eq!(read.unwrap(), sent.len());
        assert!(got == sent);
        assert_eq!(reader.size, LARGE, "bulk reads earn a large buffer");
    }

    #[tokio::test]
    async fn a_stream_of_small_messages_gives_the_large_buffer_back() {
        let (mut near, far) = tokio::io::duplex(SMALL);
        let mut reader = ReadAhead::new(far);
        let mut got = vec![0; SMALL];
        near.write_all(&got.clone()).await.unwrap();
        reader.read_exact(&mut got).await.unwrap();
        assert_eq!(reader.size, LARGE);
        for _ in 0..=PATIENCE {
            near.write_all(b"hello").await.unwrap();
            reader.read_exact(&mut got[..5]).await.unwrap();
        }
        assert_eq!(reader.buf.len(), SMALL);
    }
}
