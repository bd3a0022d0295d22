use std::time::Duration;

/// How long a rule lets a request take. Zero, and what is not set, is without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the request's arrival to the end of the answer, with all retries. Default: none.
    pub request: Option<Duration>,
    /// For each attempt, no longer than `request`. Default: none.
    pub attempt: Option<Duration>,
}

impl Timeouts {
    /// Timeouts of a request and of each attempt; zero is none.
    pub fn new(request: Option<Duration>, attempt: Option<Duration>) -> Self {
        let some = |timeout: Option<Duration>| timeout.filter(|timeout| !timeout.is_zero());
        Self {
            request: some(request),
            attempt: some(attempt),
        }
    }

    /// The same for a call whose client waits no longer than its `grpc-timeout` says, which can
    /// shorten the request's timeout and not prolong it.
    #[must_use]
    pub fn with_grpc_timeout(self, timeout: Option<Duration>) -> Self {
        let request = match (self.request, timeout) {
            (Some(own), Some(client)) => Some(own.min(client)),
            (own, client) => own.or(client),
        };
        Self { request, ..self }
    }

    /// How long an attempt may take that begins when so much time has passed since the request's
    /// arrival. Zero: there is no time left for one. `None`: as long as it takes.
    pub fn left_for_attempt(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.request.map(|request| request.saturating_sub(elapsed));
        match (left, self.attempt) {
            (Some(left), Some(attempt)) => Some(left.min(attempt)),
            (left, attempt) => left.or(attempt),
        }
    }
}

/// The value of a `grpc-timeout` header: one to eight digits and one of `H`, `M`, `S`, `m`, `u` and
/// `n` (PROTOCOL-HTTP2 of gRPC). Anything else is none, and counts as no timeout.
///
/// ```
/// use std::time::Duration;
/// use mesh_policy::traffic::grpc_timeout;
///
/// assert_eq!(grpc_timeout(b"250m"), Some(Duration::from_millis(250)));
/// assert_eq!(grpc_timeout(b"1.5S"), None);
/// ```
pub fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0, |count: u64, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn reads_what_grpc_writes() {
        for (value, expected) in [
            ("1H", Some(MS(3_600_000))),
            ("2M", Some(MS(120_000))),
            ("3S", Some(MS(3000))),
            ("99999999m", Some(MS(99_999_999))),
            ("5000u", Some(MS(5))),
            ("1000000n", Some(MS(1))),
            ("0S", Some(MS(0))),
            ("100000000m", None),
            ("m", None),
            ("1", None),
            ("-1S", None),
            ("1s", None),
            ("", None),
        ] {
            assert_eq!(grpc_timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn the_shorter_timeout_ends_an_attempt() {
        let timeouts = Timeouts::new(Some(MS(100)), Some(MS(40)));
        assert_eq!(timeouts.left_for_attempt(MS(0)), Some(MS(40)));
        assert_eq!(timeouts.left_for_attempt(MS(70)), Some(MS(30)));
        assert_eq!(timeouts.left_for_attempt(MS(200)), Some(MS(0)));
        assert_eq!(
            timeouts.with_grpc_timeout(Some(MS(10))).left_for_attempt(MS(0)),
            Some(MS(10))
        );
        assert_eq!(timeouts.with_grpc_timeout(Some(MS(900))).request, Some(MS(100)));
        assert_eq!(Timeouts::new(Some(MS(0)), None), Timeouts::default());
        assert_eq!(Timeouts::default().left_for_attempt(MS(9)), None);
        assert_eq!(Timeouts::default().with_grpc_timeout(Some(MS(9))).request, Some(MS(9)));
    }

    proptest! {
        #[test]
        fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..12)) {
            grpc_timeout(&value);
        }
    }
}
