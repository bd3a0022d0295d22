use proptest::prelude::*;

use super::*;

fn id(index: usize) -> SpiffeId {
    format!("spiffe://td/ns/n/sa/w{index}").parse().unwrap()
}

fn limits(identities: usize, concurrent: usize) -> Limits {
    Limits {
        identities,
        concurrent: NonZeroUsize::new(concurrent).unwrap(),
    }
}

fn lifetime(renew_in: u64, expires_in: u64) -> Lifetime {
    Lifetime {
        renew_in: Duration::from_secs(renew_in),
        expires_in: Duration::from_secs(expires_in),
    }
}

#[expect(clippy::disallowed_methods, reason = "an instant has no constructor but a clock")]
fn start() -> Instant {
    Instant::now()
}

fn called(schedule: &mut Schedule, now: Instant) -> Number {
    match schedule.next(now) {
        Step::Call { number, .. } => number,
        step => panic!("{step:?}"),
    }
}

fn second(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_most_urgent_goes_first_and_the_oldest_among_equals() {
    let now = start();
    let mut schedule = Schedule::new(limits(8, 1));
    let background = schedule.want(&id(0), Priority::Background, now).unwrap();
    let warm = schedule.want(&id(1), Priority::Warmup, now).unwrap();
    let urgent = schedule.want(&id(2), Priority::RealTime, now).unwrap();
    let later = schedule.want(&id(3), Priority::RealTime, now).unwrap();
    for expected in [urgent, later, warm, background] {
        assert_eq!(called(&mut schedule, now), expected);
        assert!(schedule.issued(expected, lifetime(50, 100), now));
    }
}

#[test]
fn raised_in_the_queue_an_identity_keeps_its_place() {
    let now = start();
    let mut schedule = Schedule::new(limits(8, 1));
    let first = schedule.want(&id(0), Priority::Background, now).unwrap();
    let second = schedule.want(&id(1), Priority::RealTime, now).unwrap();
    assert_eq!(schedule.want(&id(0), Priority::RealTime, now), Some(first));
    assert_eq!(called(&mut schedule, now), first);
    assert_eq!(schedule.next(now), Step::Wait(None));
    schedule.failed(first, now, 0);
    assert_eq!(called(&mut schedule, now), second);
}

#[test]
fn identities_and_calls_are_bounded() {
    let now = start();
    let mut schedule = Schedule::new(limits(3, 2));
    let numbers: Vec<_> = (0..3)
        .map(|index| schedule.want(&id(index), Priority::RealTime, now).unwrap())
        .collect();
    assert_eq!(schedule.want(&id(3), Priority::RealTime, now), None);
    called(&mut schedule, now);
    called(&mut schedule, now);
    assert_eq!(schedule.next(now), Step::Wait(None));
    // Nobody wants it any more, but the call is still there.
    schedule.release(numbers[0]);
    assert_eq!(schedule.next(now), Step::Withdraw(numbers[0]));
    assert_eq!(schedule.next(now), Step::Wait(None));
    assert!(!schedule.issued(numbers[0], lifetime(50, 100), now));
    assert_eq!(called(&mut schedule, now), numbers[2]);
}

#[test]
fn a_certificate_is_kept_until_it_expires_while_its_renewal_fails() {
    let mut now = start();
    let mut schedule = Schedule::new(limits(1, 1));
    let number = schedule.want(&id(0), Priority::RealTime, now).unwrap();
    called(&mut schedule, now);
    schedule.issued(number, lifetime(50, 100), now);
    assert_eq!(schedule.next(now), Step::Wait(Some(now + second(50))));
    let expiry = now + second(100);
    now += second(50);
    let mut attempts = 0;
    loop {
        match schedule.next(now) {
            Step::Call { number, .. } => {
                attempts += 1;
                schedule.failed(number, now, 200);
                // There is a certificate: nobody has reason for haste.
                schedule.urge(number, Priority::RealTime, now);
            }
            Step::Wait(until) => now = until.unwrap(),
            Step::Withdraw(expired) => {
                assert_eq!((expired, now), (number, expiry));
                break;
            }
        }
    }
    // At 50 s, and after 0.5, 1, 2, 4, 8, 16 s, of which the next 32 end too late.
    assert_eq!(attempts, 7);
}

#[test]
fn a_demand_interrupts_a_back_off_but_not_the_pause() {
    let mut now = start();
    let mut schedule = Schedule::new(limits(1, 1));
    let number = schedule.want(&id(0), Priority::Warmup, now).unwrap();
    for _ in 0..6 {
        now += second(200);
        assert_eq!(called(&mut schedule, now), number);
        schedule.failed(number, now, 200);
    }
    let failed_at = now;
    assert_eq!(schedule.next(now), Step::Wait(Some(failed_at + second(16))));
    schedule.urge(number, Priority::Warmup, now);
    assert_eq!(schedule.next(now), Step::Wait(Some(failed_at + second(16))));
    schedule.urge(number, Priority::RealTime, now);
    assert_eq!(schedule.next(now), Step::Wait(Some(failed_at + PAUSE)));
    now += PAUSE;
    assert_eq!(called(&mut schedule, now), number);
    schedule.failed(number, now, 200);
    // The interrupted wait counts.
    assert_eq!(schedule.next(now), Step::Wait(Some(now + second(32))));
    now += second(5);
    schedule.urge(number, Priority::RealTime, now);
    assert_eq!(called(&mut schedule, now), number);
}

#[test]
fn what_is_released_and_wanted_again_is_another() {
    let now = start();
    let mut schedule = Schedule::new(limits(1, 1));
    let first = schedule.want(&id(0), Priority::RealTime, now).unwrap();
    assert_eq!(schedule.want(&id(0), Priority::RealTime, now), Some(first));
    schedule.release(first);
    assert_eq!(called(&mut schedule, now), first);
    schedule.release(first);
    let second = schedule.want(&id(0), Priority::RealTime, now).unwrap();
    assert_ne!(first, second);
    assert_eq!(schedule.next(now), Step::Withdraw(first));
    assert!(!schedule.failed(first, now, 0));
    assert_eq!(called(&mut schedule, now), second);
}

#[test]
fn time_that_was_slept_through_counts() {
    let now = start();
    let mut schedule = Schedule::new(limits(1, 1));
    let number = schedule.want(&id(0), Priority::RealTime, now).unwrap();
    called(&mut schedule, now);
    schedule.issued(number, lifetime(50, 100), now);
    schedule.skip(second(30), now);
    assert_eq!(schedule.next(now), Step::Wait(Some(now + second(20))));
    schedule.skip(second(70), now);
    assert_eq!(schedule.next(now), Step::Withdraw(number));
    assert_eq!(called(&mut schedule, now), number);
}

/// The same, without any index: everything is looked up by walking through everything.
struct Naive {
    limits: Limits,
    next_number: u64,
    next_place: u64,
    identities: Vec<NaiveIdentity>,
    calls: usize,
    forsaken: Vec<Number>,
}

struct NaiveIdentity {
    number: Number,
    id: SpiffeId,
    wanted_by: usize,
    priority: Priority,
    place: Option<u64>,
    call_at: Option<Instant>,
    failures: u32,
    failed_at: Option<Instant>,
    expires_at: Option<Instant>,
}

impl Naive {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_number: 0,
            next_place: 0,
            identities: Vec::new(),
            calls: 0,
            forsaken: Vec::new(),
        }
    }

    fn find(&mut self, number: Number) -> Option<&mut NaiveIdentity> {
        self.identities.iter_mut().find(|identity| identity.number == number)
    }

    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    fn want(&mut self, id: &SpiffeId, priority: Priority, now: Instant) -> Option<Number> {
        if let Some(known) = self.identities.iter_mut().find(|identity| identity.id == *id) {
            known.wanted_by += 1;
            let number = known.number;
            self.urge(number, priority, now);
            return Some(number);
        }
        if self.identities.len() == self.limits.identities {
            return None;
        }
        let number = Number(self.next_number);
        self.next_number += 1;
        let place = Some(self.place());
        self.identities.push(NaiveIdentity {
            number,
            id: id.clone(),
            wanted_by: 1,
            priority,
            place,
            call_at: None,
            failures: 0,
            failed_at: None,
            expires_at: None,
        });
        Some(number)
    }

    fn urge(&mut self, number: Number, priority: Priority, now: Instant) {
        let Some(identity) = self.find(number) else { return };
        if identity.place.is_some() || identity.expires_at.is_none() {
            identity.priority = identity.priority.max(priority);
        }
        if priority == Priority::RealTime && identity.expires_at.is_none() {
            let earliest = identity.failed_at.map_or(now, |at| at + PAUSE).max(now);
            identity.call_at = identity.call_at.map(|at| at.min(earliest));
        }
    }

    fn release(&mut self, number: Number) {
        let Some(identity) = self.find(number) else { return };
        identity.wanted_by -= 1;
        if identity.wanted_by == 0 {
            self.identities.retain(|identity| identity.number != number);
            self.forsaken.push(number);
        }
    }

    fn skip(&mut self, span: Duration, now: Instant) {
        for identity in &mut self.identities {
            if let Some(expires_at) = identity.expires_at {
                identity.expires_at = Some((expires_at - span).max(now));
                identity.call_at = identity.call_at.map(|at| (at - span).max(now));
            }
        }
    }

    fn issued(&mut self, number: Number, lifetime: Lifetime, now: Instant) -> bool {
        self.calls -= 1;
        let Some(identity) = self.find(number) else {
            return false;
        };
        identity.call_at = Some(now + lifetime.renew_in);
        identity.expires_at = Some(now + lifetime.expires_in);
        identity.priority = Priority::Background;
        identity.failures = 0;
        identity.failed_at = None;
        true
    }

    fn failed(&mut self, number: Number, now: Instant, random: u64) -> bool {
        self.calls -= 1;
        let Some(identity) = self.find(number) else {
            return false;
        };
        identity.failures += 1;
        identity.failed_at = Some(now);
        identity.call_at = Some(now + back_off(identity.failures, random));
        true
    }

    fn next(&mut self, now: Instant) -> Step {
        if let Some(number) = self.forsaken.pop() {
            return Step::Withdraw(number);
        }
        loop {
            let due = self.timers().into_iter().filter(|(at, ..)| *at <= now).min();
            let Some((_, number, timer)) = due else { break };
            let place = self.place();
            let identity = self.find(number).unwrap();
            match timer {
                Timer::Expiry => {
                    identity.expires_at = None;
                    return Step::Withdraw(number);
                }
                Timer::Call => {
                    identity.call_at = None;
                    identity.place = Some(place);
                }
            }
        }
        if self.calls < self.limits.concurrent.get()
            && let Some(next) = self
                .identities
                .iter_mut()
                .filter(|identity| identity.place.is_some())
                .min_by_key(|identity| (Reverse(identity.priority), identity.place))
        {
            next.place = None;
            self.calls += 1;
            return Step::Call {
                number: next.number,
                id: next.id.clone(),
            };
        }
        Step::Wait(self.timers().into_iter().map(|(at, ..)| at).min())
    }

    fn timers(&self) -> Vec<(Instant, Number, Timer)> {
        let mut timers = Vec::new();
        for identity in &self.identities {
            timers.extend(identity.call_at.map(|at| (at, identity.number, Timer::Call)));
            timers.extend(identity.expires_at.map(|at| (at, identity.number, Timer::Expiry)));
        }
        timers
    }
}

