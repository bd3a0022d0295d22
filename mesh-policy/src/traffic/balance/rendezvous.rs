//! Weighted rendezvous hashing, with its answers in a table.
//!
//! Each member is a Poisson process whose events fall on slots, at a rate by its weight, and a slot
//! belongs to whoever hits it first. That is what scoring every member for every slot comes to,
//! with work that does not grow with the number of members. A member's events depend on its key
//! alone, so that nobody else's slots move when it comes or goes, and its weight only stretches their
//! times.

use crate::chance::Draws;

/// A member as the table sees it: the fingerprint of its key, and its weight.
pub(super) type Contender = (u64, u32);

/// Whose each slot is, by position among the contenders, of which there may be 65,535.
pub(super) fn table(slots: u32, contenders: &[Contender]) -> Box<[u16]> {
    let slots = slots.clamp(1 << 10, 1 << 16).next_power_of_two();
    let weights: f64 = contenders.iter().map(|(_, weight)| f64::from(*weight)).sum();
    if contenders.len() < 2 || weights <= 0.0 {
        return vec![0; slots as usize].into();
    }
    // A slot is left over with probability e^-(ln slots + 5): in one table of 150 there is one.
    let mut horizon = f64::from(slots) / weights * (f64::from(slots).ln() + 5.0);
    loop {
        if let Some(owners) = owners(slots, contenders, horizon) {
            return owners;
        }
        horizon *= 2.0;
    }
}

/// Whose each slot is by the events up to a moment, if each is somebody's by then.
fn owners(slots: u32, contenders: &[Contender], horizon: f64) -> Option<Box<[u16]>> {
    let mut earliest = vec![f64::INFINITY; slots as usize];
    let mut owners = vec![0; slots as usize];
    for ((key, weight), number) in contenders.iter().zip(0_u16..) {
        let mut draws = Draws::new(*key);
        let mut time = 0.0;
        loop {
            let (gap, slot) = event(&mut draws, slots);
            time += gap / f64::from(*weight);
            if time > horizon {
                break;
            }
            if let (Some(before), Some(owner)) = (earliest.get_mut(slot), owners.get_mut(slot))
                && time < *before
            {
                (*before, *owner) = (time, number);
            }
        }
    }
    earliest.iter().all(|time| time.is_finite()).then(|| owners.into())
}

/// How long after the one before it an event of weight 1 is, and on which slot it falls.
fn event(draws: &mut Draws, slots: u32) -> (f64, usize) {
    let drawn = draws.next();
    // From above zero, which has no logarithm, up to one; slots are 16 bits at most.
    let share = ((drawn >> 16) + 1) as f64 / (1_u64 << 48) as f64;
    (-share.ln(), (drawn as u32 & (slots - 1)) as usize)
}

/// The slot of a hash.
pub(super) fn slot(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: whoever's first event on a slot is the earliest, without a horizon.
    fn naive(slots: u32, contenders: &[Contender]) -> Vec<u16> {
        let mut first = vec![vec![f64::INFINITY; slots as usize]; contenders.len()];
        for (times, (key, weight)) in first.iter_mut().zip(contenders) {
            let (mut draws, mut time) = (Draws::new(*key), 0.0);
            while times.contains(&f64::INFINITY) {
                let (gap, slot) = event(&mut draws, slots);
                time += gap / f64::from(*weight);
                times[slot] = times[slot].min(time);
            }
        }
        (0..slots as usize)
            .map(|slot| {
                let earliest = (0..contenders.len()).min_by(|a, b| first[*a][slot].total_cmp(&first[*b][slot]));
                earliest.unwrap() as u16
            })
            .collect()
    }

    fn contenders(most: usize) -> impl Strategy<Value = Vec<Contender>> {
        prop::collection::btree_map(any::<u64>(), 1_u32..20, 2..most).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn equals_its_definition(contenders in contenders(6)) {
            prop_assert_eq!(table(1024, &contenders).to_vec(), naive(1024, &contenders));
        }

        #[test]
        fn only_slots_of_who_leaves_move(contenders in contenders(30), leaver in any::<prop::sample::Index>()) {
            let leaver = leaver.index(contenders.len());
            let mut rest = contenders.clone();
            rest.remove(leaver);
            let (before, after) = (table(4096, &contenders), table(4096, &rest));
            for (before, after) in before.iter().zip(&after) {
                let before = usize::from(*before);
                if before != leaver {
                    prop_assert_eq!(contenders[before], rest[usize::from(*after)]);
                }
            }
        }

        #[test]
        fn a_heavier_member_only_wins(contenders in contenders(10), more in 1_u32..20) {
            let mut heavier = contenders.clone();
            heavier[0].1 += more;
            for (before, after) in table(4096, &contenders).iter().zip(&table(4096, &heavier)) {
                prop_assert!(before == after || *after == 0);
            }
        }

        #[test]
        fn slots_follow_weights(contenders in contenders(8)) {
            let table = table(1 << 16, &contenders);
            let all: u32 = contenders.iter().map(|(_, weight)| weight).sum();
            for ((_, weight), number) in contenders.iter().zip(0..) {
                let share = f64::from(*weight) / f64::from(all);
                let owned = table.iter().filter(|owner| **owner == number).count() as f64;
                let deviation = (65_536.0 * share * (1.0 - share)).sqrt();
                prop_assert!((owned - 65_536.0 * share).abs() < 6.0 * deviation);
            }
        }
    }
}
