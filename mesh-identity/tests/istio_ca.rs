//! Certificates from an Istio CA that may answer anything, in tokio's paused time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{error::Error, num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use mesh_identity::{
    SpiffeId, Svid, TrustBundle, TrustDomain, provider,
    source::{
        Follower, Source,
        dev_ca::{DevCa, Extension, KeyUsageBits, Name, Template},
        istio_ca::{
            AnswerError, CaAddress, CaConfig, CaError, CaRoots, ConnectError, IstioCa, LeaseError, Priority,
            RequestError,
        },
    },
};
use mesh_testkit::{
    clock::Calendar,
    istio_ca::{Answer, FakeIstioCa},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{task::JoinSet, time::Instant};

const HOUR: Duration = Duration::from_secs(3600);

fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

fn workload(index: usize) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/w{index}").parse().unwrap()
}

/// An authority, a token for it, and a source with its driver at work.
struct World {
    authority: FakeIstioCa,
    calendar: Calendar,
    token: tempfile::NamedTempFile,
    driver: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let calendar = Calendar::new();
        let authority = FakeIstioCa::new(trust_domain(), calendar.clone());
        authority.admit("own-token", workload(0));
        authority.admit_node("node-token", (0..40).map(workload));
        Self {
            authority,
            calendar,
            token: tempfile::NamedTempFile::new().unwrap(),
            driver: JoinSet::new(),
        }
    }

    fn write_token(&self, token: &str) {
        std::fs::write(self.token.path(), token).unwrap();
    }

    fn address() -> CaAddress {
        CaAddress::dangerous_plaintext("istiod.istio-system.svc", 15010).unwrap()
    }

    fn workload(&self) -> CaConfig {
        self.write_token("own-token\n");
        self.complete(CaConfig::workload(Self::address(), self.token.path(), workload(0)))
    }

    fn node_agent(&self) -> CaConfig {
        self.write_token("node-token");
        self.complete(CaConfig::node_agent(Self::address(), self.token.path(), trust_domain()))
    }

    fn complete(&self, config: CaConfig) -> CaConfig {
        config
            .dialer(self.authority.dialer())
            .clock(Arc::new(self.calendar.clone()))
    }

    fn start(&mut self, config: CaConfig) -> IstioCa {
        let (ca, driver) = IstioCa::new(config, provider::aws_lc_rs());
        self.driver.spawn(driver.run());
        ca
    }
}

/// The reason for which the driver has nothing newer.
fn problem(follower: &Follower) -> Option<String> {
    let problem = follower.problem()?;
    Some(problem.to_string())
}

async fn next_problem(follower: &mut Follower) -> String {
    loop {
        if let Some(problem) = problem(follower) {
            return problem;
        }
        follower.changed().await.unwrap();
    }
}

fn failure(error: LeaseError) -> Arc<CaError> {
    match error {
        LeaseError::Failed(error) => error,
        other => panic!("{other}"),
    }
}

fn same(one: &Arc<Svid>, other: Option<&Arc<Svid>>) -> bool {
    other.is_some_and(|other| Arc::ptr_eq(one, other))
}

