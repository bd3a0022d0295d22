use super::{
    follower::{Follower, Publisher, Source},
    snapshot::Snapshot,
};

/// A source that never changes: what was read once, or made for a test.
///
/// Nothing renews its SVIDs. When they have expired, nothing is presented any more.
#[derive(Debug)]
pub struct FixedSource {
    publisher: Publisher,
}

impl FixedSource {
    /// A source of this snapshot and no other.
    pub fn new(snapshot: Snapshot) -> Self {
        let publisher = Publisher::new();
        publisher.publish(snapshot);
        Self { publisher }
    }
}

impl Source for FixedSource {
    fn follow(&self) -> Follower {
        self.publisher.follow()
    }
}
