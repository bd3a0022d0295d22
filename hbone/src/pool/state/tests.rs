//! The state against a model that remembers everything in flat lists, and after each event looks
//! at all of them until nothing is left to do.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const FOREVER: Duration = Duration::from_secs(1 << 20);

/// An event; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    Acquire { key: u8, refused_by: Option<usize> },
    Cancel(usize),
    Release(usize),
    Connect { dial: usize, limit: usize },
    FailDial(usize),
    Limit { conn: usize, limit: usize },
    Prove(usize),
    Go(usize),
    End(usize),
    Pass(Duration),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let nth = 0_usize..16;
    prop_oneof![
        8 => (0_u8..4, prop::option::of(0_usize..6)).prop_map(|(key, refused_by)| Op::Acquire { key, refused_by }),
        2 => nth.clone().prop_map(Op::Cancel),
        5 => nth.clone().prop_map(Op::Release),
        6 => (nth.clone(), 0_usize..4).prop_map(|(dial, limit)| Op::Connect { dial, limit }),
        2 => nth.clone().prop_map(Op::FailDial),
        2 => (nth.clone(), 0_usize..4).prop_map(|(conn, limit)| Op::Limit { conn, limit }),
        2 => nth.clone().prop_map(Op::Prove),
        1 => nth.clone().prop_map(Op::Go),
        2 => nth.prop_map(Op::End),
        4 => (0_u64..30_000).prop_map(|time| Op::Pass(Duration::from_millis(time))),
        1 => Just(Op::Close),
    ]
}

fn config() -> impl Strategy<Value = PoolConfig> {
    (1_usize..6, 1_usize..4, 1_usize..4, 0_usize..6).prop_map(|(connections, per_key, spread, waiters)| {
        let mut config = PoolConfig::default();
        config
            .set_max_connections(connections)
            .set_max_connections_per_key(per_key)
            .set_spread_above(spread)
            .set_max_waiters_per_key(waiters)
            .set_idle_timeout(Duration::from_secs(20))
            .set_max_age(Some(Duration::from_secs(60)))
            .set_backoff(Duration::from_secs(1), Duration::from_secs(8));
        config
    })
}

#[derive(Clone, Debug)]
struct ModelConn {
    name: u64,
    key: u8,
    limit: usize,
    held: usize,
    phase: Phase,
    idle_since: Instant,
    expires_at: Instant,
    proven: bool,
}

#[derive(Clone, Debug)]
struct ModelFailure {
    key: u8,
    count: u32,
    error: u32,
    retry_at: Instant,
    forget_at: Instant,
}

/// What the model sees come out: the same words for the state's actions.
type Outcome = Vec<String>;

struct Model {
    config: PoolConfig,
    random: Random,
    conns: Vec<ModelConn>,
    /// Call, key, and the connections that it avoids.
    waiters: Vec<(u32, u8, Vec<u64>)>,
    dialing: Vec<u8>,
    blocked: Vec<u8>,
    failures: Vec<ModelFailure>,
    closed: bool,
    outcome: Outcome,
}

impl Model {
    fn usable(&self, key: u8) -> impl Iterator<Item = &ModelConn> {
        self.conns
            .iter()
            .filter(move |conn| conn.key == key && conn.phase == Phase::Usable)
    }

    fn best(&self, key: u8, avoid: &[u64]) -> Option<u64> {
        let fit = self
            .usable(key)
            .filter(|conn| conn.held < conn.limit && !avoid.contains(&conn.name));
        fit.min_by_key(|conn| (conn.held, conn.name)).map(|conn| conn.name)
    }

    fn conn(&mut self, name: u64) -> &mut ModelConn {
        self.conns.iter_mut().find(|conn| conn.name == name).unwrap()
    }

    fn held_off(&self, key: u8, now: Instant) -> Option<ModelFailure> {
        let hopeless = self.usable(key).next().is_none() && !self.dialing.contains(&key);
        let failure = self
            .failures
            .iter()
            .find(|failure| failure.key == key && now < failure.retry_at);
        failure.filter(|_| hopeless).cloned()
    }

