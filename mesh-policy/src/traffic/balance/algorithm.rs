use std::time::Duration;

/// How an endpoint of a level is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Of two endpoints drawn by weight the one with less to expect: its response time, times the
    /// requests under way and this one, by its weight. Linkerd's default, and the default here.
    ///
    /// The response time is an average that follows a slower response at once and a faster one over
    /// the [decay](Balance::decay); without responses it sinks, so that an endpoint that was slow is
    /// tried again. An endpoint that never answered is compared by its requests alone; Linkerd
    /// takes it for one of 30 ms.
    #[default]
    PeakEwma,
    /// Of a number of endpoints drawn by weight ([two](Balance::choices)) the one with the fewest
    /// requests under way for its weight. Istio's default.
    ///
    /// Envoy does the same if all weights are equal. If they are not, it keeps a schedule of weights
    /// over requests under way; shares come out the same and bursts shorter here.
    LeastRequest,
    /// In turn: of twice the weight, twice as often, and spread out as evenly as whole turns allow.
    RoundRobin,
    /// By weight and chance.
    Random,
    /// By [the request's hash](super::Ask::hash): the same hash goes to the same endpoint as long as
    /// that is there and healthy, and of those that go elsewhere when endpoints change, none moves
    /// that did not have to. Weights count. A request without a hash goes by chance.
    ///
    /// Weighted rendezvous hashing over a table of `slots`: the key `10.0.0.1:80` and its weight
    /// decide, in every process alike. Istio and Envoy have a ring or Maglev's table here, so that
    /// they choose other endpoints for a hash.
    Affinity {
        /// How many parts the hashes are divided into, rounded up to a power of two between 1,024
        /// and 65,536. More divide better: an endpoint's share of `n` slots is off by about its
        /// root. Two bytes each for every level that is in use. Istio's `minimumRingSize` (1,024)
        /// and Maglev's `tableSize` (65,537) are of this kind.
        slots: u32,
    },
}

/// How the requests of a service are divided.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    pub(super) algorithm: Algorithm,
    pub(super) choices: u32,
    pub(super) decay: Duration,
    pub(super) overprovisioning: u32,
    pub(super) panic_threshold: u32,
}

impl Balance {
    /// [`Algorithm::PeakEwma`] with every option at its default.
    pub fn new() -> Self {
        Self {
            algorithm: Algorithm::default(),
            choices: 2,
            decay: Duration::from_secs(10),
            overprovisioning: 140,
            panic_threshold: 50,
        }
    }

    /// How an endpoint is chosen.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Among how many endpoints [`Algorithm::LeastRequest`] takes the best: 2 to 8, by default 2
    /// (Envoy's `choice_count`).
    #[must_use]
    pub fn choices(mut self, choices: u32) -> Self {
        self.choices = choices.clamp(2, 8);
        self
    }

    /// Over which time [`Algorithm::PeakEwma`] forgets: what is as old counts a third. By default
    /// 10 s, as in Linkerd; at least a millisecond.
    #[must_use]
    pub fn decay(mut self, decay: Duration) -> Self {
        self.decay = decay.max(Duration::from_millis(1));
        self
    }

    /// By how much a level is taken to be larger than it needs to be, in percent. By default 140, as
    /// in Envoy: a level whose healthy part is 72 % or more (100 / 1.4) needs no help of the next.
    /// At least 100.
    #[must_use]
    pub fn overprovisioning(mut self, percent: u32) -> Self {
        self.overprovisioning = percent.clamp(100, 10_000);
        self
    }

    /// Below which healthy part a level is in panic, in percent: if all levels together cannot take
    /// the load, its requests go to all its endpoints whatever their health, because too few would
    /// break down under them. By default 50, as in Envoy; Istio sets 0 (`minHealthPercent`), which
    /// is never.
    #[must_use]
    pub fn panic_threshold(mut self, percent: u32) -> Self {
        self.panic_threshold = percent.min(100);
        self
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self::new()
    }
}