#[tokio::test(start_paused = true)]
async fn a_workload_gets_its_own_certificate() {
    let mut world = World::new();
    let config = world.workload().cluster("west").unwrap().lifetime(HOUR);
    let ca = world.start(config);
    let snapshot = ca.follow().ready().await.unwrap();
    let svid = snapshot.default_svid().unwrap();
    assert_eq!(svid.id(), &workload(0));
    let bundle = snapshot.trust().get(&trust_domain()).unwrap();
    assert_eq!(bundle.len(), 1);
    let calls = world.authority.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].token.as_deref(), Some("own-token"));
    assert_eq!(calls[0].cluster.as_deref(), Some("west"));
    assert_eq!(calls[0].impersonated, None);
    assert_eq!(calls[0].signer, None);
    assert_eq!(calls[0].validity, HOUR);
    assert!(calls[0].csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_asks_for_nobody_else() {
    let mut world = World::new();
    let config = world.workload();
    let ca = world.start(config);
    assert_eq!(
        ca.request(&workload(1), Priority::RealTime).unwrap_err(),
        RequestError::NotOwn { own: workload(0) }
    );
    let mut own = ca.request(&workload(0), Priority::RealTime).unwrap();
    assert_eq!(own.svid().await.unwrap().id(), &workload(0));
    drop(own);
    // It was wanted before that lease, and still is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ca.follow().snapshot().default_svid().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_agent_names_whom_it_asks_for() {
    let mut world = World::new();
    let config = world.node_agent().signer("clusterissuers/mesh");
    let ca = world.start(config);
    assert!(world.authority.calls().is_empty());
    let mut lease = ca.request(&workload(3), Priority::Warmup).unwrap();
    assert_eq!(lease.svid().await.unwrap().id(), &workload(3));
    let call = &world.authority.calls()[0];
    assert_eq!(call.impersonated, Some(workload(3).to_string()));
    assert_eq!(call.signer.as_deref(), Some("clusterissuers/mesh"));
    assert_eq!(call.token.as_deref(), Some("node-token"));
}

#[tokio::test(start_paused = true)]
async fn a_node_agent_asks_for_workloads_of_its_trust_domain_only() {
    let mut world = World::new();
    let config = world.node_agent().identities(2);
    let ca = world.start(config);
    let foreign: SpiffeId = "spiffe://other.example/ns/shop/sa/w0".parse().unwrap();
    assert_eq!(
        ca.request(&foreign, Priority::RealTime).unwrap_err(),
        RequestError::ForeignTrustDomain {
            trust_domain: trust_domain()
        }
    );
    assert_eq!(
        ca.request(&SpiffeId::from(trust_domain()), Priority::RealTime)
            .unwrap_err(),
        RequestError::NoWorkload
    );
    let leases = [0, 1].map(|index| ca.request(&workload(index), Priority::RealTime).unwrap());
    assert_eq!(
        ca.request(&workload(2), Priority::RealTime).unwrap_err(),
        RequestError::TooMany { identities: 2 }
    );
    drop(leases);
    assert!(ca.request(&workload(2), Priority::RealTime).is_ok());
}

#[tokio::test(start_paused = true)]
async fn entitlement_is_the_authoritys_to_judge() {
    let mut world = World::new();
    let config = world.node_agent();
    let ca = world.start(config);
    let mut elsewhere = ca.request(&workload(77), Priority::RealTime).unwrap();
    let error = failure(elsewhere.svid().await.unwrap_err());
    let CaError::Status { code, message } = &*error else {
        panic!("{error}");
    };
    assert_eq!(*code, 16);
    assert_eq!(message, "the impersonated identity does not run on this node");
    world.write_token("own-token");
    let error = failure(elsewhere.svid().await.unwrap_err());
    assert!(error.to_string().contains("not a trusted node account"), "{error}");
    assert!(ca.follow().snapshot().is_empty());
    world.write_token("node-token");
    let mut here = ca.request(&workload(7), Priority::RealTime).unwrap();
    assert!(here.svid().await.is_ok());
    // One identity's success does not hide another's failure.
    let shown = next_problem(&mut ca.follow()).await;
    assert!(
        shown.starts_with("`spiffe://cluster.local/ns/shop/sa/w77`: "),
        "{shown}"
    );
    drop(elsewhere);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(problem(&ca.follow()), None);
}

type Judge = fn(&CaError) -> bool;

/// Every answer that must not be used, and what to say of it.
fn bad_answers() -> Vec<(&'static str, Answer, Judge)> {
    let stranger = DevCa::new(
        "other.example".parse().unwrap(),
        UnixTime::since_unix_epoch(Calendar::EPOCH),
    )
    .unwrap();
    let namesake = DevCa::new(trust_domain(), UnixTime::since_unix_epoch(Calendar::EPOCH)).unwrap();
    let (stranger, namesake) = (stranger.roots_pem(), namesake.roots_pem());
    let names = |name: &str| Some(Extension::names(&[Name::Uri(name.to_owned())]));
    let second = |seconds| UnixTime::since_unix_epoch(Calendar::EPOCH + Duration::from_secs(seconds));
    vec![
        (
            "a refusal",
            Answer::Status(7, "no\n".to_owned() + &"x".repeat(900)),
            |error| matches!(error, CaError::Status { code: 7, message } if message.len() < 220 && message.starts_with("no\\nx")),
        ),
        (
            "another identity",
            Answer::changed(move |t| t.names = names("spiffe://cluster.local/ns/shop/sa/w1")),
            |error| matches!(error, CaError::Answer(AnswerError::WrongIdentity { answered }) if *answered == workload(1)),
        ),
        (
            "the same name elsewhere",
            Answer::changed(move |t| t.names = names("spiffe://other.example/ns/shop/sa/w0")),
            |error| matches!(error, CaError::Answer(AnswerError::WrongIdentity { .. })),
        ),
        (
            "two identities",
            Answer::changed(|t| {
                let uri = |index| Name::Uri(workload(index).to_string());
                t.names = Some(Extension::names(&[uri(0), uri(1)]));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        ("no identity", Answer::changed(|t| t.names = None), |error| {
            matches!(error, CaError::Answer(AnswerError::Svid(_)))
        }),
        (
            "an authority",
            Answer::changed(|t| t.basic_constraints = Some(Extension::basic_constraints(true, None))),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "a key that signs certificates",
            Answer::changed(|t| {
                t.key_usage = Some(Extension::key_usage(
                    KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_CERT_SIGN,
                ));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "for servers only",
            Answer::changed(|t| {
                t.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::SERVER_AUTH]));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        ("expired", Answer::changed(move |t| t.not_after = second(0)), |error| {
            error.to_string().starts_with("the certificate expired at ")
        }),
        (
            "of the future",
            Answer::changed(move |t| t.not_before = second(1 << 25)),
            |error| error.to_string().starts_with("the certificate is not valid before "),
        ),
        ("another key", Answer::OtherKey, |error| {
            error.to_string() == "the key does not match the certificate"
        }),
        ("nothing", Answer::elements(Vec::clear), |error| {
            matches!(error, CaError::Answer(AnswerError::NoRoot { elements: 0 }))
        }),
        ("no root", Answer::elements(|elements| elements.truncate(1)), |error| {
            matches!(error, CaError::Answer(AnswerError::NoRoot { elements: 1 }))
        }),
        (
            "the root first",
            Answer::elements(|elements| elements.reverse()),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "a root of the same name",
            Answer::elements(move |elements| elements[1] = namesake.clone()),
            |error| matches!(error, CaError::Answer(AnswerError::Verify(_))),
        ),
        (
            "a root of another trust domain",
            Answer::elements(move |elements| elements[1].push_str(&stranger)),
            |error| matches!(error, CaError::Answer(AnswerError::Roots(_))),
        ),
        (
            "no PEM text",
            Answer::elements(|elements| elements[0] = "hello".to_owned()),
            |error| matches!(error, CaError::Answer(AnswerError::Pem { element: 1, .. })),
        ),
        (
            "a root cut short",
            Answer::elements(|elements| elements[1].truncate(200)),
            |error| matches!(error, CaError::Answer(AnswerError::Pem { element: 2, .. })),
        ),
        (
            "many elements",
            Answer::elements(|elements| {
                let leaf = elements[0].clone();
                elements.splice(0..0, std::iter::repeat_n(leaf, 20));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::TooManyElements { elements: 22 })),
        ),
        (
            "many certificates in one element",
            Answer::elements(|elements| elements[0] = elements[0].repeat(20)),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "more than a message may hold",
            Answer::elements(|elements| elements.push("x".repeat(2 << 20))),
            |error| matches!(error, CaError::Status { code: 11, .. }),
        ),
        (
            "silence",
            Answer::Silence,
            |error| matches!(error, CaError::Deadline { deadline } if deadline.as_secs() == 10),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_bad_answer_is_ever_published() {
    for (name, answer, judge) in bad_answers() {
        let mut world = World::new();
        world.authority.answer(answer);
        let config = world.workload();
        let ca = world.start(config);
        let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
        let error = failure(lease.svid().await.unwrap_err());
        assert!(judge(&error), "{name}: {error}");
        let follower = ca.follow();
        assert!(follower.snapshot().is_empty(), "{name}");
        assert_eq!(follower.snapshot().trust().iter().count(), 0, "{name}");
        assert!(problem(&follower).unwrap().ends_with(&error.to_string()), "{name}");
        world.authority.answer(Answer::Honest);
        assert!(lease.svid().await.is_ok(), "{name}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(problem(&follower), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_leaves_the_certificate_that_is_there() {
    for (name, answer, _) in bad_answers() {
        let mut world = World::new();
        let config = world.workload();
        let ca = world.start(config);
        let mut follower = ca.follow();
        let before = Arc::clone(follower.ready().await.unwrap().default_svid().unwrap());
        world.authority.answer(answer);
        next_problem(&mut follower).await;
        assert!(same(&before, follower.snapshot().default_svid()), "{name}");
        world.authority.answer(Answer::Honest);
        while problem(&follower).is_some() {
            follower.changed().await.unwrap();
        }
        assert!(!same(&before, follower.snapshot().default_svid()), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_half_way_with_a_new_key() {
    let mut world = World::new();
    world.authority.lifetime(Duration::from_secs(1000));
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    let mut last = Instant::now();
    for calls in 2..12 {
        world.authority.called(calls).await;
        let rest = (Instant::now() - last).as_secs_f64();
        assert!((449.0..=551.0).contains(&rest), "{rest}");
        last = Instant::now();
    }
    let calls = world.authority.calls();
    assert!(calls.windows(2).all(|pair| pair[0].csr != pair[1].csr));
}

#[tokio::test(start_paused = true)]
async fn proxies_that_start_together_do_not_stay_together() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.node_agent();
    let ca = world.start(config);
    let _leases: Vec<_> = (0..20)
        .map(|index| ca.request(&workload(index), Priority::Warmup).unwrap())
        .collect();
    world.authority.called(20).await;
    world.authority.called(21).await;
    let first = Instant::now();
    world.authority.called(40).await;
    assert!(first.elapsed() > Duration::from_secs(60), "{:?}", first.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_kept_until_it_expires_and_not_longer() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    let expiry = Instant::now() + HOUR;
    follower.ready().await.unwrap();
    world.authority.reachable(false);
    let shown = next_problem(&mut follower).await;
    assert!(shown.contains("no connection to the authority"), "{shown}");
    tokio::time::sleep_until(expiry - Duration::from_secs(2)).await;
    assert!(follower.snapshot().default_svid().is_some());
    tokio::time::sleep_until(expiry + Duration::from_secs(2)).await;
    let snapshot = follower.snapshot();
    assert!(snapshot.is_empty());
    assert_eq!(snapshot.trust().iter().count(), 0);
    assert!(problem(&follower).is_some());
    world.authority.reachable(true);
    follower.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waits_after_failures_grow_and_a_demand_cuts_them_short() {
    let mut world = World::new();
    world.authority.answer(Answer::Status(14, "restarting".to_owned()));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::Background).unwrap();
    let mut last = Instant::now();
    for (calls, seconds) in [(2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 16.0), (8, 32.0)] {
        world.authority.called(calls).await;
        let wait = last.elapsed().as_secs_f64() / seconds;
        assert!((0.79..=1.21).contains(&wait), "{wait}");
        last = Instant::now();
    }
    // The next attempt is a minute away.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.authority.answer(Answer::Honest);
    let asked = Instant::now();
    lease.svid().await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn demands_do_not_hammer_an_authority_that_refuses() {
    let mut world = World::new();
    world.authority.answer(Answer::Status(16, String::new()));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        lease.svid().await.unwrap_err();
    }
    let least = Duration::from_millis(500) * 48;
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_token_is_read_for_every_call() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    world.authority.admit("next-token", workload(0));
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    world.write_token("next-token");
    world.authority.revoke("own-token");
    world.authority.called(2).await;
    assert_eq!(world.authority.calls()[1].token.as_deref(), Some("next-token"));
    world.write_token("");
    let shown = next_problem(&mut follower).await;
    assert!(shown.ends_with("the token is empty"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn eight_calls_at_a_time_and_the_urgent_first() {
    let mut world = World::new();
    world.authority.delay(Duration::from_secs(1));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut leases: Vec<_> = (0..20)
        .map(|index| ca.request(&workload(index), Priority::Background).unwrap())
        .collect();
    world.authority.called(8).await;
    let mut urgent = ca.request(&workload(30), Priority::RealTime).unwrap();
    let warm = ca.request(&workload(31), Priority::Warmup).unwrap();
    urgent.svid().await.unwrap();
    for lease in &mut leases {
        lease.svid().await.unwrap();
    }
    assert_eq!(world.authority.most_at_once(), 8);
    let order: Vec<_> = world
        .authority
        .calls()
        .into_iter()
        .map(|call| call.impersonated.unwrap())
        .collect();
    assert_eq!(order[8], workload(30).to_string());
    assert_eq!(order[9], workload(31).to_string());
    assert_eq!(order.len(), 22);
    drop(warm);
    let config = world.node_agent().concurrent(NonZeroUsize::MIN);
    let mut slow = World::new();
    slow.authority.delay(Duration::from_secs(1));
    let config = config
        .dialer(slow.authority.dialer())
        .clock(Arc::new(slow.calendar.clone()));
    let ca = slow.start(config);
    let _leases = [0, 1, 2].map(|index| ca.request(&workload(index), Priority::RealTime).unwrap());
    slow.authority.called(3).await;
    assert_eq!(slow.authority.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_released_identity_goes_out_of_use() {
    let mut world = World::new();
    let config = world.node_agent();
    let ca = world.start(config);
    let mut stays = ca.request(&workload(0), Priority::RealTime).unwrap();
    let mut goes = ca.request(&workload(1), Priority::RealTime).unwrap();
    let twin = ca.request(&workload(1), Priority::RealTime).unwrap();
    stays.svid().await.unwrap();
    let first = goes.svid().await.unwrap();
    let mut follower = ca.follow();
    while follower.snapshot().svids().len() < 2 {
        follower.changed().await.unwrap();
    }
    drop(goes);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(same(&first, twin.current().as_ref()));
    assert!(same(&first, follower.snapshot().svid(&workload(1))));
    drop(twin);
    follower.changed().await.unwrap();
    let snapshot = follower.snapshot();
    assert_eq!(snapshot.svids().len(), 1);
    assert_eq!(snapshot.default_svid().unwrap().id(), &workload(0));
    let mut again = ca.request(&workload(1), Priority::RealTime).unwrap();
    assert!(!same(&first, Some(&again.svid().await.unwrap())));
}

#[tokio::test(start_paused = true)]
async fn roots_are_those_of_the_certificates_in_use() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.node_agent();
    let ca = world.start(config);
    let mut old = ca.request(&workload(0), Priority::RealTime).unwrap();
    old.svid().await.unwrap();
    let before = world.authority.root();
    let after = world.authority.rotate();
    let mut new = ca.request(&workload(1), Priority::RealTime).unwrap();
    new.svid().await.unwrap();
    let mut follower = ca.follow();
    while follower.snapshot().svids().len() < 2 {
        follower.changed().await.unwrap();
    }
    assert!(trusts(&follower, &before) && trusts(&follower, &after));
    drop(old);
    follower.changed().await.unwrap();
    assert!(!trusts(&follower, &before) && trusts(&follower, &after));
}

#[tokio::test(start_paused = true)]
async fn several_roots_may_come_in_one_element() {
    let mut world = World::new();
    let next = DevCa::new(trust_domain(), world.calendar.now()).unwrap();
    let roots = vec![next.root_certificate().clone(), world.authority.root()];
    world.authority.hand_out(roots.clone());
    world.authority.delegate();
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    let snapshot = follower.ready().await.unwrap();
    assert_eq!(snapshot.default_svid().unwrap().chain().len(), 2);
    assert!(roots.iter().all(|root| trusts(&follower, root)));
}

#[tokio::test(start_paused = true)]
async fn configured_roots_are_believed_in_place_of_those_in_the_answer() {
    let mut world = World::new();
    let other = DevCa::new(trust_domain(), world.calendar.now()).unwrap();
    let config = world.workload().roots(other.bundle().unwrap());
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let error = failure(lease.svid().await.unwrap_err());
    assert!(matches!(*error, CaError::Answer(AnswerError::Verify(_))), "{error}");
    let mut world = World::new();
    let own = TrustBundle::new(trust_domain(), [world.authority.root()]).unwrap();
    world.authority.hand_out(vec![other.root_certificate().clone()]);
    let config = world.workload().roots(own);
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    assert!(trusts(&follower, &world.authority.root()));
    assert!(!trusts(&follower, other.root_certificate()));
}

/// Whether a certificate under `root` would be believed, told by the root's key.
fn trusts(follower: &Follower, root: &CertificateDer<'_>) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let (_, certificate) = X509Certificate::from_der(root).unwrap();
    let snapshot = follower.snapshot();
    let bundle = snapshot.trust().get(&trust_domain()).unwrap();
    bundle.has_anchor(certificate.public_key().raw)
}

fn secure(world: &World, roots: CaRoots, name: Option<&str>) -> CaConfig {
    let mut address = CaAddress::new("istiod.istio-system.svc", 15012, roots).unwrap();
    if let Some(name) = name {
        address = address.server_name(name).unwrap();
    }
    world.write_token("own-token");
    world.complete(CaConfig::workload(address, world.token.path(), workload(0)))
}

#[tokio::test(start_paused = true)]
async fn the_authority_is_known_by_name_and_root() {
    let mut world = World::new();
    let text = world.authority.require_tls("istiod.istio-system.svc");
    let roots = || CaRoots::from_pem(text.as_bytes()).unwrap();
    let config = secure(&world, roots(), None);
    world.start(config).follow().ready().await.unwrap();
    let stranger = DevCa::new("web.example".parse().unwrap(), world.calendar.now()).unwrap();
    let other = CaRoots::from_pem(stranger.roots_pem().as_bytes()).unwrap();
    for (roots, name) in [
        (other, None),
        (roots(), Some("istiod.other.svc")),
        (roots(), Some("10.0.0.1")),
    ] {
        let config = secure(&world, roots, name);
        let ca = world.start(config);
        let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
        let error = failure(lease.svid().await.unwrap_err());
        assert!(matches!(&*error, CaError::Connect(ConnectError::Tls(_))), "{error}");
    }
    // The token went nowhere but to the authority.
    assert_eq!(world.authority.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_file_of_the_authoritys_roots_is_read_for_every_connection() {
    let mut world = World::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(Path::new(file.path()), text).unwrap();
    write("");
    let config = secure(&world, CaRoots::file(file.path()), None);
    let ca = world.start(config);
    let mut follower = ca.follow();
    let shown = next_problem(&mut follower).await;
    assert!(shown.ends_with("no certificate found"), "{shown}");
    for name in ["istiod.istio-system.svc"; 2] {
        let calls = world.authority.calls().len();
        write(&world.authority.require_tls(name));
        world.authority.lifetime(HOUR);
        world.authority.called(calls + 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle_and_takes_hope_with_it() {
    let mut world = World::new();
    world.authority.answer(Answer::Silence);
    let config = world.node_agent();
    let ca = world.start(config);
    let lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let mut follower = ca.follow();
    drop(ca);
    world.authority.called(1).await;
    assert!(world.driver.try_join_next().is_none());
    drop(lease);
    world.driver.join_next().await.unwrap().unwrap();
    assert!(follower.changed().await.is_err());

    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let (waited, ()) = tokio::join!(lease.svid(), async { world.driver.shutdown().await });
    assert!(matches!(waited.unwrap_err(), LeaseError::Ended));
    assert_eq!(
        ca.request(&workload(1), Priority::RealTime).unwrap_err(),
        RequestError::Ended
    );
}

#[tokio::test(start_paused = true)]
async fn neither_tokens_nor_keys_are_shown() {
    let mut world = World::new();
    world.authority.answer(Answer::OtherKey);
    let config = world.workload();
    let shown = format!("{config:?}");
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let error = failure(lease.svid().await.unwrap_err());
    let mut causes = format!("{error:?}");
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        causes.push_str(&format!("{error:?} {error}"));
        cause = error.source();
    }
    let shown = format!("{shown}{ca:?}{lease:?}{causes}{:?}", ca.follow());
    assert!(!shown.contains("own-token") && !shown.contains("PRIVATE"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn templates_of_the_authority_are_honest_by_default() {
    // Guards the other tests: were every answer bad, they would prove nothing.
    let mut world = World::new();
    world.authority.answer(Answer::changed(|template: &mut Template| {
        assert_eq!(template.names, Template::leaf(&workload(0), UnixTime::now()).names);
    }));
    let config = world.workload();
    assert!(world.start(config).follow().ready().await.is_ok());
}
