use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{chance::Draws, traffic::moment::nanos};

/// When failures in a row shut a [`Gate`], and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Accrual {
    failures: u32,
    first: Duration,
    longest: Duration,
    jitter: f64,
}

impl Accrual {
    /// Linkerd's defaults.
    pub fn new() -> Self {
        Self {
            failures: 7,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            jitter: 0.5,
        }
    }

    /// How many failures in a row shut the gate. Default 7; at least 1.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// How long the gate is shut at first, and at most: each probe that fails doubles the time.
    /// Default 1 s and 60 s.
    #[must_use]
    pub fn penalty(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest.max(first);
        self
    }

    /// Up to which part of itself a time is made longer by chance. Default 0.5; 0 to 1.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// For how long the gate is shut, after so many probes have failed.
    fn time(&self, probes: u64, random: u64) -> Duration {
        let time = self.first.saturating_mul(1 << probes.min(31)).min(self.longest);
        time.saturating_add(time.mul_f64(self.jitter * Draws::new(random).share()))
    }
}

impl Default for Accrual {
    fn default() -> Self {
        Self::new()
    }
}

/// An endpoint's door: open, shut, or on probation with one request inside.
///
/// A probe that succeeds opens it, and no sooner; one that fails shuts it for longer. An endpoint whose
/// gate is shut is asked nothing, so a pick has to ask [`Gate::admit`] first. Unlike a
/// [`Detector`](super::Detector) a gate does not know of other gates: all of a service may be shut.
#[derive(Clone, Debug)]
pub struct Gate {
    accrual: Arc<Accrual>,
    word: Arc<AtomicU64>,
}

/// What a gate's word says. Its upper two bits tell the states apart, the next six count probes
/// that have failed, the others hold failures in a row, or microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open { failures: u64 },
    Shut { until: u64, probes: u64 },
    Probing { probes: u64 },
}

const PAYLOAD: u64 = (1 << 56) - 1;

impl Gate {
    /// An open gate.
    pub fn new(accrual: Arc<Accrual>) -> Self {
        Self {
            accrual,
            word: Arc::default(),
        }
    }

