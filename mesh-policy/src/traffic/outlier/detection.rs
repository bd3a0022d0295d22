use std::time::Duration;

/// When endpoints are ejected, and for how long. Defaults are Istio's where it has the field
/// (`outlierDetection`), and Envoy's otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    pub(super) consecutive_errors: u32,
    pub(super) consecutive_gateway_errors: u32,
    pub(super) consecutive_local_failures: u32,
    pub(super) split_local: bool,
    pub(super) interval: Duration,
    pub(super) base_ejection_time: Duration,
    pub(super) max_ejection_time: Duration,
    pub(super) jitter: Duration,
    pub(super) max_ejection_percent: u32,
    pub(super) always_eject_one: bool,
    pub(super) success_rate: Option<SuccessRate>,
    pub(super) failure_percentage: Option<FailurePercentage>,
}

impl Detection {
    /// Five errors in a row, and nothing else.
    pub fn new() -> Self {
        Self {
            consecutive_errors: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: 5,
            split_local: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one: false,
            success_rate: None,
            failure_percentage: None,
        }
    }

    /// How many errors in a row eject: 5xx, and local failures unless those are
    /// [apart](Self::split_local_failures). Default 5; 0 is never (`consecutive5xxErrors`).
    #[must_use]
    pub fn consecutive_errors(mut self, errors: u32) -> Self {
        self.consecutive_errors = errors;
        self
    }

    /// How many of 502, 503 and 504 in a row eject, and local failures unless those are apart.
    /// Default 0, never (`consecutiveGatewayErrors`). Where it is no less than
    /// [`consecutive_errors`](Self::consecutive_errors), it changes nothing.
    #[must_use]
    pub fn consecutive_gateway_errors(mut self, errors: u32) -> Self {
        self.consecutive_gateway_errors = errors;
        self
    }

    /// Failures without a response count by themselves, so many in a row (Istio's default is 5; 0 is
    /// never), and no longer as errors (`splitExternalLocalOriginErrors`,
    /// `consecutiveLocalOriginFailures`). By default they count as gateway errors.
    #[must_use]
    pub fn split_local_failures(mut self, failures: u32) -> Self {
        self.split_local = true;
        self.consecutive_local_failures = failures;
        self
    }

    /// How often [`Detector::sweep`](super::Detector::sweep) is to be called: rates are of one
    /// interval. Default 10 s; at least a millisecond (`interval`).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How long the first ejection lasts; the n-th of an endpoint that keeps failing lasts n times as
    /// long. Default 30 s (`baseEjectionTime`).
    #[must_use]
    pub fn base_ejection_time(mut self, time: Duration) -> Self {
        self.base_ejection_time = time;
        self
    }

    /// How long an ejection lasts at most, before jitter. Default 300 s, or the base time if that is
    /// longer (Envoy's `max_ejection_time`; Istio does not set it).
    #[must_use]
    pub fn max_ejection_time(mut self, time: Duration) -> Self {
        self.max_ejection_time = time;
        self
    }

    /// Up to how much longer an ejection lasts by chance, so that endpoints do not come back all at
    /// once. Default 0 (Envoy's `max_ejection_time_jitter`).
    #[must_use]
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many of a hundred endpoints may be ejected at a time, by default 10
    /// (`maxEjectionPercent`). Of fewer than ten endpoints that is none: see
    /// [`always_eject_one`](Self::always_eject_one).
    #[must_use]
    pub fn max_ejection_percent(mut self, percent: u32) -> Self {
        self.max_ejection_percent = percent.min(100);
        self
    }

    /// One endpoint may be ejected whatever the percentage says. Default: no (Envoy's
    /// `always_eject_one_host`; Istio does not set it).
    #[must_use]
    pub fn always_eject_one(mut self, always: bool) -> Self {
        self.always_eject_one = always;
        self
    }

    /// Eject those that succeed much less often than the others. Default: no.
    #[must_use]
    pub fn success_rate(mut self, rate: SuccessRate) -> Self {
        self.success_rate = Some(rate);
        self
    }

    /// Eject those that fail too often, whatever the others do. Default: no.
    #[must_use]
    pub fn failure_percentage(mut self, percentage: FailurePercentage) -> Self {
        self.failure_percentage = Some(percentage);
        self
    }

    /// How often [`Detector::sweep`](super::Detector::sweep) is to be called.
    pub fn sweep_interval(&self) -> Duration {
        self.interval
    }

    /// How long an ejection lasts, for the n-th in a row.
    pub(super) fn ejection_time(&self, times: u32) -> Duration {
        let max = self.max_ejection_time.max(self.base_ejection_time);
        self.base_ejection_time.saturating_mul(times).min(max)
    }

    /// Whether so many of all endpoints may be ejected at a time.
    pub(super) fn allows(&self, ejected: u32, all: u32) -> bool {
        let within = u64::from(ejected) * 100 <= u64::from(self.max_ejection_percent) * u64::from(all);
        within || (self.always_eject_one && ejected == 1)
    }
}

impl Default for Detection {
    fn default() -> Self {
        Self::new()
    }
}

/// Outliers among success rates: an endpoint whose rate in an interval is below the mean of all by
/// more than some standard deviations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    pub(super) minimum_hosts: usize,
    pub(super) request_volume: u32,
    pub(super) deviations: f64,
}

impl SuccessRate {
    /// Envoy's defaults.
    pub fn new() -> Self {
        Self {
            minimum_hosts: 5,
            request_volume: 100,
            deviations: 1.9,
        }
    }

    /// How many endpoints must have the volume before any is judged. Default 5.
    #[must_use]
    pub fn minimum_hosts(mut self, hosts: usize) -> Self {
        self.minimum_hosts = hosts;
        self
    }

    /// How many requests an endpoint must have had in the interval. Default 100; at least 1.
    #[must_use]
    pub fn request_volume(mut self, requests: u32) -> Self {
        self.request_volume = requests.max(1);
        self
    }

    /// By how many standard deviations an endpoint must be worse than the mean. Default 1.9
    /// (`success_rate_stdev_factor` 1900).
    #[must_use]
    pub fn deviations(mut self, deviations: f64) -> Self {
        self.deviations = deviations;
        self
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of failures in an interval that ejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    pub(super) threshold: u32,
    pub(super) minimum_hosts: usize,
    pub(super) request_volume: u32,
}

impl FailurePercentage {
    /// Envoy's defaults.
    pub fn new() -> Self {
        Self {
            threshold: 85,
            minimum_hosts: 5,
            request_volume: 50,
        }
    }

    /// How many of a hundred requests must fail. Default 85; 1 to 100.
    #[must_use]
    pub fn threshold(mut self, percent: u32) -> Self {
        self.threshold = percent.clamp(1, 100);
        self
    }

    /// How many endpoints must have the volume before any is judged. Default 5.
    #[must_use]
    pub fn minimum_hosts(mut self, hosts: usize) -> Self {
        self.minimum_hosts = hosts;
        self
    }

    /// How many requests an endpoint must have had in the interval. Default 50; at least 1.
    #[must_use]
    pub fn request_volume(mut self, requests: u32) -> Self {
        self.request_volume = requests.max(1);
        self
    }
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self::new()
    }
}
