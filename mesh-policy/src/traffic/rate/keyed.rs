use std::{
    hash::{DefaultHasher, Hasher},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::bucket::{Allowance, Limit, Limited};

/// How many buckets lie side by side: a key has one of them or none.
const WAYS: usize = 8;

/// Which part of the table the keys of one owner may use.
const PART: u64 = 16;

/// A limit for each of many keys, such as clients, in a table of fixed size.
///
/// A key is remembered only while its bucket is not full. Where more are to be remembered than there
/// is room for, a new one takes the place of the fullest bucket **with what is missing from it**, so
/// that nobody gains by being forgotten: whatever other keys do, and however many, no key ever gets
/// more than its limit. What a crowd of keys can bring about is that new ones find buckets that
/// others have drawn on. [`key_of`](Self::key_of) keeps one client's crowd to a sixteenth of the
/// table.
///
/// Nothing is allocated after [`new`](Self::new), and no lock taken. Calls that run at the same moment
/// and forget each other's key may each let one request pass.
#[derive(Debug)]
pub struct KeyedBuckets {
    limit: Limit,
    seed: u64,
    groups: Box<[Group]>,
}

/// A key of a table; worth keeping for as long as what it was made of, a connection's peer say. Of no
/// use to tables of other seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    group: u64,
    tag: u64,
}

#[derive(Debug, Default)]
struct Group([Slot; WAYS]);

#[derive(Debug, Default)]
struct Slot {
    /// Zero before the first.
    tag: AtomicU64,
    /// Never moves back, whoever's it is.
    full_at: AtomicU64,
}

impl KeyedBuckets {
    /// A table for at least so many keys at a time: 16 bytes each, at least 8 and at most 2^26 of
    /// them. The `seed` must be no peer's to know: it could make keys that share a bucket.
    pub fn new(limit: Limit, keys: usize, seed: u64) -> Self {
        let groups = keys.clamp(WAYS, 1 << 26).div_ceil(WAYS);
        Self {
            limit,
            seed,
            groups: (0..groups).map(|_| Group::default()).collect(),
        }
    }

    /// The key of whoever is told by these bytes: an identity, an address.
    pub fn key(&self, owner: &[u8]) -> Key {
        let tag = self.hash(owner, b"");
        Key { group: tag, tag }
    }

    /// The key of a value that an owner may choose as it likes: a header of its requests. All of an
    /// owner's keys are in one sixteenth of the table, so that it crowds out few besides itself.
    pub fn key_of(&self, owner: &[u8], value: &[u8]) -> Key {
        let (place, tag) = (self.hash(owner, b""), self.hash(owner, value));
        let within = ((u128::from(tag) * u128::from(u64::MAX / PART)) >> 64) as u64;
        Key {
            group: place.wrapping_add(within),
            tag,
        }
    }

    /// Takes as many tokens out of a key's bucket as a request costs.
    ///
    /// # Errors
    ///
    /// There are too few: a 429, or RESOURCE_EXHAUSTED in gRPC. None is taken.
    pub fn check(&self, key: Key, cost: u32, now: Duration) -> Result<Allowance, Limited> {
        let group = ((u128::from(key.group) * self.groups.len() as u128) >> 64) as usize;
        match self.groups.get(group) {
            Some(group) => self.limit.take(group.bucket(key.tag, self.limit, cost, now), cost, now),
            None => Err(Limited { retry_after: None }),
        }
    }

    /// The limit of each key.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    fn hash(&self, owner: &[u8], value: &[u8]) -> u64 {
        // Keyed by what comes first, which no peer knows.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_usize(owner.len());
        hasher.write(owner);
        hasher.write(value);
        hasher.finish().max(1)
    }
}

