//! Who fails more often than it should, of endpoints with their requests of one interval.

use super::{
    detection::{FailurePercentage, SuccessRate},
    host::Tally,
};

/// Those whose success rate is an outlier.
pub(super) fn below_the_others(rule: SuccessRate, tallies: &[Tally]) -> Vec<bool> {
    let volume = |tally: &&Tally| tally.requests >= rule.request_volume;
    let rates: Vec<f64> = tallies.iter().filter(volume).map(success_percent).collect();
    if rates.is_empty() || rates.len() < rule.minimum_hosts {
        return vec![false; tallies.len()];
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    let least = mean - rule.deviations * variance.sqrt();
    let is_outlier = |tally: &Tally| volume(&tally) && success_percent(tally) < least;
    tallies.iter().map(is_outlier).collect()
}

/// Those that fail more often than is allowed.
pub(super) fn above_threshold(rule: FailurePercentage, tallies: &[Tally]) -> Vec<bool> {
    let has_volume = |tally: &Tally| tally.requests >= rule.request_volume;
    if tallies.iter().filter(|tally| has_volume(tally)).count() < rule.minimum_hosts {
        return vec![false; tallies.len()];
    }
    let fails = |tally: &Tally| has_volume(tally) && 100.0 - success_percent(tally) >= f64::from(rule.threshold);
    tallies.iter().map(fails).collect()
}

fn success_percent(tally: &Tally) -> f64 {
    100.0 * f64::from(tally.successes) / f64::from(tally.requests.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(of_hundred: &[u32]) -> Vec<Tally> {
        let tally = |successes: &u32| Tally {
            requests: 100,
            successes: *successes,
        };
        of_hundred.iter().map(tally).collect()
    }

    #[test]
    fn the_threshold_is_that_of_the_documented_example() {
        // Mean 90, standard deviation 20: 52 is the least.
        let rule = SuccessRate::new();
        assert_eq!(
            below_the_others(rule, &tallies(&[50, 100, 100, 100, 100])),
            [true, false, false, false, false]
        );
        assert!(!below_the_others(rule.deviations(2.0), &tallies(&[50, 100, 100, 100, 100])).contains(&true));
        assert!(!below_the_others(rule, &tallies(&[0, 100, 100, 100])).contains(&true));
        assert!(!below_the_others(rule.request_volume(101), &tallies(&[50, 100, 100, 100, 100])).contains(&true));
        assert!(below_the_others(rule.minimum_hosts(0), &[]).is_empty());
    }

    #[test]
    fn a_percentage_of_failures_needs_hosts_and_requests() {
        let rule = FailurePercentage::new();
        assert_eq!(
            above_threshold(rule, &tallies(&[15, 16, 0, 100, 100])),
            [true, false, true, false, false]
        );
        assert!(!above_threshold(rule, &tallies(&[0, 0, 0, 0])).contains(&true));
        assert!(!above_threshold(rule.request_volume(101), &tallies(&[0; 5])).contains(&true));
    }
}
