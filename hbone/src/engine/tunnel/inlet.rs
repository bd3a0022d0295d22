//! The buffer that a connection's bytes arrive in.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// First and idle size of a read.
const SMALL: usize = 4 * 1024;

/// Size of a read while the connection carries bulk data: two TLS records.
const LARGE: usize = 32 * 1024;

/// Small reads after which the buffer shrinks.
const PATIENCE: u8 = 32;

/// Bytes that have arrived and that nobody has taken yet. What is taken may keep the buffer that it
/// is in, which is then left to it.
#[derive(Debug)]
pub(super) struct Inlet {
    bytes: BytesMut,
    /// Length of the buffer that `bytes` is the rest of.
    whole: usize,
    size: usize,
    small_reads: u8,
}

impl Inlet {
    pub(super) fn new() -> Self {
        Self {
            bytes: BytesMut::new(),
            whole: 0,
            size: SMALL,
            small_reads: 0,
        }
    }

    /// What has arrived.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Length of the buffer that they are in.
    pub(super) fn whole(&self) -> usize {
        self.whole
    }

    /// Reads once, with room for `wanted` bytes in all; answers how many bytes came.
    pub(super) fn poll_fill<Io: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Io,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let spare = self.bytes.capacity() - self.bytes.len();
        let missing = wanted.saturating_sub(self.bytes.len());
        if spare < missing.max(self.size / 2) {
            // `reserve` may keep what is in front of the bytes, which `capacity` does not count.
            let mut next = BytesMut::with_capacity(self.bytes.len() + missing.max(self.size));
            next.extend_from_slice(&self.bytes);
            self.whole = next.capacity();
            self.bytes = next;
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        let n = ready!(pin!(io.read_buf(&mut self.bytes)).poll(cx))?;
        self.adapt(n, spare);
        Poll::Ready(Ok(n))
    }

    /// Chooses the size of the next buffer from how much of this one was used.
    fn adapt(&mut self, n: usize, spare: usize) {
        if n == spare {
            self.size = LARGE;
            self.small_reads = 0;
        } else if n < SMALL && self.size > SMALL {
            self.small_reads += 1;
            if self.small_reads >= PATIENCE {
                self.size = SMALL;
                self.small_reads = 0;
            }
        }
    }

    /// All that was there has been taken: a buffer larger than the next read needs goes.
    pub(super) fn idle(&mut self) {
        if self.bytes.is_empty() && self.whole > 2 * self.size {
            self.bytes = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn fill(inlet: &mut Inlet, io: &mut (impl AsyncRead + Unpin), wanted: usize) -> usize {
        poll_fn(|cx| inlet.poll_fill(cx, io, wanted)).await.unwrap()
    }

    #[tokio::test]
    async fn the_buffer_grows_with_bulk_data_and_shrinks_without() {
        let (mut near, mut far) = tokio::io::duplex(256 * 1024);
        let mut inlet = Inlet::new();
        near.write_all(&[7; 200 * 1024]).await.unwrap();
        let mut got = 0;
        while got < 200 * 1024 {
            got += fill(&mut inlet, &mut far, 0).await;
            let taken = inlet.bytes().split();
            assert!(taken.iter().all(|byte| *byte == 7));
        }
        assert_eq!(inlet.size, LARGE);
        for _ in 0..PATIENCE {
            near.write_all(b"hello").await.unwrap();
            assert_eq!(fill(&mut inlet, &mut far, 0).await, 5);
            assert_eq!(inlet.bytes().split(), "hello");
            inlet.idle();
        }
        assert!(inlet.bytes().capacity() <= 2 * SMALL, "{}", inlet.bytes().capacity());
    }

    #[tokio::test]
    async fn there_is_room_for_what_is_wanted() {
        let (mut near, mut far) = tokio::io::duplex(256 * 1024);
        let mut inlet = Inlet::new();
        near.write_all(&[7; 100_000]).await.unwrap();
        while inlet.bytes().len() < 100_000 {
            fill(&mut inlet, &mut far, 100_000).await;
        }
        assert!(inlet.bytes().capacity() < 300_000);
    }
}
