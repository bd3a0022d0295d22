use crate::chance::Draws;

/// Draws one of several by weight in constant time: Vose's alias method.
#[derive(Debug)]
pub(super) struct Lots {
    /// For each member the part of its own draws that stay its own, in 2^32nds, and who gets the
    /// others.
    columns: Box<[(u32, u32)]>,
}

impl Lots {
    /// `None` if all weigh the same, so that there is nothing to do.
    pub(super) fn by(weights: &[u32]) -> Option<Self> {
        let first = *weights.first()?;
        if weights.iter().all(|weight| *weight == first) {
            return None;
        }
        let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let fair = all / weights.len() as f64;
        let mut parts: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / fair).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..parts.len()).partition(|member| parts.get(*member).is_some_and(|part| *part < 1.0));

        let mut columns: Box<[(u32, u32)]> = (0..weights.len()).map(|member| (u32::MAX, member as u32)).collect();
        while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
            let part = parts.get(low).copied().unwrap_or(1.0);
            if let Some(column) = columns.get_mut(low) {
                *column = ((part * f64::from(u32::MAX)) as u32, high as u32);
            }
            let rest = parts.get_mut(high).map_or(1.0, |rest| {
                *rest -= 1.0 - part;
                *rest
            });
            if rest < 1.0 { small.push(high) } else { large.push(high) }
        }
        Some(Self { columns })
    }

    pub(super) fn draw(&self, draws: &mut Draws) -> u32 {
        let member = draws.below(self.columns.len() as u32);
        match self.columns.get(member as usize) {
            Some((own, other)) if (draws.next() >> 32) as u32 > *own => *other,
            _ => member,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn draws_follow_the_weights(weights in prop::collection::vec(1_u32..50, 2..12), seed in any::<u64>()) {
            let Some(lots) = Lots::by(&weights) else { return Ok(()) };
            const TIMES: u32 = 40_000;
            let mut draws = Draws::new(seed);
            let mut drawn = vec![0_u32; weights.len()];
            for _ in 0..TIMES {
                drawn[lots.draw(&mut draws) as usize] += 1;
            }
            let all: u32 = weights.iter().sum();
            for (weight, drawn) in weights.iter().zip(drawn) {
                let share = f64::from(*weight) / f64::from(all);
                let deviation = (f64::from(TIMES) * share * (1.0 - share)).sqrt();
                prop_assert!((f64::from(drawn) - f64::from(TIMES) * share).abs() < 6.0 * deviation);
            }
        }
    }

    #[test]
    fn equal_weights_need_no_lots() {
        assert!(Lots::by(&[3, 3, 3]).is_none() && Lots::by(&[]).is_none());
    }
}