    fn may_dial(&self, key: u8, now: Instant) -> bool {
        let held_off = self
            .failures
            .iter()
            .any(|failure| failure.key == key && now < failure.retry_at);
        let shut = self.usable(key).any(|conn| conn.limit == 0);
        let most = self.usable(key).count() >= self.config.max_connections_per_key;
        !(self.closed || self.dialing.contains(&key) || held_off || shut || most)
    }

    fn has_room(&self) -> bool {
        let live = self.conns.iter().filter(|conn| conn.phase != Phase::Ended).count();
        live + self.dialing.len() < self.config.max_connections
    }

    fn dial(&mut self, key: u8) {
        self.dialing.push(key);
        self.outcome.push(format!("dial {key}"));
    }

    fn acquire(&mut self, call: u32, key: u8, avoid: Vec<u64>, now: Instant) {
        if self.closed {
            return self.outcome.push("closed".into());
        }
        if let Some(name) = self.best(key, &avoid) {
            let busy = self.conn(name).held >= self.config.spread_above;
            self.conn(name).held += 1;
            self.outcome.push(format!("{call} on {name}"));
            if busy && self.has_room() && self.may_dial(key, now) {
                self.dial(key);
            }
        } else if let Some(failure) = self.held_off(key, now) {
            self.outcome.push(format!("held off by {}", failure.error));
        } else if self.waiters.iter().filter(|waiter| waiter.1 == key).count() >= self.config.max_waiters_per_key {
            self.outcome.push("crowded".into());
        } else {
            self.waiters.push((call, key, avoid));
        }
    }

    /// Does what is to be done, until nothing is.
    fn settle(&mut self, now: Instant) {
        while self.grant(true) || self.dial_for_waiters(now) || self.grant(false) || self.make_room(now) {}
        let waiters = mem::take(&mut self.waiters);
        for waiter in waiters {
            match self.held_off(waiter.1, now) {
                Some(failure) => self.outcome.push(format!("{} held off by {}", waiter.0, failure.error)),
                None => self.waiters.push(waiter),
            }
        }
        self.make_room(now);
        self.conns.retain(|conn| conn.phase != Phase::Ended || conn.held > 0);
    }

    fn grant(&mut self, picky: bool) -> bool {
        for at in 0..self.waiters.len() {
            let (call, key, avoid) = self.waiters[at].clone();
            let avoid = if picky || self.dialing.contains(&key) {
                avoid
            } else {
                Vec::new()
            };
            if let Some(name) = self.best(key, &avoid) {
                self.conn(name).held += 1;
                self.outcome.push(format!("{call} on {name}"));
                self.waiters.remove(at);
                return true;
            }
        }
        false
    }

    fn dial_for_waiters(&mut self, now: Instant) -> bool {
        let mut keys = self.blocked.clone();
        keys.extend(self.waiters.iter().map(|waiter| waiter.1));
        for key in keys {
            let wanted = self.waiters.iter().any(|waiter| waiter.1 == key) && self.may_dial(key, now);
            if wanted && self.has_room() {
                self.blocked.retain(|blocked| *blocked != key);
                self.dial(key);
                return true;
            } else if wanted && !self.blocked.contains(&key) {
                self.blocked.push(key);
                return true;
            }
        }
        false
    }

    fn make_room(&mut self, now: Instant) -> bool {
        let mut blocked = mem::take(&mut self.blocked);
        blocked.retain(|key| self.waiters.iter().any(|waiter| waiter.1 == *key) && self.may_dial(*key, now));
        self.blocked = blocked;
        let closing = self.conns.iter().filter(|conn| conn.phase == Phase::Closing).count();
        let waits = |key| self.waiters.iter().any(|waiter| waiter.1 == key);
        let oldest = self
            .conns
            .iter()
            .filter(|conn| conn.phase == Phase::Usable && conn.held == 0 && !waits(conn.key))
            .min_by_key(|conn| (conn.idle_since, conn.name))
            .map(|conn| conn.name);
        match oldest.filter(|_| closing < self.blocked.len()) {
            Some(name) => {
                self.outcome.push(format!("evict {:?}", Eviction::Room));
                self.retire(name);
                true
            }
            None => false,
        }
    }