#[derive(Clone, Debug)]
enum Event {
    Want(usize, Priority),
    Urge(usize, Priority),
    Release(usize),
    Issued(usize, Lifetime),
    Failed(usize, u64),
    Pass(Duration),
    Skip(Duration),
    UntilNext,
}

fn event() -> impl Strategy<Value = Event> {
    let priority = prop_oneof![
        Just(Priority::Background),
        Just(Priority::Warmup),
        Just(Priority::RealTime)
    ];
    let span = (1..40u64, 0..80u64).prop_map(|(renew, expire)| lifetime(renew, expire));
    prop_oneof![
        3 => (0..6usize, priority.clone()).prop_map(|(index, priority)| Event::Want(index, priority)),
        2 => (0..8usize, priority).prop_map(|(index, priority)| Event::Urge(index, priority)),
        2 => (0..8usize).prop_map(Event::Release),
        4 => (0..8usize, span).prop_map(|(index, span)| Event::Issued(index, span)),
        3 => (0..8usize, any::<u64>()).prop_map(|(index, random)| Event::Failed(index, random)),
        2 => (0..20_000u64).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
        1 => (0..100u64).prop_map(|seconds| Event::Skip(second(seconds))),
        3 => Just(Event::UntilNext),
    ]
}

proptest! {
    #[test]
    fn does_what_the_naive_one_does(
        events in proptest::collection::vec(event(), 0..120),
        identities in 1..6usize,
        concurrent in 1..4usize,
    ) {
        let limits = limits(identities, concurrent);
        let (mut schedule, mut naive) = (Schedule::new(limits), Naive::new(limits));
        let mut now = start();
        let mut wanted: Vec<Number> = Vec::new();
        let mut calls: Vec<Number> = Vec::new();
        let mut until = None;
        for event in events {
            match event {
                Event::Want(index, priority) => {
                    let number = schedule.want(&id(index), priority, now);
                    prop_assert_eq!(number, naive.want(&id(index), priority, now));
                    wanted.extend(number);
                }
                Event::Urge(index, priority) if !wanted.is_empty() => {
                    let number = wanted[index % wanted.len()];
                    schedule.urge(number, priority, now);
                    naive.urge(number, priority, now);
                }
                Event::Release(index) if !wanted.is_empty() => {
                    let number = wanted.swap_remove(index % wanted.len());
                    schedule.release(number);
                    naive.release(number);
                }
                Event::Issued(index, span) if !calls.is_empty() => {
                    let number = calls.swap_remove(index % calls.len());
                    prop_assert_eq!(schedule.issued(number, span, now), naive.issued(number, span, now));
                }
                Event::Failed(index, random) if !calls.is_empty() => {
                    let number = calls.swap_remove(index % calls.len());
                    prop_assert_eq!(schedule.failed(number, now, random), naive.failed(number, now, random));
                }
                Event::Pass(span) => now += span,
                Event::Skip(span) => {
                    schedule.skip(span, now);
                    naive.skip(span, now);
                }
                Event::UntilNext => now = until.unwrap_or(now).max(now),
                _ => {}
            }
            loop {
                let step = schedule.next(now);
                prop_assert_eq!(&step, &naive.next(now));
                match step {
                    Step::Call { number, .. } => calls.push(number),
                    Step::Withdraw(_) => {}
                    Step::Wait(at) => {
                        prop_assert!(at.is_none_or(|at| at > now));
                        until = at;
                        break;
                    }
                }
                prop_assert!(calls.len() <= concurrent);
            }
        }
    }
}
