use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use mesh_policy::traffic::{
    balance::{Ask, Balance, Endpoint, EndpointId, EndpointSet, InFlight},
    breaker::{Breaker, Limits, Permit, Resource},
    outlier::{self, Accrual, Admission, Change, Detection, Detector, Gate, Monitor},
    retry::{Budget, Call, Decision, Failure, Outcome, Policy, Response, Stop},
};

use crate::{
    endpoint::{Attempted, Illness},
    random::Random,
};

/// What keeps requests from endpoints that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    Detector,
    Gates,
    Both,
}

/// What happened in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) arrived: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) retries: u64,
    pub(crate) over_budget: u64,
    pub(crate) ejections: u64,
    pub(crate) probes: u64,
}

/// A proxy, the service behind it and the clients before it.
pub(crate) struct Proxy {
    seed: u64,
    guard: Guard,
    random: Random,
    illnesses: Vec<Illness>,
    balance: EndpointSet<usize>,
    detector: Detector,
    monitors: Vec<Monitor>,
    gates: Vec<Gate>,
    breaker: Breaker,
    budget: Budget,
    policy: Policy,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    requests: Vec<Request>,
    under_way: Vec<Option<Attempt>>,
    arrivals: Vec<Duration>,
    retried: Vec<Duration>,
    last_failure: Duration,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives,
    Tries { request: usize, is_retry: bool },
    Ends { attempt: usize },
    Sweep,
}

struct Request {
    method: &'static [u8],
    deadline: Duration,
    attempts: u32,
    tried: Vec<EndpointId>,
    done: u32,
    has_ended: bool,
    /// Its body is larger than what is kept of it.
    is_large: bool,
    /// Some of it was sent, and is kept no longer.
    is_body_gone: bool,
    permit: Option<Permit>,
    retry_permit: Option<Permit>,
}

/// A request on its way, with all that is to be given back when it ends.
struct Attempt {
    request: usize,
    endpoint: usize,
    attempted: Attempted,
    in_flight: InFlight,
    admission: Option<Admission>,
}

const INTERVAL: Duration = Duration::from_millis(500);
const LONGEST_EJECTION: Duration = Duration::from_secs(2);
const JITTER: Duration = Duration::from_millis(200);
const LONGEST_PENALTY: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(400);
const EJECTED_PERCENT: u32 = 50;

impl Proxy {
    /// Within which time of the last failure all endpoints are back: an ejection and its jitter, the
    /// sweep after it, and a request under way from before; a gate's time is shorter.
    pub(crate) const RECOVERY: Duration = Duration::from_millis(2_000 + 200 + 500 + 400);

    pub(crate) fn new(seed: u64, guard: Guard, illnesses: Vec<Illness>, random: Random) -> Self {
        let keys: Vec<String> = (0..illnesses.len()).map(|number| number.to_string()).collect();
        let endpoints = (0..)
            .zip(&keys)
            .map(|(number, key)| Endpoint::new(key.as_str(), number));
        let detection = Detection::new()
            .consecutive_errors(3)
            .interval(INTERVAL)
            .base_ejection_time(Duration::from_millis(700))
            .max_ejection_time(LONGEST_EJECTION)
            .jitter(JITTER)
            .max_ejection_percent(EJECTED_PERCENT);
        let detector = Detector::new(detection, keys.iter().map(String::as_str));
        let accrual = Accrual::new()
            .failures(3)
            .penalty(Duration::from_millis(100), LONGEST_PENALTY);
        let accrual = Arc::new(accrual);
        let mut proxy = Self {
            seed,
            guard,
            random,
            balance: EndpointSet::new(Balance::new(), endpoints).unwrap(),
            monitors: keys.iter().map(|key| detector.monitor(key).unwrap()).collect(),
            gates: keys.iter().map(|_| Gate::new(Arc::clone(&accrual))).collect(),
            detector,
            breaker: Breaker::new(Limits::new().requests(200)),
            budget: Budget::new()
                .percent(20)
                .at_least(5, Duration::from_secs(1))
                .interval(Duration::from_secs(2)),
            policy: Policy::new()
                .retries(3)
                .conditions("5xx".parse().unwrap())
                .attempt_timeout(Some(ATTEMPT)),
            illnesses,
            events: BinaryHeap::new(),
            scheduled: 0,
            requests: Vec::new(),
            under_way: Vec::new(),
            arrivals: Vec::new(),
            retried: Vec::new(),
            last_failure: Duration::ZERO,
            counts: Counts::default(),
        };
        proxy.schedule(Duration::ZERO, Event::Arrives);
        proxy.schedule(INTERVAL, Event::Sweep);
        proxy
    }

