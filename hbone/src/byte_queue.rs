//! Bytes that wait, in chunks: small ones are kept together.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Chunks below this length are copied together rather than queued one by one, so that a queue of
/// tiny chunks costs no more than its bytes.
const COALESCE: usize = 4 * 1024;

/// Length from which copied chunks begin a new buffer rather than double the one they are in.
const TAIL: usize = 32 * 1024;

/// A queue of bytes, which whoever fills it bounds.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    chunks: VecDeque<Bytes>,
    /// Small chunks, behind all of `chunks`.
    tail: BytesMut,
    len: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a chunk; copies it if it is small and others are waiting.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        if chunk.len() < COALESCE && self.len > 0 {
            return self.copy(&chunk);
        }
        self.len += chunk.len();
        self.seal();
        self.chunks.push_back(chunk);
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if self.tail.len() >= TAIL && self.tail.capacity() - self.tail.len() < bytes.len() {
            self.seal();
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Takes at most `max` bytes from the front, as one chunk and without copying.
    pub(crate) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let front = self.chunks.front_mut()?;
        let chunk = if front.len() <= max {
            self.chunks.pop_front()?
        } else {
            front.split_to(max)
        };
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Moves everything to the end of `chunks`; answers how many bytes that was.
    pub(crate) fn drain_into(&mut self, chunks: &mut VecDeque<Bytes>) -> usize {
        self.seal();
        if chunks.is_empty() {
            mem::swap(chunks, &mut self.chunks);
        } else {
            chunks.append(&mut self.chunks);
        }
        mem::take(&mut self.len)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(mem::take(&mut self.tail).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_queue_gives_back_what_was_put_in(
            puts in prop::collection::vec((any::<bool>(), 0_usize..9_000), 0..24),
            take in 1_usize..10_000,
        ) {
            let mut queue = ByteQueue::default();
            let mut put = Vec::new();
            for (copy, len) in puts {
                let bytes: Vec<u8> = (0..len).map(|n| (n + put.len()) as u8).collect();
                put.extend_from_slice(&bytes);
                if copy { queue.copy(&bytes) } else { queue.push(bytes.into()) }
                prop_assert_eq!(queue.len(), put.len());
            }
            let mut got = Vec::new();
            while let Some(chunk) = queue.pop(take) {
                prop_assert!(chunk.len() <= take && !chunk.is_empty());
                got.extend_from_slice(&chunk);
            }
            prop_assert_eq!(got, put);
            prop_assert!(queue.is_empty());
        }
    }

    #[test]
    fn tiny_chunks_are_stored_together() {
        let mut queue = ByteQueue::default();
        for _ in 0..100_000 {
            queue.push(Bytes::from_static(b"x"));
        }
        let mut chunks = VecDeque::new();
        assert_eq!(queue.drain_into(&mut chunks), 100_000);
        assert!(chunks.len() <= 2 + 100_000 / TAIL, "{} chunks", chunks.len());
    }
}
