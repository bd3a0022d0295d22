//! The one source of repeatable randomness: SplitMix64, a counter run through a mixing function.

/// The step between two states: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A repeatable sequence of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Sequence {
    state: u64,
}

impl Sequence {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number in `1..=max`.
    pub(crate) fn up_to(&mut self, max: usize) -> usize {
        let max = u64::try_from(max).unwrap();
        usize::try_from(self.next() % max + 1).unwrap()
    }
}

/// The number at `index` of the sequence of `seed`, without walking there.
pub(crate) fn at(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(STEP.wrapping_mul(index.wrapping_add(1))))
}

fn mix(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_and_jumping_meet() {
        let mut walked = Sequence::new(7);
        for index in 0..100 {
            assert_eq!(walked.next(), at(7, index));
        }
    }

    #[test]
    fn first_number_of_seed_zero_is_the_published_one() {
        assert_eq!(Sequence::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn bounded_numbers_reach_both_bounds() {
        let mut sequence = Sequence::new(1);
        let drawn: Vec<_> = (0..200).map(|_| sequence.up_to(3)).collect();
        assert!((1..=3).all(|n| drawn.contains(&n)));
        assert!(drawn.iter().all(|n| (1..=3).contains(n)));
    }
}