    /// Clients send until then; what is under way comes to its end.
    pub(crate) fn run(&mut self, until: Duration) {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Arrives if now < until => self.arrive(now),
                Event::Sweep if now < until => self.sweep(now),
                Event::Arrives | Event::Sweep => {}
                Event::Tries { request, is_retry } => self.try_it(request, is_retry, now),
                Event::Ends { attempt } => self.end(attempt, now),
            }
            self.check_ejected(now);
        }
    }

    /// Nothing is lost or left over, and since `recovered` nothing failed.
    pub(crate) fn check_end(&self, recovered: Duration) {
        let seed = self.seed;
        assert_eq!(
            self.counts.arrived,
            self.counts.succeeded + self.counts.failed,
            "seed {seed}: lost"
        );
        assert!(
            self.requests.iter().all(|request| request.has_ended),
            "seed {seed}: without an end"
        );
        for request in &self.requests {
            assert!(
                request.method != b"POST" || request.done <= 1,
                "seed {seed}: done twice"
            );
        }
        assert!(
            self.balance
                .endpoints()
                .all(|(id, _)| self.balance.requests_under_way(id) == Some(0)),
            "seed {seed}: requests under way are left"
        );
        let resources = [Resource::Requests, Resource::Retries];
        assert!(
            resources.iter().all(|resource| self.breaker.in_use(*resource) == 0),
            "seed {seed}: permits are left"
        );
        assert!(
            self.last_failure < recovered,
            "seed {seed}: failed at {:?}",
            self.last_failure
        );
        assert_eq!(self.detector.ejected(), 0, "seed {seed}: still ejected");
        let end = recovered + Duration::from_secs(2);
        assert!(
            self.gates.iter().all(|gate| gate.admit(end).is_some()),
            "seed {seed}: still shut"
        );
    }

    pub(crate) fn check_everything_happened_once(&self) {
        assert!(
            self.requests.iter().all(|request| request.done == 1),
            "seed {}",
            self.seed
        );
    }

    fn arrive(&mut self, now: Duration) {
        let gap = Duration::from_micros(2_000 + self.random.below(12_000));
        self.schedule(now + gap, Event::Arrives);
        self.counts.arrived += 1;
        self.arrivals.push(now);
        self.budget.request(now);
        self.requests.push(Request {
            method: if self.random.below(2) == 0 { b"GET" } else { b"POST" },
            deadline: now + TIMEOUT,
            attempts: 0,
            tried: Vec::new(),
            done: 0,
            has_ended: false,
            is_large: self.random.below(10) == 0,
            is_body_gone: false,
            permit: None,
            retry_permit: None,
        });
        let request = self.requests.len() - 1;
        match self.breaker.acquire(Resource::Requests) {
            Ok(permit) => self.requests[request].permit = Some(permit),
            Err(_) => return self.finish(request, false, now),
        }
        self.try_it(request, false, now);
    }

    fn try_it(&mut self, number: usize, is_retry: bool, now: Duration) {
        let request = &mut self.requests[number];
        assert!(
            !request.has_ended && now < request.deadline,
            "seed {}: tried too late",
            self.seed
        );
        assert!(
            !is_retry || !request.is_body_gone,
            "seed {}: sent without its body",
            self.seed
        );
        request.attempts += 1;
        let mut admission = None;
        let (gates, uses_gates) = (&self.gates, self.guard != Guard::Detector);
        let picked = self
            .balance
            .pick_if(Ask::new().avoid(&request.tried), now, self.random.next(), |endpoint| {
                if uses_gates {
                    admission = gates[*endpoint.target()].admit(now);
                }
                !uses_gates || admission.is_some()
            });
        let Ok(picked) = picked else {
            return self.finish(number, false, now);
        };
        let endpoint = *picked.endpoint().target();
        self.counts.probes += u64::from(admission.as_ref().is_some_and(Admission::is_probe));
        request.tried.push(picked.id());
        let in_flight = picked.begin(now);
        self.check_pick(endpoint);
        let request = &self.requests[number];
        let call = Call::new(request.method).deadline(Some(request.deadline));
        let timeout = self.policy.attempt_deadline(&call, now).unwrap() - now;
        let attempted = self.illnesses[endpoint].attempt(now, timeout, &mut self.random);
        self.requests[number].done += u32::from(attempted.is_done);
        let took = attempted.took.min(timeout);
        self.under_way.push(Some(Attempt {
            request: number,
            endpoint,
            attempted,
            in_flight,
            admission,
        }));
        let attempt = self.under_way.len() - 1;
        self.schedule(now + took, Event::Ends { attempt });
    }

    fn end(&mut self, attempt: usize, now: Duration) {
        let Attempt {
            request: number,
            endpoint,
            attempted,
            in_flight,
            admission,
        } = self.under_way[attempt].take().unwrap();
        let is_good = attempted.outcome == Outcome::Response(Response::new(200));
        in_flight.measure(
            now,
            if is_good {
                Duration::ZERO
            } else {
                Duration::from_millis(200)
            },
        );
        match admission {
            Some(admission) if is_good => admission.succeed(),
            Some(admission) => admission.fail(now, self.random.next()),
            None => {}
        }
        self.record(endpoint, &attempted.outcome, is_good, now);
        let request = &mut self.requests[number];
        request.retry_permit = None;
        // A request is sent once there is a connection.
        request.is_body_gone |= request.is_large && attempted.outcome != Outcome::Failure(Failure::Connect);
        if is_good {
            return self.finish(number, true, now);
        }
        let request = &self.requests[number];
        let call = Call::new(request.method)
            .attempts(request.attempts)
            .deadline(Some(request.deadline))
            .can_be_sent_again(!request.is_body_gone)
            .answered(attempted.is_answered);
        let (budget, breaker) = (&self.budget, &self.breaker);
        let admit = || {
            let permit = breaker.acquire(Resource::Retries).ok()?;
            budget.retry(now).then_some(permit)
        };
        match self
            .policy
            .decide(&call, &attempted.outcome, now, self.random.next(), admit)
        {
            Decision::Stop(stop) => {
                self.counts.over_budget += u64::from(stop == Stop::Budget);
                self.finish(number, false, now);
            }
            Decision::Retry(retry) => {
                self.counts.retries += 1;
                self.retried.push(now);
                self.check_budget(now);
                self.requests[number].retry_permit = Some(retry.permit);
                let again = Event::Tries {
                    request: number,
                    is_retry: true,
                };
                self.schedule(now + retry.after, again);
            }
        }
    }

    fn record(&mut self, endpoint: usize, outcome: &Outcome, is_good: bool, now: Duration) {
        if self.guard == Guard::Gates {
            return;
        }
        let outcome = match outcome {
            Outcome::Response(_) if is_good => outlier::Outcome::Success,
            Outcome::Response(_) => outlier::Outcome::GatewayError,
            Outcome::Failure(_) => outlier::Outcome::LocalFailure,
        };
        let ejection = self.monitors[endpoint].record(outcome, now, self.random.next());
        if let Some(ejection) = ejection {
            assert!(ejection.until <= now + LONGEST_EJECTION + JITTER, "seed {}", self.seed);
            self.counts.ejections += 1;
            self.follow_health();
        }
    }

    fn sweep(&mut self, now: Duration) {
        self.schedule(now + INTERVAL, Event::Sweep);
        let changes = self.detector.sweep(now, self.random.next());
        assert!(changes.iter().all(|change| matches!(change, Change::Returned { .. })));
        self.follow_health();
    }

    fn follow_health(&mut self) {
        self.balance = self
            .balance
            .with_health(|endpoint| self.detector.health(endpoint.key()));
    }

    fn finish(&mut self, request: usize, is_good: bool, now: Duration) {
        let request = &mut self.requests[request];
        assert!(!request.has_ended, "seed {}: ended twice", self.seed);
        request.has_ended = true;
        (request.permit, request.retry_permit) = (None, None);
        if is_good {
            self.counts.succeeded += 1;
        } else {
            self.counts.failed += 1;
            self.last_failure = now;
        }
    }

    /// Who is ejected is asked only in panic.
    fn check_pick(&self, endpoint: usize) {
        let all = self.monitors.len() as u32;
        let healthy = all - self.detector.ejected();
        let panics = healthy * 100 < 50 * all;
        assert!(
            panics || !self.monitors[endpoint].is_ejected(),
            "seed {}: asked although ejected",
            self.seed
        );
    }

    fn check_ejected(&self, now: Duration) {
        let (ejected, all) = (self.detector.ejected(), self.monitors.len() as u32);
        assert!(
            ejected * 100 <= EJECTED_PERCENT * all,
            "seed {}: {ejected} of {all} at {now:?}",
            self.seed
        );
    }

    /// The budget as its documentation has it, by a list of all that happened.
    fn check_budget(&self, now: Duration) {
        let tenth = Duration::from_millis(200);
        let slot = |at: Duration| at.as_nanos() / tenth.as_nanos();
        let within = |list: &[Duration]| list.iter().rev().take_while(|at| slot(**at) + 10 > slot(now)).count();
        let (requests, retries) = (within(&self.arrivals), within(&self.retried));
        assert!(
            retries <= requests / 5 + 10,
            "seed {}: {retries} for {requests} at {now:?}",
            self.seed
        );
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }
}
