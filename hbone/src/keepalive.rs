//! When to ask a silent peer for a sign of life, and when to give it up.
//!
//! Pure: instants and facts go in, an [`Action`] comes out. Any received byte counts as life, and so
//! does output that was stuck and moves again. While output waits no PING is sent: it would wait
//! behind the rest, and may keep the engine from reading until it is written. So bulk data on a slow
//! link never ends a connection that is in use.

use std::time::{Duration, Instant};

/// Why a connection counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dead {
    /// Nothing was received, not even an answer to a PING.
    Silent,
    /// The peer accepted no byte of what was waiting to be sent.
    Stalled,
}

/// What the connection should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing, until this instant.
    Wait(Instant),
    /// Send a PING, and come back at this instant.
    Ping(Instant),
    /// End the connection.
    Close(Dead),
}

/// Limits, each counted from the last sign of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Silence after which a PING is sent, unless output waits.
    pub(crate) interval: Duration,
    /// Silence beyond the interval, or after the PING, after which the connection is dead.
    pub(crate) timeout: Duration,
    /// Time that output may wait without one byte being accepted.
    pub(crate) stall: Duration,
}

/// What is known of one connection's life.
#[derive(Debug)]
pub(crate) struct Keepalive {
    patience: Patience,
    last_received: Instant,
    pinged: Option<Instant>,
    /// Since when output has been waiting without progress.
    stalled: Option<Instant>,
}

