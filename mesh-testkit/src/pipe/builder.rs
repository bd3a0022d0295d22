use std::time::Duration;

use super::lane::{Chunks, Lane, Terms};
use super::{Pipe, connect};
use crate::random::Sequence;

const DEFAULT_CAPACITY: usize = 64 * 1024;

/// Sets up a pair of pipe ends. Every setting holds for both directions.
#[derive(Clone, Debug)]
pub struct Builder {
    terms: Terms,
    chunking: Chunking,
}

#[derive(Clone, Copy, Debug)]
enum Chunking {
    Whole,
    AtMost(usize),
    Seeded { seed: u64, max: usize },
}

impl Builder {
    /// A faithful pipe: see [`pair`](super::pair).
    #[must_use]
    #[expect(clippy::new_without_default, reason = "`pair()` is the default")]
    pub fn new() -> Self {
        let terms = Terms {
            capacity: DEFAULT_CAPACITY,
            latency: Duration::ZERO,
            rate: None,
            record: None,
        };
        Self {
            terms,
            chunking: Chunking::Whole,
        }
    }

    /// How many bytes may be in flight, that is written and not read yet. Default 64 KiB; 1 makes every write short.
    ///
    /// # Panics
    ///
    /// At 0, with which no byte could pass.
    #[must_use]
    pub fn capacity(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a pipe needs a capacity");
        self.terms.capacity = bytes;
        self
    }

    /// Lets a read return at most this many bytes, however large its buffer. Default: all there are.
    ///
    /// # Panics
    ///
    /// At 0, which would be an end of file.
    #[must_use]
    pub fn chunk(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a chunk has bytes");
        self.chunking = Chunking::AtMost(bytes);
        self
    }

    /// Lets each read return at most a number of bytes drawn from `1..=max`, repeatably for a seed.
    ///
    /// # Panics
    ///
    /// When `max` is 0.
    #[must_use]
    pub fn seeded_chunks(mut self, seed: u64, max: usize) -> Self {
        assert!(max > 0, "a chunk has bytes");
        self.chunking = Chunking::Seeded { seed, max };
        self
    }

    /// The time that bytes travel. Default 0. See [`PipeControl::latency`](super::PipeControl::latency).
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.terms.latency = latency;
        self
    }

    /// The rate at which bytes leave, per second. Default unlimited. See [`PipeControl::rate`](super::PipeControl::rate).
    ///
    /// # Panics
    ///
    /// At 0.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "a rate of 0 is a stall");
        self.terms.rate = Some(bytes_per_second);
        self
    }

    /// Keeps what is written, up to this many bytes in each direction, for
    /// [`PipeControl::recording`](super::PipeControl::recording). Default: nothing is kept.
    #[must_use]
    pub fn record(mut self, max_bytes: usize) -> Self {
        self.terms.record = Some(max_bytes);
        self
    }

    /// The two ends: left and right.
    #[must_use]
    pub fn build(self) -> (Pipe, Pipe) {
        // The two directions draw from unrelated sequences of the one seed.
        connect(self.lane(0), self.lane(1))
    }

    fn lane(&self, number: u64) -> Lane {
        let chunks = match self.chunking {
            Chunking::Whole => Chunks::AtMost(usize::MAX),
            Chunking::AtMost(bytes) => Chunks::AtMost(bytes),
            Chunking::Seeded { seed, max } => Chunks::Drawn {
                sequence: Sequence::new(crate::random::at(seed, number)),
                max,
            },
        };
        Lane::new(self.terms.clone(), chunks)
    }
}
