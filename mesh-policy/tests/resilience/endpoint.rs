use std::time::Duration;

use mesh_policy::traffic::retry::{Failure, Outcome, Response};

use crate::random::Random;

/// What an endpoint does for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Well,
    /// It takes no connections.
    Dead,
    /// It takes no streams.
    Refusing,
    /// It does the work and answers 503.
    Failing,
    /// It does the work and resets.
    Resetting,
    /// It does the work and answers long after everybody has left.
    Slow,
    /// It does the work and resets halfway through the response.
    Breaking,
}

/// Which phase begins when.
#[derive(Clone, Debug)]
pub(crate) struct Illness(Vec<(Duration, Phase)>);

/// What comes of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempted {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// Whether the endpoint did the work.
    pub(crate) is_done: bool,
    /// Whether a part of a response went to the client.
    pub(crate) is_answered: bool,
}

impl Illness {
    pub(crate) fn none() -> Self {
        Self(vec![(Duration::ZERO, Phase::Well)])
    }

    pub(crate) fn push(&mut self, at: Duration, phase: Phase) {
        self.0.push((at, phase));
    }

    pub(crate) fn attempt(&self, now: Duration, timeout: Duration, random: &mut Random) -> Attempted {
        let begun = self.0.iter().rev().find(|(at, _)| *at <= now);
        let quick = Duration::from_micros(300 + random.below(3_000));
        let of = |outcome, took, is_done| Attempted {
            outcome,
            took,
            is_done,
            is_answered: false,
        };
        match begun.unwrap().1 {
            Phase::Well => of(Outcome::Response(Response::new(200)), quick, true),
            Phase::Dead => of(Outcome::Failure(Failure::Connect), quick, false),
            Phase::Refusing => of(Outcome::Failure(Failure::Refused), quick, false),
            Phase::Failing => of(Outcome::Response(Response::new(503)), quick, true),
            Phase::Resetting => of(Outcome::Failure(Failure::Reset), quick, true),
            Phase::Slow => of(Outcome::Failure(Failure::Timeout), timeout, true),
            Phase::Breaking => Attempted {
                is_answered: true,
                ..of(Outcome::Failure(Failure::Reset), quick, true)
            },
        }
    }
}