impl Keepalive {
    pub(crate) fn new(patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            last_received: now,
            pinged: None,
            stalled: None,
        }
    }

    /// Bytes arrived.
    pub(crate) fn received(&mut self, now: Instant) {
        self.last_received = now;
        self.pinged = None;
    }

    /// Output is waiting; `progress` says whether any byte was accepted since the last call.
    pub(crate) fn waiting(&mut self, now: Instant, progress: bool) {
        if progress && self.stalled.is_some() {
            self.received(now);
        }
        if progress || self.stalled.is_none() {
            self.stalled = Some(now);
        }
    }

    /// No output is waiting.
    pub(crate) fn flushed(&mut self) {
        self.stalled = None;
    }

    /// When output that waits becomes fatal.
    pub(crate) fn stall_deadline(&self) -> Option<Instant> {
        self.stalled.map(|since| since + self.patience.stall)
    }

    /// Judges the connection at `now`.
    pub(crate) fn judge(&mut self, now: Instant) -> Action {
        let stall = self.stall_deadline();
        if stall.is_some_and(|deadline| now >= deadline) {
            return Action::Close(Dead::Stalled);
        }
        let sooner = |at: Instant| stall.map_or(at, |stall| at.min(stall));
        let ask = self.last_received + self.patience.interval;
        let answer_by = match self.pinged {
            Some(sent) => sent + self.patience.timeout,
            None if now < ask => return Action::Wait(sooner(ask)),
            None if stall.is_some() => ask + self.patience.timeout,
            None => {
                self.pinged = Some(now);
                return Action::Ping(now + self.patience.timeout);
            }
        };
        if now >= answer_by {
            return Action::Close(Dead::Silent);
        }
        Action::Wait(sooner(answer_by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        stall: Duration::from_secs(30),
    };

    fn start() -> (Keepalive, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
        let now = Instant::now();
        (Keepalive::new(PATIENCE, now), now)
    }

    #[test]
    fn silence_is_asked_about_and_then_fatal() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        assert_eq!(keepalive.judge(at(9)), Action::Wait(at(10)));
        assert_eq!(keepalive.judge(at(10)), Action::Ping(at(20)));
        assert_eq!(keepalive.judge(at(19)), Action::Wait(at(20)));
        assert_eq!(keepalive.judge(at(20)), Action::Close(Dead::Silent));
    }

    #[test]
    fn any_byte_answers_a_ping() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        assert_eq!(keepalive.judge(at(10)), Action::Ping(at(20)));
        keepalive.received(at(15));
        assert_eq!(keepalive.judge(at(20)), Action::Wait(at(25)));
    }

    #[test]
    fn output_that_moves_is_life_and_output_that_waits_is_not_asked() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        keepalive.waiting(at(0), false);
        assert_eq!(keepalive.judge(at(10)), Action::Wait(at(20)));
        keepalive.waiting(at(19), true);
        assert_eq!(keepalive.judge(at(20)), Action::Wait(at(29)));
        assert_eq!(keepalive.judge(at(29)), Action::Wait(at(39)));
        keepalive.flushed();
        assert_eq!(keepalive.judge(at(30)), Action::Ping(at(40)));
        assert_eq!(keepalive.judge(at(40)), Action::Close(Dead::Silent));
    }

    #[test]
    fn a_black_hole_is_noticed_though_output_waits() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        keepalive.received(at(3));
        keepalive.waiting(at(3), false);
        assert_eq!(keepalive.judge(at(22)), Action::Wait(at(23)));
        assert_eq!(keepalive.judge(at(23)), Action::Close(Dead::Silent));
    }

    #[test]
    fn output_without_progress_is_fatal_even_if_the_peer_talks() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        keepalive.waiting(at(0), false);
        for secs in 0..30 {
            keepalive.received(at(secs));
            keepalive.waiting(at(secs), false);
            assert!(matches!(keepalive.judge(at(secs)), Action::Wait(_)));
        }
        assert_eq!(keepalive.judge(at(30)), Action::Close(Dead::Stalled));
    }

    #[test]
    fn progress_restarts_the_stall_clock() {
        let (mut keepalive, t0) = start();
        let at = |secs| t0 + Duration::from_secs(secs);
        keepalive.waiting(at(0), false);
        keepalive.waiting(at(29), true);
        keepalive.received(at(55));
        assert!(matches!(keepalive.judge(at(58)), Action::Wait(_)));
        keepalive.flushed();
        keepalive.received(at(99));
        assert!(matches!(keepalive.judge(at(100)), Action::Wait(_)));
    }

    /// The obvious way: remember everything, decide by looking at all of it.
    #[derive(Default)]
    struct Naive {
        received: Vec<u64>,
        pings: Vec<u64>,
        waiting_since: Option<u64>,
    }

    impl Naive {
        fn judge(&mut self, now: u64) -> &'static str {
            if self.waiting_since.is_some_and(|since| now - since >= 30) {
                return "stalled";
            }
            let heard = self.received.iter().copied().max().unwrap_or(0);
            // The order of a byte and a PING within one second is that of the calls, which is
            // why `received` empties the list of unanswered PINGs.
            match self.pings.first() {
                Some(ping) if now - ping >= 10 => "silent",
                Some(_) => "wait",
                None if now - heard < 10 => "wait",
                None if self.waiting_since.is_some() && now - heard >= 20 => "silent",
                None if self.waiting_since.is_some() => "wait",
                None => {
                    self.pings.push(now);
                    "ping"
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_model(steps in prop::collection::vec((0_u64..12, 0_u8..5), 1..60)) {
            let (mut keepalive, t0) = start();
            let mut naive = Naive::default();
            let mut now = 0;
            for (pause, what) in steps {
                now += pause;
                let instant = t0 + Duration::from_secs(now);
                match what {
                    0 => { keepalive.received(instant); naive.received.push(now); naive.pings.clear(); }
                    1 => { keepalive.waiting(instant, false); naive.waiting_since.get_or_insert(now); }
                    2 => {
                        keepalive.waiting(instant, true);
                        if naive.waiting_since.replace(now).is_some() {
                            naive.received.push(now);
                            naive.pings.clear();
                        }
                    }
                    3 => { keepalive.flushed(); naive.waiting_since = None; }
                    _ => {
                        let expected = naive.judge(now);
                        let action = keepalive.judge(instant);
                        let got = match action {
                            Action::Wait(until) => { prop_assert!(until > instant); "wait" }
                            Action::Ping(until) => { prop_assert!(until > instant); "ping" }
                            Action::Close(Dead::Silent) => "silent",
                            Action::Close(Dead::Stalled) => "stalled",
                        };
                        prop_assert_eq!(got, expected);
                        if matches!(action, Action::Close(_)) { break; }
                    }
                }
            }
        }
    }
}
