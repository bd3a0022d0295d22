//! Hashes of attribute values, by which indexes find the rules about them.
//!
//! A fingerprint only ever selects rules that are then evaluated in full, so two values with the
//! same one cost time and decide nothing. What a peer can collide with is bounded by the rules that
//! an operator wrote.

use std::hash::Hasher;

const SEED: u64 = 0x51d7_348d_2b2b_9c1f;
const MULTIPLIER: u64 = 0x9e6c_63d0_76cc_4313;

/// The fingerprint of bytes as they are.
pub(crate) fn of(bytes: &[u8]) -> u64 {
    digest(bytes, |word| word)
}

/// The same for every spelling that differs in the case of ASCII letters.
pub(crate) fn of_folded(bytes: &[u8]) -> u64 {
    digest(bytes, |word| {
        u64::from_le_bytes(word.to_le_bytes().map(|byte| byte.to_ascii_lowercase()))
    })
}

/// The fingerprint of two things in order.
pub(crate) fn pair(first: u64, second: u64) -> u64 {
    mix(first.rotate_left(23) ^ SEED, second ^ MULTIPLIER)
}

/// A hasher for tables whose keys come from policies.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mixing(u64);

impl Hasher for Mixing {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = pair(self.0, of(bytes));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = pair(self.0, value);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

/// A hasher for tables whose keys are fingerprints: it passes them on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fingerprinted(u64);

impl Hasher for Fingerprinted {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = of(bytes);
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

fn digest(bytes: &[u8], fold: impl Fn(u64) -> u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let state = words.iter().fold(SEED ^ bytes.len() as u64, |state, word| {
        mix(state, fold(u64::from_le_bytes(*word)))
    });
    mix(state, fold(u64::from_le_bytes(last)))
}

fn mix(state: u64, word: u64) -> u64 {
    let wide = u128::from(state ^ word ^ SEED) * u128::from(MULTIPLIER);
    (wide as u64) ^ ((wide >> 64) as u64) ^ word.rotate_left(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_order_and_content_count() {
        let values: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"a", b"b", b"abcdefgh", b"abcdefghi", b"hgfedcba"];
        for (i, one) in values.iter().enumerate() {
            for other in &values[i + 1..] {
                assert_ne!(of(one), of(other));
            }
        }
        assert_ne!(pair(1, 2), pair(2, 1));
    }

    #[test]
    fn folding_ignores_the_case_of_ascii_letters_only() {
        assert_eq!(of_folded(b"Example.COM:8080"), of_folded(b"eXample.com:8080"));
        assert_ne!(of_folded(b"a[b"), of_folded(b"a{b"));
    }
}
