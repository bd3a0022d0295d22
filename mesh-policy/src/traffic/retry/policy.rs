use std::time::Duration;

use super::{
    backoff::{Backoff, after},
    call::{Call, Outcome, Pushback},
    condition::Conditions,
};

/// How the requests of a route are tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    retries: u32,
    conditions: Conditions,
    backoff: Backoff,
    attempt_timeout: Option<Duration>,
    longest_pushback: Duration,
    elsewhere: bool,
    repeats_unsafe: bool,
}

impl Policy {
    /// Istio's defaults: twice, after [its conditions](Conditions::istio) and 503, elsewhere. Only
    /// what may be done twice or was not done at all: see [`repeat_unsafe`](Self::repeat_unsafe).
    pub fn new() -> Self {
        Self {
            retries: 2,
            conditions: Conditions::istio().statuses([503]),
            backoff: Backoff::new(),
            attempt_timeout: None,
            longest_pushback: Duration::from_secs(300),
            elsewhere: true,
            repeats_unsafe: false,
        }
    }

    /// How often a request is sent beyond the first time. Default 2; 0 turns retries off (`attempts`
    /// of Istio and the Gateway API, Envoy's `num_retries`, whose default is 1).
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// After which ends.
    #[must_use]
    pub fn conditions(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    /// These statuses as well (Envoy's `retriable_status_codes`, `codes` of the Gateway API).
    #[must_use]
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.conditions = self.conditions.statuses(statuses);
        self
    }

    /// How long to wait in between.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long one attempt may take. Default: as long as all of them; zero is the same
    /// (`perTryTimeout`, `backendRequest` of the Gateway API).
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.attempt_timeout = timeout.filter(|timeout| !timeout.is_zero());
        self
    }

    /// How long a server may ask to be left alone. Default 300 s, as in Envoy
    /// (`rate_limited_retry_back_off`). If it asks for more there is no retry; Envoy comes back after
    /// its ordinary wait.
    #[must_use]
    pub fn longest_pushback(mut self, longest: Duration) -> Self {
        self.longest_pushback = longest;
        self
    }

    /// Whether retries keep away from endpoints that have failed the request. Default: yes
    /// (`retryIgnorePreviousHosts`).
    #[must_use]
    pub fn elsewhere(mut self, elsewhere: bool) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Whether requests that must not be done twice are tried again although they may have been done:
    /// POST after a 503, gRPC after UNAVAILABLE. Default: no. Envoy and Istio do it if a condition
    /// says so, whatever the method.
    #[must_use]
    pub fn repeat_unsafe(mut self, repeats: bool) -> Self {
        self.repeats_unsafe = repeats;
        self
    }

    /// When the attempt that begins now is out of time, if ever.
    pub fn attempt_deadline(&self, call: &Call, now: Duration) -> Option<Duration> {
        let own = self.attempt_timeout.map(|timeout| now.saturating_add(timeout));
        own.into_iter().chain(call.deadline).min()
    }

    /// What to do about an attempt that ended.
    ///
    /// `admit` is asked last, and only if nothing else speaks against a retry: it takes one out of a
    /// [`Budget`](super::Budget) or a [`Breaker`](crate::traffic::breaker::Breaker), or refuses. What
    /// it hands out comes with the retry.
    pub fn decide<P>(
        &self,
        call: &Call,
        outcome: &Outcome,
        now: Duration,
        random: u64,
        admit: impl FnOnce() -> Option<P>,
    ) -> Decision<P> {
        match self.wait(call, outcome, now, random) {
            Err(stop) => Decision::Stop(stop),
            Ok(after) => admit().map_or(Decision::Stop(Stop::Budget), |permit| {
                Decision::Retry(Retry {
                    after,
                    elsewhere: self.elsewhere,
                    permit,
                })
            }),
        }
    }

    fn wait(&self, call: &Call, outcome: &Outcome, now: Duration, random: u64) -> Result<Duration, Stop> {
        if call.is_answered {
            return Err(Stop::Answered);
        }
        if !self.conditions.allow(outcome) {
            return Err(Stop::Condition);
        }
        if call.attempts > self.retries {
            return Err(Stop::Attempts);
        }
        if !(call.is_idempotent || self.repeats_unsafe || outcome.is_unprocessed()) {
            return Err(Stop::Unsafe);
        }
        if !call.can_be_sent_again {
            return Err(Stop::BodyGone);
        }
        let pushback = match outcome {
            Outcome::Response(response) => response.pushback,
            Outcome::Failure(_) => None,
        };
        let wait = match pushback {
            None => self.backoff.wait(call.attempts, random),
            Some(Pushback::After(asked)) if asked <= self.longest_pushback => after(asked, random),
            Some(Pushback::After(_) | Pushback::Never) => return Err(Stop::PushedBack),
        };
        let is_late = call
            .deadline
            .is_some_and(|deadline| now.saturating_add(wait) >= deadline);
        if is_late { Err(Stop::Deadline) } else { Ok(wait) }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

/// What becomes of a request after an attempt.
#[derive(Debug)]
pub enum Decision<P> {
    /// It is tried again.
    Retry(Retry<P>),
    /// The client gets what there is.
    Stop(Stop),
}

impl<P> Decision<P> {
    /// Why it is not tried again.
    pub fn stop(&self) -> Option<Stop> {
        match self {
            Self::Retry(_) => None,
            Self::Stop(stop) => Some(*stop),
        }
    }
}

/// How a request is tried again.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retry<P> {
    /// After this wait.
    pub after: Duration,
    /// Not by an endpoint that has failed it: see [`Ask::avoid`](crate::traffic::balance::Ask::avoid).
    pub elsewhere: bool,
    /// What the budget handed out, to be held until the attempt has ended.
    pub permit: P,
}