    fn retire(&mut self, name: u64) {
        let conn = self.conn(name);
        conn.phase = Phase::Retired;
        if conn.held == 0 {
            conn.phase = Phase::Closing;
            self.outcome.push(format!("close {name}"));
        }
    }

    fn fail(&mut self, key: u8, error: u32, lenient: bool, now: Instant) {
        if self.closed {
            return;
        }
        let before = self.failures.iter().position(|failure| failure.key == key);
        let count = before.map_or(0, |at| self.failures.remove(at).count) + 1;
        let full = if lenient && count == 1 {
            0
        } else {
            1 << (count - 1).min(3)
        };
        let full = Duration::from_secs(full);
        let retry_at = now + self.random.shorten(full, 2);
        assert!(retry_at <= now + full && retry_at >= now + full / 2);
        self.failures.push(ModelFailure {
            key,
            count,
            error,
            retry_at,
            forget_at: retry_at + Duration::from_secs(8),
        });
        self.outcome.push(format!("failure {count}"));
    }

    fn fail_dial(&mut self, key: u8, error: u32, now: Instant) {
        self.dialing.retain(|dialing| *dialing != key);
        self.fail(key, error, false, now);
        if self.usable(key).next().is_none() {
            let waiters = mem::take(&mut self.waiters);
            let (failed, others): (Vec<_>, Vec<_>) = waiters.into_iter().partition(|waiter| waiter.1 == key);
            let failed = failed.iter().map(|waiter| format!("{} fails by {error}", waiter.0));
            self.outcome.extend(failed);
            self.waiters = others;
        }
    }

    fn go(&mut self, name: u64, error: u32, now: Instant) {
        let conn = self.conn(name).clone();
        if conn.phase == Phase::Usable {
            self.retire(name);
            if !conn.proven {
                self.fail(conn.key, error, true, now);
            }
        }
    }

    fn end(&mut self, name: u64, error: u32, now: Instant) {
        let conn = self.conn(name).clone();
        self.conn(name).phase = Phase::Ended;
        if conn.phase == Phase::Usable && !conn.proven {
            self.fail(conn.key, error, true, now);
        }
    }

    fn release(&mut self, name: u64, now: Instant) {
        let conn = self.conn(name);
        conn.held -= 1;
        conn.idle_since = now;
        if conn.phase == Phase::Retired {
            self.retire(name);
        }
    }

    fn tick(&mut self, now: Instant) {
        for conn in self.conns.clone() {
            let idle = conn.held == 0 && conn.idle_since + self.config.idle_timeout <= now;
            let aged = conn.expires_at <= now;
            if conn.phase == Phase::Usable && (idle || aged) {
                let reason = if aged { Eviction::Age } else { Eviction::Idle };
                self.outcome.push(format!("evict {reason:?}"));
                self.retire(conn.name);
            }
        }
        self.failures.retain(|failure| now < failure.forget_at);
    }

    /// The next instant at which time alone changes something.
    fn next_due(&self, now: Instant) -> Instant {
        let usable = self.conns.iter().filter(|conn| conn.phase == Phase::Usable);
        let ends = usable.map(|conn| {
            let idle = conn.idle_since + self.config.idle_timeout;
            if conn.held == 0 {
                conn.expires_at.min(idle)
            } else {
                conn.expires_at
            }
        });
        let failures = self.failures.iter();
        let retries = failures
            .clone()
            .filter(|failure| self.waiters.iter().any(|waiter| waiter.1 == failure.key));
        let retries = retries.map(|failure| failure.retry_at);
        let all = ends.chain(retries).chain(failures.map(|failure| failure.forget_at));
        all.filter(|at| now < *at).min().unwrap_or(now + FOREVER)
    }

