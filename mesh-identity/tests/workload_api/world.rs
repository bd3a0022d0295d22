//! A workload, its agent, and the authorities behind both.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mesh_identity::{
    Role, SpiffeId, TrustDomain, VerifiedPeer, VerifyError, provider,
    source::{
        Follower, Snapshot, Source as _,
        dev_ca::{DevCa, Issued, Template},
        workload_api::{Config, WorkloadApi},
    },
    verify,
};
use mesh_testkit::clock::Calendar;
use mesh_testkit::workload_api::{FakeWorkloadApi, X509Entry, X509Message};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::task::JoinSet;

/// What the clock shows when a test begins.
pub const NOW: u64 = Calendar::EPOCH.as_secs();

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

pub fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub fn cart() -> SpiffeId {
    id("spiffe://home/cart")
}

pub fn till() -> SpiffeId {
    id("spiffe://home/till")
}

/// A clock that can be read at some times only.
#[derive(Debug)]
pub struct Unsteady {
    calendar: Calendar,
    stands: AtomicBool,
}

impl Unsteady {
    /// One that cannot be read yet.
    pub fn standing() -> Arc<Self> {
        Arc::new(Self {
            calendar: Calendar::new(),
            stands: AtomicBool::new(true),
        })
    }

    pub fn go(&self) {
        self.stands.store(false, Ordering::Relaxed);
    }
}

impl TimeProvider for Unsteady {
    fn current_time(&self) -> Option<UnixTime> {
        let stands = self.stands.load(Ordering::Relaxed);
        (!stands).then(|| self.calendar.now())
    }
}

pub struct World {
    pub home: DevCa,
    pub abroad: DevCa,
    pub agent: FakeWorkloadApi,
    pub clock: Calendar,
    pub driver: JoinSet<()>,
}

impl World {
    pub fn new() -> Self {
        let authority = |name| DevCa::new(td(name), at(NOW)).unwrap();
        Self {
            home: authority("home"),
            abroad: authority("abroad"),
            agent: FakeWorkloadApi::new(),
            clock: Calendar::new(),
            driver: JoinSet::new(),
        }
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new(provider::aws_lc_rs());
        config.set_clock(Arc::new(self.clock.clone()));
        config
    }

    /// A source on this world's agent.
    pub fn connect(&mut self) -> (WorkloadApi, Follower) {
        self.connect_with(|_| {})
    }

    pub fn connect_with(&mut self, adjust: impl FnOnce(&mut Config)) -> (WorkloadApi, Follower) {
        let mut config = self.config();
        adjust(&mut config);
        let (api, driver) = WorkloadApi::over(self.agent.connector(), config);
        self.driver.spawn(driver);
        let follower = api.follow();
        (api, follower)
    }

    pub fn issue(&self, id: &SpiffeId) -> Issued {
        self.home.issue(id, self.clock.now()).unwrap()
    }

    /// A certificate that is valid for `lifetime` from now on.
    pub fn issue_for(&self, id: &SpiffeId, lifetime: u64) -> Issued {
        let now = self.clock.now();
        let template = Template {
            not_after: at(now.as_secs() + lifetime),
            ..Template::leaf(id, now)
        };
        self.home.issue_with(template).unwrap()
    }

    pub fn entry(&self, id: &SpiffeId) -> X509Entry {
        X509Entry::new(id, &self.issue(id), [self.home.root_certificate()])
    }

    /// A message as it should be: the cart, and its own trust domain.
    pub fn message(&self) -> X509Message {
        X509Message::new().with(self.entry(&cart()))
    }
}

/// Waits for what the source has next: a snapshot, or a problem.
pub async fn next(follower: &mut Follower) -> Arc<Snapshot> {
    follower.changed().await.unwrap();
    follower.snapshot()
}

/// Waits for the next problem.
pub async fn problem(follower: &mut Follower) -> String {
    loop {
        follower.changed().await.unwrap();
        if let Some(problem) = follower.problem() {
            return problem.to_string();
        }
    }
}

/// What is said of a certificate under what the source trusts.
pub fn judge(snapshot: &Snapshot, issued: &Issued, now: UnixTime) -> Result<VerifiedPeer, VerifyError> {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    verify(issued.chain(), Role::Client, snapshot.trust(), now, algorithms)
}

pub fn ids(snapshot: &Snapshot) -> Vec<&SpiffeId> {
    snapshot.svids().iter().map(|svid| svid.id()).collect()
}
