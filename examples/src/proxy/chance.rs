//! Numbers that nobody can foretell.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Yields them.
pub(crate) struct Chance {
    state: RandomState,
    drawn: AtomicU64,
}

impl Chance {
    pub(crate) fn new() -> Self {
        Self {
            state: RandomState::new(),
            drawn: AtomicU64::new(0),
        }
    }

    pub(crate) fn draw(&self) -> u64 {
        self.state.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}