impl Group {
    /// When the bucket is full that a key has, or gets. One that could not pay is left to whom it was.
    fn bucket(&self, tag: u64, limit: Limit, cost: u32, now: Duration) -> &AtomicU64 {
        let Self(slots) = self;
        let [first, ..] = slots;
        loop {
            let mut fullest = first;
            let mut earliest = u64::MAX;
            for slot in slots {
                if slot.tag.load(Ordering::Relaxed) == tag {
                    return &slot.full_at;
                }
                let full_at = slot.full_at.load(Ordering::Relaxed);
                if full_at < earliest {
                    (fullest, earliest) = (slot, full_at);
                }
            }
            if !limit.would_take(earliest, cost, now) {
                return &fullest.full_at;
            }
            let before = fullest.tag.load(Ordering::Relaxed);
            let is_taken = fullest
                .tag
                .compare_exchange(before, tag, Ordering::Relaxed, Ordering::Relaxed);
            if is_taken.is_ok() {
                return &fullest.full_at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{super::bucket::Bucket, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn steps(keys: u8) -> impl Strategy<Value = Vec<(u8, u64)>> {
        prop::collection::vec((0..keys, 0_u64..200), 1..400)
    }

    proptest! {
        #[test]
        fn with_room_for_all_each_has_its_own_bucket(steps in steps(8), tokens in 1_u32..5) {
            let limit = Limit::new(tokens, SECOND);
            let table = KeyedBuckets::new(limit, 8, 7);
            let mut own: HashMap<u8, Bucket> = HashMap::new();
            let mut now = SECOND;
            for (key, millis) in steps {
                now += Duration::from_millis(millis);
                let expected = own.entry(key).or_insert_with(|| Bucket::new(limit)).check(1, now);
                prop_assert_eq!(table.check(table.key(&[key]), 1, now), expected);
            }
        }

        #[test]
        fn nobody_gets_more_than_its_limit_in_whatever_crowd(steps in steps(40), tokens in 1_u32..5) {
            let limit = Limit::new(tokens, SECOND);
            let table = KeyedBuckets::new(limit, 8, 7);
            let mut passed: HashMap<u8, Bucket> = HashMap::new();
            let mut now = SECOND;
            for (key, millis) in steps {
                now += Duration::from_millis(millis / 4);
                if table.check(table.key(&[key]), 1, now).is_ok() {
                    let own = passed.entry(key).or_insert_with(|| Bucket::new(limit));
                    prop_assert!(own.check(1, now).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_crowd_of_ones_own_resets_nothing() {
        let table = KeyedBuckets::new(Limit::new(10, SECOND), 64, 7);
        let (mut passed, mut crowd) = (0, 0);
        for round in 0..10_000_u32 {
            let now = SECOND + Duration::from_millis(1) * round;
            passed += u32::from(table.check(table.key(b"me"), 1, now).is_ok());
            crowd += u32::from(table.check(table.key_of(b"me", &round.to_le_bytes()), 1, now).is_ok());
        }
        assert!(passed <= 110 && crowd > 0, "{passed}");
    }

    #[test]
    fn one_owners_crowd_is_felt_by_few() {
        let table = KeyedBuckets::new(Limit::new(1, SECOND), 4_096, 7);
        let passes = |key: Key| table.check(key, 1, SECOND).is_ok();
        let crowd = (0..100_000_u32).filter(|value| passes(table.key_of(b"crowd", &value.to_le_bytes())));
        assert!((200..=4_096 / 16 + 8).contains(&crowd.count()));
        let felt = (0..1_000_u32).filter(|owner| !passes(table.key(&owner.to_le_bytes())));
        let felt = felt.count();
        assert!((20..110).contains(&felt), "{felt}");
    }

    #[test]
    fn full_buckets_need_no_place() {
        let table = KeyedBuckets::new(Limit::new(1, SECOND), 8, 7);
        for key in 0..200_u32 {
            let now = SECOND + (SECOND / 8) * key;
            assert!(table.check(table.key(&key.to_le_bytes()), 1, now).is_ok(), "{key}");
        }
    }

    #[test]
    fn keys_follow_owner_value_and_seed() {
        let (one, other) = (
            KeyedBuckets::new(Limit::new(1, SECOND), 8, 1),
            KeyedBuckets::new(Limit::new(1, SECOND), 8, 2),
        );
        assert_eq!(one.key_of(b"a", b"b"), one.key_of(b"a", b"b"));
        assert_ne!(one.key_of(b"ab", b""), one.key_of(b"a", b"b"));
        assert_ne!(one.key(b"a"), other.key(b"a"));
    }

    #[test]
    fn threads_share_buckets() {
        let table = KeyedBuckets::new(Limit::new(100, SECOND), 1_024, 7);
        let passed: usize = std::thread::scope(|scope| {
            let count = || {
                let check = |number: &u32| table.check(table.key(&(number % 50).to_le_bytes()), 1, SECOND).is_ok();
                (0..20_000_u32).filter(check).count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((5_000..=5_200).contains(&passed), "{passed}");
    }
}