    fn keys(&self) -> usize {
        let mut keys: Vec<u8> = self.waiters.iter().map(|waiter| waiter.1).collect();
        keys.extend(&self.dialing);
        keys.extend(self.failures.iter().map(|failure| failure.key));
        keys.extend(
            self.conns
                .iter()
                .filter(|conn| conn.phase == Phase::Usable)
                .map(|conn| conn.key),
        );
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}

/// The state, and what its actions led to.
struct Subject {
    state: State<u8, u64, u32, u32>,
    waiting: Vec<(u32, WaiterId)>,
    dials: Vec<(GroupId, u8)>,
    held: Vec<ConnId>,
    /// Those of which the end was not told.
    conns: Vec<ConnId>,
    outcome: Outcome,
}

impl Subject {
    fn hold(&mut self, call: u32, conn: ConnId) {
        self.outcome.push(format!("{call} on {}", conn.serial));
        self.held.push(conn);
    }

    fn obey(&mut self) {
        for action in self.state.take_actions() {
            match action {
                Action::Dial { group, key } => {
                    self.outcome.push(format!("dial {key}"));
                    self.dials.push((group, *key));
                }
                Action::Grant { call, place } => {
                    self.waiting.retain(|waiting| waiting.0 != call);
                    self.hold(call, place.conn);
                }
                Action::Fail { call, refusal } => {
                    self.waiting.retain(|waiting| waiting.0 != call);
                    self.outcome.push(match refusal {
                        Refusal::Dial(error) => format!("{call} fails by {error}"),
                        Refusal::HeldOff { error, .. } => format!("{call} held off by {error}"),
                        Refusal::Crowded => format!("{call} crowded"),
                        Refusal::Closed => format!("{call} closed"),
                    });
                }
                Action::Close(handle) => self.outcome.push(format!("close {handle}")),
                Action::Observe(Event::PoolEvicted { reason, .. }) => self.outcome.push(format!("evict {reason:?}")),
                Action::Observe(Event::PoolDialFailed { failures, .. }) => {
                    self.outcome.push(format!("failure {failures}"));
                }
                Action::Observe(event) => panic!("{event:?}"),
                Action::Rearm => {}
            }
        }
    }
}

struct Race {
    subject: Subject,
    model: Model,
    now: Instant,
    count: u32,
}

impl Race {
    #[expect(clippy::disallowed_methods, reason = "only a place to count from")]
    fn new(config: &PoolConfig) -> Self {
        Self {
            subject: Subject {
                state: State::new(config.clone(), 5),
                waiting: Vec::new(),
                dials: Vec::new(),
                held: Vec::new(),
                conns: Vec::new(),
                outcome: Vec::new(),
            },
            model: Model {
                config: config.clone(),
                random: Random::new(5),
                conns: Vec::new(),
                waiters: Vec::new(),
                dialing: Vec::new(),
                blocked: Vec::new(),
                failures: Vec::new(),
                closed: false,
                outcome: Vec::new(),
            },
            now: Instant::now(),
            count: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        self.count += 1;
        let (count, now) = (self.count, self.now);
        let Self { subject, model, .. } = self;
        match *op {
            Op::Acquire { key, refused_by } => {
                let avoid = refused_by.and_then(|nth| subject.conns.get(nth)).copied();
                model.acquire(count, key, avoid.iter().map(|conn| conn.serial).collect(), now);
                match subject.state.acquire(&key, avoid.as_slice(), || count, now) {
                    Acquired::Ready(place) => subject.hold(count, place.conn),
                    Acquired::Waiting(waiter) => subject.waiting.push((count, waiter)),
                    Acquired::Refused(Refusal::HeldOff { error, .. }) => {
                        subject.outcome.push(format!("held off by {error}"));
                    }
                    Acquired::Refused(Refusal::Crowded) => subject.outcome.push("crowded".into()),
                    Acquired::Refused(Refusal::Closed) => subject.outcome.push("closed".into()),
                    Acquired::Refused(refusal @ Refusal::Dial(_)) => panic!("{refusal:?}"),
                }
            }
            Op::Cancel(nth) => {
                if let Some((call, waiter)) = take(&mut subject.waiting, nth) {
                    model.waiters.retain(|waiter| waiter.0 != call);
                    assert_eq!(subject.state.cancel(waiter), Some(call));
                }
            }
            Op::Release(nth) => {
                if let Some(conn) = take(&mut subject.held, nth) {
                    model.release(conn.serial, now);
                    subject.state.release(conn, now);
                }
            }
            Op::Connect { dial, limit } => self.connect(dial, limit),
            Op::FailDial(nth) => {
                if let Some((group, key)) = take(&mut subject.dials, nth) {
                    model.fail_dial(key, count, now);
                    subject.state.dial_failed(group, count, now);
                }
            }
            Op::Limit { conn, limit } => {
                if let Some(conn) = pick(&subject.conns, conn) {
                    model.conn(conn.serial).limit = limit;
                    subject.state.limited(conn, limit, now);
                }
            }
            Op::Prove(nth) => {
                if let Some(conn) = pick(&subject.conns, nth) {
                    model.conn(conn.serial).proven = true;
                    let (key, phase) = (model.conn(conn.serial).key, model.conn(conn.serial).phase);
                    model
                        .failures
                        .retain(|failure| failure.key != key || phase != Phase::Usable);
                    subject.state.proven(conn, now);
                }
            }
            Op::Go(nth) => {
                if let Some(conn) = pick(&subject.conns, nth) {
                    model.go(conn.serial, count, now);
                    subject.state.gone(conn, count, now);
                }
            }
            Op::End(nth) => {
                if let Some(conn) = take(&mut subject.conns, nth) {
                    model.end(conn.serial, count, now);
                    subject.state.ended(conn, count, now);
                }
            }
            Op::Pass(time) => return self.pass(time),
            Op::Close => {
                model.closed = true;
                let waiters = mem::take(&mut model.waiters);
                model
                    .outcome
                    .extend(waiters.iter().map(|waiter| format!("{} closed", waiter.0)));
                let usable = model.conns.iter().filter(|conn| conn.phase == Phase::Usable);
                let names: Vec<u64> = usable.map(|conn| conn.name).collect();
                names.into_iter().for_each(|name| model.retire(name));
                subject.state.close();
            }
        }
        self.compare();
    }

    fn connect(&mut self, dial: usize, limit: usize) {
        let Self {
            subject, model, now, ..
        } = self;
        let now = *now;
        let Some((group, key)) = take(&mut subject.dials, dial) else {
            return;
        };
        let name = subject.state.serial + 1;
        let conn = subject.state.connected(group, name, limit, now);
        subject.conns.push(conn);
        model.dialing.retain(|dialing| *dialing != key);
        model.conns.push(ModelConn {
            name,
            key,
            limit,
            held: 0,
            phase: Phase::Usable,
            idle_since: now,
            expires_at: now + model.random.shorten(Duration::from_secs(60), 8),
            proven: false,
        });
        if model.closed {
            model.retire(name);
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = self.model.next_due(self.now);
            let wake_at = self.subject.state.wake_at().unwrap_or(self.now + FOREVER);
            assert!(wake_at <= due, "the state oversleeps");
            if wake_at > until {
                break;
            }
            self.now = self.now.max(wake_at);
            self.subject.state.tick(self.now);
            self.model.tick(self.now);
            self.compare();
        }
        self.now = until;
    }

    fn compare(&mut self) {
        self.model.settle(self.now);
        self.subject.obey();
        let stats = self.subject.state.stats();
        let Self { subject, model, .. } = self;
        subject.outcome.sort();
        model.outcome.sort();
        assert_eq!(subject.outcome, model.outcome);
        subject.outcome.clear();
        model.outcome.clear();
        assert_eq!(stats.waiting, model.waiters.len());
        assert_eq!(stats.tunnels, model.conns.iter().map(|conn| conn.held).sum::<usize>());
        assert_eq!(stats.connections, subject.conns.len());
        assert_eq!(stats.keys, model.keys());
    }
}

fn take<T>(list: &mut Vec<T>, nth: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(nth % list.len()))
}

fn pick<T: Copy>(list: &[T], nth: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[nth % list.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn does_what_the_model_does(config in config(), ops in prop::collection::vec(op(), 0..150)) {
        let mut race = Race::new(&config);
        ops.iter().for_each(|op| race.run(op));
    }
}
