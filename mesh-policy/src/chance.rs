//! Draws, made of the one number that a caller brings: SplitMix64, by Steele, Lea and Flood.

/// The step between two states.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of numbers from a first one. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(random: u64) -> Self {
        Self(random)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    #[cfg(feature = "traffic")]
    /// A number below `end`, or zero if there is none. Off from uniform by less than `end` in 2^32.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        ((u64::from(end) * (self.next() >> 32)) >> 32) as u32
    }

    #[cfg(feature = "traffic")]
    /// A share of one, below it.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A number from which nothing of the first is to be seen, the same each time.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(all(test, feature = "traffic"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_below_their_end_and_reach_all_of_it() {
        let mut draws = Draws::new(1);
        let mut seen = [0; 5];
        for _ in 0..5_000 {
            seen[draws.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|times| (850..1_150).contains(times)), "{seen:?}");
        assert_eq!(draws.below(0), 0);
        assert!((0..1_000).all(|_| (0.0..1.0).contains(&draws.share())));
    }
}
