use std::time::Duration;

/// How much of its part an endpoint gets that has just become healthy: Envoy's slow start, Istio's
/// `warmup`.
///
/// For [`LeastRequest`](super::Algorithm::LeastRequest) and
/// [`RoundRobin`](super::Algorithm::RoundRobin), as in Istio; others do not look at how long an endpoint has
/// been there. Whoever builds sets gives all endpoints the [`weight`](Self::weight) of their age,
/// and builds a new set from time to time while one is [warming](Self::is_warming).
#[derive(Clone, Debug, PartialEq)]
pub struct Warmup {
    duration: Duration,
    minimum: u32,
    aggression: f64,
}

impl Warmup {
    /// What a weight of one is here: what an endpoint begins with is a part of it.
    pub const UNIT: u32 = 100;

    /// From a tenth to all in this time, evenly.
    pub fn new(duration: Duration) -> Self {
        Self {
            duration,
            minimum: 10,
            aggression: 1.0,
        }
    }

    /// What an endpoint begins with, in percent, up to 100. Default 10 (`minimumPercent`).
    #[must_use]
    pub fn minimum(mut self, percent: u32) -> Self {
        self.minimum = percent.min(100);
        self
    }

    /// How fast it grows: 1, the default, is evenly, and more is faster at first (`aggression`). At
    /// least 1.
    #[must_use]
    pub fn aggression(mut self, aggression: f64) -> Self {
        self.aggression = if aggression.is_finite() {
            aggression.max(1.0)
        } else {
            1.0
        };
        self
    }

    /// Whether an endpoint that has been healthy for so long gets less than its part.
    pub fn is_warming(&self, age: Duration) -> bool {
        age < self.duration
    }

    /// The [weight](super::Endpoint::weight) of an endpoint that has been healthy for so long, beside
    /// others whose weights come from here.
    pub fn weight(&self, weight: u32, age: Duration) -> u32 {
        let full = weight.max(1).saturating_mul(Self::UNIT);
        if !self.is_warming(age) {
            return full;
        }
        let passed = age.as_secs_f64() / self.duration.as_secs_f64();
        let part = passed
            .powf(self.aggression.recip())
            .max(f64::from(self.minimum) / 100.0);
        ((f64::from(full) * part) as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_grows_into_its_weight() {
        let warmup = Warmup::new(Duration::from_secs(100));
        for (seconds, weight) in [
            (0, 20),
            (5, 20),
            (10, 20),
            (50, 100),
            (75, 150),
            (100, 200),
            (1_000, 200),
        ] {
            assert_eq!(warmup.weight(2, Duration::from_secs(seconds)), weight, "{seconds}");
        }
        let eager = warmup.clone().aggression(2.0).minimum(0);
        assert_eq!(eager.weight(1, Duration::from_secs(25)), 50);
        assert_eq!(eager.weight(1, Duration::ZERO), 1);
        assert_eq!(Warmup::new(Duration::ZERO).weight(3, Duration::ZERO), 300);
        assert!(warmup.is_warming(Duration::from_secs(99)) && !warmup.is_warming(Duration::from_secs(100)));
    }
}