/// Why a request is not tried again; of several reasons the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stop {
    /// The client has seen a part of a response.
    Answered,
    /// It did not end in a way that the policy is about.
    Condition,
    /// It was tried as often as it may be.
    Attempts,
    /// It may have been done, and must not be done twice.
    Unsafe,
    /// Its body is no longer there.
    BodyGone,
    /// The server does not want it back, or not soon.
    PushedBack,
    /// There is no time left.
    Deadline,
    /// There are too many retries already.
    Budget,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::call::{Failure, Response},
        *,
    };

    const NOW: Duration = Duration::from_secs(100);

    fn stop(policy: &Policy, call: Call, outcome: &Outcome) -> Option<Stop> {
        policy.decide(&call, outcome, NOW, 7, || Some(())).stop()
    }

    fn response(status: u16) -> Outcome {
        Outcome::Response(Response::new(status))
    }

    #[test]
    fn the_first_reason_against_it_counts() {
        let policy = Policy::new();
        let call = Call::new(b"GET");
        let connect = Outcome::Failure(Failure::Connect);
        assert_eq!(stop(&policy, call, &response(503)), None);
        assert_eq!(stop(&policy, call.answered(true), &response(200)), Some(Stop::Answered));
        assert_eq!(stop(&policy, call, &response(500)), Some(Stop::Condition));
        assert_eq!(stop(&policy, call.attempts(3), &connect), Some(Stop::Attempts));
        assert_eq!(stop(&policy.clone().retries(0), call, &connect), Some(Stop::Attempts));
        assert_eq!(stop(&policy, Call::new(b"POST"), &response(503)), Some(Stop::Unsafe));
        assert_eq!(stop(&policy, Call::new(b"POST").idempotent(true), &response(503)), None);
        assert_eq!(stop(&policy, Call::new(b"POST"), &connect), None);
        assert_eq!(
            stop(&policy.clone().repeat_unsafe(true), Call::new(b"POST"), &response(503)),
            None
        );
        assert_eq!(
            stop(&policy, call.can_be_sent_again(false), &connect),
            Some(Stop::BodyGone)
        );
        assert_eq!(stop(&policy, call.deadline(Some(NOW)), &connect), Some(Stop::Deadline));
        let refused = policy.decide(&call, &connect, NOW, 7, || None::<()>);
        assert_eq!(refused.stop(), Some(Stop::Budget));
    }

    #[test]
    fn a_server_decides_when_to_come_back() {
        let policy = Policy::new();
        let pushed = |pushback| Outcome::Response(Response::new(503).pushback(Some(pushback)));
        let call = Call::new(b"GET");
        let after = Duration::from_secs(20);
        match policy.decide(&call, &pushed(Pushback::After(after)), NOW, 7, || Some(())) {
            Decision::Retry(retry) => assert!((after..after * 3 / 2).contains(&retry.after)),
            Decision::Stop(stop) => panic!("{stop:?}"),
        }
        assert_eq!(stop(&policy, call, &pushed(Pushback::Never)), Some(Stop::PushedBack));
        let too_long = pushed(Pushback::After(Duration::from_secs(301)));
        assert_eq!(stop(&policy, call, &too_long), Some(Stop::PushedBack));
    }

    #[test]
    fn an_attempt_has_its_own_time_and_that_of_all() {
        let second = Duration::from_secs(1);
        let policy = Policy::new().attempt_timeout(Some(second));
        let call = Call::new(b"GET");
        assert_eq!(policy.attempt_deadline(&call, NOW), Some(NOW + second));
        assert_eq!(
            policy.attempt_deadline(&call.deadline(Some(NOW + second / 2)), NOW),
            Some(NOW + second / 2)
        );
        assert_eq!(
            policy
                .attempt_timeout(Some(Duration::ZERO))
                .attempt_deadline(&call, NOW),
            None
        );
    }

    proptest! {
        #[test]
        fn nothing_is_repeated_that_must_not_be(
            method in prop::sample::select(vec!["GET", "POST", "PUT", "PATCH"]),
            (attempts, retries) in (1_u32..6, 0_u32..4),
            (answered, whole) in (any::<bool>(), any::<bool>()),
            deadline in prop::option::of(0_u64..400),
            end in prop::sample::select(vec![
                response(503), response(500), Outcome::Failure(Failure::Connect), Outcome::Failure(Failure::Refused),
                Outcome::Failure(Failure::ResetBeforeRequest), Outcome::Failure(Failure::Reset),
                Outcome::Failure(Failure::Timeout), Outcome::Failure(Failure::Overflow),
            ]),
            random in any::<u64>(),
        ) {
            let policy = Policy::new().retries(retries).conditions("5xx".parse().unwrap());
            let deadline = deadline.map(|millis| NOW + Duration::from_millis(millis));
            let call = Call::new(method.as_bytes())
                .attempts(attempts)
                .answered(answered)
                .can_be_sent_again(whole)
                .deadline(deadline);
            let mut asked = false;
            let decision = policy.decide(&call, &end, NOW, random, || { asked = true; Some(()) });
            let never_arrived = matches!(
                end,
                Outcome::Failure(Failure::Connect | Failure::Refused | Failure::ResetBeforeRequest)
            );
            let may = !answered && whole && attempts <= retries
                && end != Outcome::Failure(Failure::Overflow)
                && (["GET", "PUT"].contains(&method) || never_arrived);
            match decision {
                Decision::Retry(retry) => {
                    prop_assert!(may && asked);
                    prop_assert!(deadline.is_none_or(|deadline| NOW + retry.after < deadline));
                    prop_assert!(retry.after < Duration::from_millis(250));
                }
                Decision::Stop(stop) => prop_assert!(!asked && (!may || stop == Stop::Deadline)),
            }
        }
    }
}
