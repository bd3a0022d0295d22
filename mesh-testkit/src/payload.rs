//! Endless byte streams known in advance, to prove that gigabytes arrived unchanged without holding them.
//!
//! The sender fills buffers from one [`Payload`], the receiver verifies what arrives against another of the same seed:
//! a byte that is lost, doubled, changed or out of order is found at its offset.

use bytes::Bytes;

use crate::random;

const WORD: usize = 8;

/// A position in the pseudo-random byte stream of a seed.
#[derive(Clone, Debug)]
pub struct Payload {
    seed: u64,
    offset: u64,
}

impl Payload {
    /// The stream of `seed`, from its first byte. Different seeds give unrelated streams.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, offset: 0 }
    }

    /// The same stream from `offset` on.
    #[must_use]
    pub fn starting_at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Overwrites `buf` with the next bytes of the stream.
    pub fn fill(&mut self, buf: &mut [u8]) {
        let mut rest = buf;
        while !rest.is_empty() {
            let (word, skip) = self.word();
            let n = rest.len().min(WORD - skip);
            let (head, tail) = rest.split_at_mut(n);
            head.copy_from_slice(&word[skip..skip + n]);
            self.offset += n as u64;
            rest = tail;
        }
    }

    /// The next `len` bytes of the stream.
    #[must_use]
    pub fn take(&mut self, len: usize) -> Bytes {
        let mut buf = vec![0; len];
        self.fill(&mut buf);
        buf.into()
    }

    /// Checks that `buf` holds the next bytes of the stream, and moves on behind them.
    ///
    /// # Panics
    ///
    /// At the first byte that differs, naming its offset in the stream.
    #[track_caller]
    pub fn verify(&mut self, buf: &[u8]) {
        let mut rest = buf;
        while !rest.is_empty() {
            let (word, skip) = self.word();
            let n = rest.len().min(WORD - skip);
            let expected = &word[skip..skip + n];
            if let Some(i) = (0..n).find(|&i| rest[i] != expected[i]) {
                panic!(
                    "payload of seed {} differs at offset {}: expected {:#04x}, got {:#04x}",
                    self.seed,
                    self.offset + i as u64,
                    expected[i],
                    rest[i],
                );
            }
            self.offset += n as u64;
            rest = &rest[n..];
        }
    }

    /// How many bytes of the stream lie before this position.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn word(&self) -> ([u8; WORD], usize) {
        let index = self.offset / WORD as u64;
        let skip = usize::try_from(self.offset % WORD as u64).unwrap();
        (random::at(self.seed, index).to_le_bytes(), skip)
    }
}

/// A running checksum (FNV-1a, 64 bits) that depends on every byte and on their order, but not on how they were cut.
///
/// For streams whose content the receiver does not know, such as what an echo sends back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum {
    state: u64,
    len: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            state: 0xcbf2_9ce4_8422_2325,
            len: 0,
        }
    }
}

impl Checksum {
    /// Takes the next bytes of the stream in.
    pub fn update(&mut self, buf: &[u8]) {
        for &byte in buf {
            self.state = (self.state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.len += buf.len() as u64;
    }

    /// The checksum of all bytes so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.state
    }

    /// The number of bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cutting_does_not_change_the_stream(seed: u64, cuts in proptest::collection::vec(0usize..40, 0..20)) {
            let total = cuts.iter().sum();
            let whole = Payload::new(seed).take(total);
            let mut cut = Payload::new(seed);
            let pieces: Vec<u8> = cuts.iter().flat_map(|&n| cut.take(n)).collect();
            prop_assert_eq!(&whole[..], &pieces[..]);

            let mut receiver = Payload::new(seed);
            let mut rest = &whole[..];
            for &n in &cuts {
                receiver.verify(&rest[..n]);
                rest = &rest[n..];
            }
            prop_assert_eq!(receiver.offset(), total as u64);
        }

        #[test]
        fn starting_at_an_offset_skips_exactly_that(seed: u64, skip in 0usize..50) {
            let whole = Payload::new(seed).take(100);
            let tail = Payload::new(seed).starting_at(skip as u64).take(100 - skip);
            prop_assert_eq!(&whole[skip..], &tail[..]);
        }
    }

    #[test]
    #[should_panic(expected = "payload of seed 3 differs at offset 1001")]
    fn names_the_offset_of_the_first_difference() {
        let mut sent = Payload::new(3).take(2000).to_vec();
        sent[1001] ^= 1;
        sent[1500] ^= 1;
        let mut received = Payload::new(3);
        received.verify(&sent[..997]);
        received.verify(&sent[997..]);
    }

    #[test]
    #[should_panic(expected = "differs at offset")]
    fn finds_a_lost_byte() {
        let sent = Payload::new(4).take(100);
        let mut received = Payload::new(4);
        received.verify(&sent[..50]);
        received.verify(&sent[51..]);
    }

    #[test]
    fn checksum_follows_content_and_order_not_cuts() {
        let mut whole = Checksum::default();
        whole.update(b"hello world");
        let mut cut = Checksum::default();
        cut.update(b"hello");
        cut.update(b" world");
        assert_eq!(whole, cut);
        assert_eq!(whole.value(), 0x779a_65e7_023c_d2e7);
        assert_eq!(whole.bytes(), 11);

        let mut swapped = Checksum::default();
        swapped.update(b"world hello");
        assert_ne!(whole, swapped);
    }
}
