use std::sync::atomic::{AtomicU64, Ordering};

use crate::chance::mix;

/// How many turns a round may have before weights are rounded.
const LONGEST: u64 = 1 << 14;

/// Members in turn, the heavier ones more often and spread over the round.
#[derive(Debug)]
pub(super) struct Turns {
    /// Whose turn it is; `None` if all weigh the same, so that a turn's number is its member's.
    round: Option<Box<[u32]>>,
    members: u64,
    /// Counts all turns that were taken.
    next: AtomicU64,
}

impl Turns {
    /// A round that begins anywhere: sets that follow one another quickly would otherwise favour
    /// the first.
    pub(super) fn by(weights: &[u32], generation: u64) -> Self {
        Self {
            round: round(weights),
            members: weights.len() as u64,
            next: AtomicU64::new(mix(generation) >> 32),
        }
    }

    pub(super) fn take(&self) -> u32 {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        match &self.round {
            None => turn.checked_rem(self.members).unwrap_or(0) as u32,
            Some(round) => {
                let at = turn.checked_rem(round.len() as u64).unwrap_or(0) as usize;
                round.get(at).copied().unwrap_or(0)
            }
        }
    }
}

fn round(weights: &[u32]) -> Option<Box<[u32]>> {
    let first = weights.first()?;
    if weights.iter().all(|weight| weight == first) {
        return None;
    }
    let divisor = weights
        .iter()
        .fold(0, |divisor, weight| common_divisor(divisor, *weight))
        .max(1);
    let all: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    let turns = |weight: u32| {
        let own = u64::from(weight / divisor);
        if all <= LONGEST {
            own
        } else {
            (own * LONGEST / all).max(1)
        }
    };
    // The k-th of n turns is due at (k + 1/2) / n of the round.
    let mut due: Vec<(u64, u32)> = weights
        .iter()
        .zip(0..)
        .flat_map(|(weight, member)| {
            let turns = turns(*weight);
            (0..turns).map(move |turn| (((2 * turn + 1) << 40) / (2 * turns), member))
        })
        .collect();
    due.sort_unstable();
    Some(due.into_iter().map(|(_, member)| member).collect())
}

fn common_divisor(mut one: u32, mut other: u32) -> u32 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_are_exact_in_a_round_and_even_within_it(weights in prop::collection::vec(1_u32..40, 1..10)) {
            let turns = Turns::by(&weights, 0);
            turns.next.store(0, Ordering::Relaxed);
            let all: u32 = weights.iter().sum();
            let mut taken = vec![0_u32; weights.len()];
            for turn in 1..=all * 3 {
                taken[turns.take() as usize] += 1;
                for (taken, weight) in taken.iter().zip(&weights) {
                    let share = f64::from(*weight) / f64::from(all);
                    let off = (f64::from(*taken) - f64::from(turn) * share).abs();
                    prop_assert!(off <= 1.0 + share * weights.len() as f64);
                }
            }
            if weights.iter().any(|weight| *weight != weights[0]) {
                prop_assert_eq!(taken, weights.iter().map(|weight| weight * 3).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn heavy_members_take_turns_with_light_ones() {
        assert_eq!(round(&[5, 1, 1]).unwrap().as_ref(), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(round(&[2, 4]).unwrap().as_ref(), [1, 0, 1]);
        assert!(round(&[7, 7]).is_none());
    }

    #[test]
    fn large_weights_are_rounded_and_nobody_is_left_out() {
        let round = round(&[u32::MAX, 1, u32::MAX / 2]).unwrap();
        assert!(round.len() <= LONGEST as usize + 3);
        assert_eq!(round.iter().filter(|member| **member == 1).count(), 1);
    }
}