    /// Leave to send a request, if the gate is open or this is the one that tries whether it may be.
    pub fn admit(&self, now: Duration) -> Option<Admission> {
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let probes = match State::of(word) {
                State::Open { .. } => return Some(self.admission(false)),
                State::Shut { until, probes } if until <= micros(now) => probes,
                State::Shut { .. } | State::Probing { .. } => return None,
            };
            let probing = State::Probing { probes }.word();
            match self
                .word
                .compare_exchange(word, probing, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return Some(self.admission(true)),
                Err(current) => word = current,
            }
        }
    }

    /// Whether every request is let in.
    pub fn is_open(&self) -> bool {
        matches!(State::of(self.word.load(Ordering::SeqCst)), State::Open { .. })
    }

    fn admission(&self, is_probe: bool) -> Admission {
        Admission {
            gate: self.clone(),
            is_probe,
            is_settled: false,
        }
    }

    fn change(&self, next: impl Fn(State) -> Option<State>) {
        let mut word = self.word.load(Ordering::SeqCst);
        while let Some(state) = next(State::of(word)) {
            let changed = self
                .word
                .compare_exchange(word, state.word(), Ordering::SeqCst, Ordering::SeqCst);
            match changed {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

/// Leave to send one request through a [`Gate`]. Dropped without a verdict it says nothing about the
/// endpoint, and the next request may be the probe.
#[must_use = "the gate waits for the verdict"]
#[derive(Debug)]
pub struct Admission {
    gate: Gate,
    is_probe: bool,
    is_settled: bool,
}

impl Admission {
    /// Whether this is the one request that an endpoint on probation gets.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// The endpoint did well.
    pub fn succeed(mut self) {
        self.is_settled = true;
        let is_probe = self.is_probe;
        self.gate.change(|state| match state {
            State::Open { failures: 1.. } => Some(State::Open { failures: 0 }),
            State::Probing { .. } if is_probe => Some(State::Open { failures: 0 }),
            _ => None,
        });
    }

    /// The endpoint failed. Requests that were sent before the gate was shut change nothing more.
    pub fn fail(mut self, now: Duration, random: u64) {
        self.is_settled = true;
        let (accrual, is_probe) = (&*self.gate.accrual, self.is_probe);
        let shut = |probes| State::Shut {
            until: micros(now.saturating_add(accrual.time(probes, random))),
            probes,
        };
        self.gate.change(|state| match state {
            State::Open { failures } if failures + 1 >= u64::from(accrual.failures) => Some(shut(0)),
            State::Open { failures } => Some(State::Open { failures: failures + 1 }),
            State::Probing { probes } if is_probe => Some(shut(probes + 1)),
            _ => None,
        });
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            self.gate.change(|state| match state {
                State::Probing { probes } => Some(State::Shut { until: 0, probes }),
                _ => None,
            });
        }
    }
}

impl State {
    fn of(word: u64) -> Self {
        let (probes, payload) = ((word >> 56) & 0x3f, word & PAYLOAD);
        match word >> 62 {
            0 => Self::Open { failures: payload },
            1 => Self::Shut { until: payload, probes },
            _ => Self::Probing { probes },
        }
    }

    fn word(self) -> u64 {
        match self {
            Self::Open { failures } => failures & PAYLOAD,
            Self::Shut { until, probes } => (1 << 62) | (probes.min(0x3f) << 56) | until.min(PAYLOAD),
            Self::Probing { probes } => (2 << 62) | (probes.min(0x3f) << 56),
        }
    }
}

fn micros(moment: Duration) -> u64 {
    (nanos(moment) / 1_000).min(PAYLOAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(failures: u32) -> Gate {
        Gate::new(Arc::new(Accrual::new().failures(failures).jitter(0.0)))
    }

    fn fail(gate: &Gate, now: Duration) {
        gate.admit(now).unwrap().fail(now, 1);
    }

    #[test]
    fn words_keep_states() {
        for state in [
            State::Open { failures: 3 },
            State::Shut { until: 77, probes: 5 },
            State::Probing { probes: 63 },
        ] {
            assert_eq!(State::of(state.word()), state);
        }
    }

    #[test]
    fn failures_in_a_row_shut_it_and_one_probe_opens_it() {
        let gate = gate(3);
        fail(&gate, SECOND);
        fail(&gate, SECOND);
        gate.admit(SECOND).unwrap().succeed();
        fail(&gate, SECOND);
        fail(&gate, SECOND);
        let late = gate.admit(SECOND).unwrap();
        fail(&gate, SECOND);
        assert!(!gate.is_open() && gate.admit(SECOND * 2 - Duration::from_millis(1)).is_none());
        // Not a probe: it was sent before.
        late.succeed();
        assert!(!gate.is_open());
        let probe = gate.admit(SECOND * 2).unwrap();
        assert!(probe.is_probe() && gate.admit(SECOND * 2).is_none());
        probe.succeed();
        assert!(gate.is_open() && !gate.admit(SECOND * 2).unwrap().is_probe());
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_the_longest() {
        let gate = gate(1);
        let mut now = SECOND;
        fail(&gate, now);
        for time in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            assert!(
                gate.admit(now + SECOND * time - Duration::from_millis(1)).is_none(),
                "{time}"
            );
            now += SECOND * time;
            fail(&gate, now);
        }
    }

    #[test]
    fn a_probe_without_a_verdict_makes_room_for_another() {
        let gate = gate(1);
        fail(&gate, SECOND);
        drop(gate.admit(SECOND * 2).unwrap());
        assert!(!gate.is_open() && gate.admit(SECOND * 2).unwrap().is_probe());
    }

    #[test]
    fn jitter_only_makes_times_longer() {
        let accrual = Accrual::new().jitter(0.5);
        let times: Vec<Duration> = (0..100).map(|random| accrual.time(0, random)).collect();
        assert!(times.iter().all(|time| (SECOND..SECOND * 3 / 2).contains(time)));
        assert!(times.iter().any(|time| *time > SECOND * 5 / 4));
        assert_eq!(Accrual::new().jitter(f64::NAN).time(0, 1), SECOND);
    }
}
