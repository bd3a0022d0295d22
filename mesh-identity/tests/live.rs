//! Open connections: which ones a change closes, with which reason, and which ones it does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use mesh_identity::{
    PeerPolicy, Profile, RevocationList, Role, SpiffeId, TrustBundle, TrustBundles, TrustDomainAliases, VerifiedPeer,
    live::{ClosePolicy, CloseReason, Guard, Live, Scope, Urgency},
    provider,
    source::{
        Publisher, Snapshot, Source, SourceEnded,
        dev_ca::{DevCa, DevCaSource, Issued, Template},
    },
    verify_under,
};
use mesh_testkit::clock::Calendar;
use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};
use support::*;

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

struct World {
    publisher: Arc<Publisher>,
    clock: Arc<Manual>,
    own: Arc<mesh_identity::Svid>,
    live: Live,
    driver: Driver,
    /// For timers, which the driver sets.
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new(trust: TrustBundles) -> Self {
        Self::with(trust, provider::aws_lc_rs(), Profile::istio(), ClosePolicy::default())
    }

    fn with(trust: TrustBundles, provider: Arc<CryptoProvider>, profile: Profile, policy: ClosePolicy) -> Self {
        let (publisher, clock) = (Arc::new(Publisher::new()), Arc::new(Manual::default()));
        clock.set(Some(now()));
        let own = svid(&ca(TD).issue(&workload(), now()).unwrap(), &provider);
        let (live, driver) = Live::builder(publisher.follow(), provider)
            .profile(profile)
            .close_policy(policy)
            .clock(Arc::clone(&clock) as _)
            .build();
        let world = Self {
            publisher,
            clock,
            own,
            live,
            driver: Box::pin(driver),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap(),
        };
        world.publish(trust);
        world
    }

    fn publish(&self, trust: impl Into<TrustBundles>) {
        self.publishing(trust)();
    }

    /// The same, at another time.
    fn publishing(&self, trust: impl Into<TrustBundles>) -> impl FnOnce() + Send + 'static {
        let snapshot = Snapshot::new([Arc::clone(&self.own)], Arc::new(trust.into()));
        let publisher = Arc::clone(&self.publisher);
        move || publisher.publish(snapshot)
    }

    fn register(&self, scope: &Scope, peer: &VerifiedPeer) -> Guard {
        scope.register(self.own.id(), peer.clone()).unwrap()
    }

    /// Polls the driver until it has nothing to do.
    fn settle(&mut self) {
        let _timers = self.runtime.enter();
        for _ in 0..1000 {
            assert!(poll(self.driver.as_mut()).is_pending());
        }
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Why a connection is to be closed and how, or that it is not.
fn closing(guard: &mut Guard) -> Option<(CloseReason, Urgency)> {
    match poll(std::pin::pin!(guard.closed())) {
        Poll::Ready(closing) => Some((closing.reason(), closing.urgency())),
        Poll::Pending => None,
    }
}

fn anybody() -> PeerPolicy {
    PeerPolicy::any_authenticated()
}

fn bundles(authorities: &[&DevCa]) -> TrustBundles {
    TrustBundles::new(authorities.iter().map(|ca| ca.bundle().unwrap())).unwrap()
}

/// One trust domain with two roots.
fn both(first: &DevCa, second: &DevCa) -> TrustBundle {
    let roots = [first, second].map(|ca| ca.root_certificate().clone());
    TrustBundle::new(first.trust_domain().clone(), roots).unwrap()
}

fn member(ca: &DevCa, path: &str) -> SpiffeId {
    id(&format!("spiffe://{}{path}", ca.trust_domain()))
}

fn verified(issued: &Issued, trust: &TrustBundles) -> VerifiedPeer {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    verify_under(Profile::istio(), issued.chain(), Role::Client, trust, now(), algorithms).unwrap()
}

/// A peer that this authority has issued for.
fn peer(ca: &DevCa, path: &str) -> VerifiedPeer {
    verified(
        &ca.issue(&member(ca, path), now()).unwrap(),
        &ca.bundle().unwrap().into(),
    )
}

fn list(ca: &DevCa, peer: &VerifiedPeer) -> RevocationList {
    let leaf = x509_parser::parse_x509_certificate(&peer.chain()[0]).unwrap().1;
    let der = ca.revocation_list([leaf.raw_serial()], now(), at(now().as_secs() + 60));
    RevocationList::from_der(&der.unwrap()).unwrap()
}

#[test]
fn a_root_that_goes_takes_its_connections_and_no_others() {
    let (first, second, other) = (ca(TD), ca(TD), ca("other"));
    let all = TrustBundles::new([both(&first, &second), other.bundle().unwrap()]).unwrap();
    let mut world = World::new(all);
    let scope = world.live.scope(anybody());
    let mut guards = [&first, &second, &other].map(|ca| world.register(&scope, &peer(ca, "/a")));
    world.publish(bundles(&[&second, &other]));
    world.settle();
    assert_eq!(
        guards.each_mut().map(closing),
        [Some((CloseReason::AnchorRemoved, Urgency::Abort)), None, None]
    );
    assert_eq!(closing(&mut guards[0]), closing(&mut guards[0]), "the answer stays");
    world.publish(bundles(&[&second]));
    world.settle();
    assert_eq!(
        closing(&mut guards[2]),
        Some((CloseReason::AnchorRemoved, Urgency::Abort))
    );
    assert_eq!(closing(&mut guards[1]), None);
    assert_eq!(world.live.connections(), 1);
}

#[test]
fn an_emptied_bundle_closes_every_member() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let mut guard = world.register(&scope, &peer(&ca, "/a"));
    world.publish(TrustBundle::new(td(TD), []).unwrap());
    world.settle();
    assert_eq!(closing(&mut guard), Some((CloseReason::AnchorRemoved, Urgency::Abort)));
}

#[test]
fn the_root_of_another_trust_domain_is_no_substitute() {
    let (own, other) = (ca(TD), ca("other"));
    let mut world = World::new(bundles(&[&own, &other]));
    let scope = world.live.scope(anybody());
    let mut guard = world.register(&scope, &peer(&own, "/a"));
    // The other trust domain's bundle now has the root as well, as a mesh that pools roots would.
    let pooled = TrustBundle::new(td(TD), []).unwrap();
    let no_root_of_theirs = own.renew(Template {
        names: None,
        ..authority()
    });
    let theirs = TrustBundle::new(td("other"), [no_root_of_theirs.unwrap()]).unwrap();
    world.publish(TrustBundles::new([pooled, theirs]).unwrap());
    world.settle();
    assert_eq!(closing(&mut guard), Some((CloseReason::AnchorRemoved, Urgency::Abort)));
}

#[test]
fn a_root_signed_anew_with_the_same_key_closes_nothing() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let mut guard = world.register(&scope, &peer(&ca, "/a"));
    let renewed = ca.renew(authority()).unwrap();
    assert_ne!(&renewed, ca.root_certificate());
    world.publish(TrustBundle::new(td(TD), [renewed]).unwrap());
    world.settle();
    assert_eq!(closing(&mut guard), None);
    world.publish(TrustBundles::default());
    world.settle();
    assert_eq!(closing(&mut guard).unwrap().0, CloseReason::AnchorRemoved);
}

#[test]
fn a_revocation_closes_the_one_that_is_named() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let peers = ["/a", "/b"].map(|path| peer(&ca, path));
    let mut guards = peers.each_ref().map(|peer| world.register(&scope, peer));
    let lists = [list(&ca, &peers[0])];
    world.publish(ca.bundle().unwrap().with_revocation_lists(lists).unwrap());
    world.settle();
    assert_eq!(
        guards.each_mut().map(closing),
        [Some((CloseReason::Revoked, Urgency::Abort)), None]
    );
}

#[test]
fn a_list_of_another_authority_revokes_nothing() {
    let (ours, theirs) = (ca(TD), ca(TD));
    let mut world = World::new(both(&ours, &theirs).into());
    let scope = world.live.scope(anybody());
    let peer = peer(&ours, "/a");
    let mut guard = world.register(&scope, &peer);
    let lists = [list(&theirs, &peer)];
    world.publish(both(&ours, &theirs).with_revocation_lists(lists).unwrap());
    world.settle();
    assert_eq!(closing(&mut guard), None);
}

#[test]
fn a_strict_profile_closes_what_no_list_covers() {
    let (first, second) = (ca(TD), ca(TD));
    let bundle = both(&first, &second);
    let strict = (provider::aws_lc_rs(), Profile::spiffe(), ClosePolicy::default());
    let mut world = World::with(bundle.clone().into(), strict.0, strict.1, strict.2);
    let scope = world.live.scope(anybody());
    let mut guards = [&first, &second].map(|ca| world.register(&scope, &peer(ca, "/a")));
    let lists = [list(&first, &peer(&first, "/b"))];
    world.publish(bundle.with_revocation_lists(lists).unwrap());
    world.settle();
    assert_eq!(
        guards.each_mut().map(closing),
        [None, Some((CloseReason::Revoked, Urgency::Abort))]
    );
}

#[test]
fn a_list_that_grows_old_admits_nobody_and_closes_nothing() {
    let [ca, next] = [(); 2].map(|()| ca(TD));
    let strict = (provider::aws_lc_rs(), Profile::spiffe(), ClosePolicy::default());
    let covered = |bundle: TrustBundle| bundle.with_revocation_lists([list(&ca, &peer(&ca, "/gone"))]).unwrap();
    let mut world = World::with(covered(ca.bundle().unwrap()).into(), strict.0, strict.1, strict.2);
    let scope = world.live.scope(anybody());
    let kept = peer(&ca, "/a");
    let mut guard = world.register(&scope, &kept);
    world.clock.set(Some(at(now().as_secs() + 61)));
    scope.set_policy(PeerPolicy::exact(kept.id().clone()));
    world.settle();
    assert_eq!(closing(&mut guard), None);
    world.publish(covered(both(&ca, &next)));
    world.settle();
    assert_eq!(closing(&mut guard), None);
    let refused = scope.register(world.own.id(), kept.clone());
    assert_eq!(refused.unwrap_err(), CloseReason::Revoked);
    // What it names is revoked all the same.
    world.publish(ca.bundle().unwrap().with_revocation_lists([list(&ca, &kept)]).unwrap());
    world.settle();
    assert_eq!(closing(&mut guard), Some((CloseReason::Revoked, Urgency::Abort)));
}

#[test]
fn a_policy_closes_those_of_its_scope_that_it_does_not_permit() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let policy = PeerPolicy::matching(["spiffe://cluster.local/ns/foo/*".parse().unwrap()]);
    let (changed, unchanged) = (world.live.scope(anybody()), world.live.scope(anybody()));
    let paths = ["/ns/foo/sa/a", "/ns/foobar/sa/a"].map(|path| peer(&ca, path));
    let mut guards: Vec<_> = [&changed, &unchanged]
        .iter()
        .flat_map(|scope| paths.each_ref().map(|peer| world.register(scope, peer)))
        .collect();
    changed.set_policy(policy);
    world.settle();
    let closed: Vec<_> = guards.iter_mut().map(closing).collect();
    let deauthorized = Some((CloseReason::Deauthorized, Urgency::Drain));
    assert_eq!(closed, [None, deauthorized, None, None]);
}

#[test]
fn dots_are_no_wildcards_when_a_policy_changes() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let mut guards = ["/a.b", "/axb"].map(|path| world.register(&scope, &peer(&ca, path)));
    scope.set_policy(PeerPolicy::exact(member(&ca, "/a.b")));
    world.settle();
    assert_eq!(
        guards.each_mut().map(closing),
        [None, Some((CloseReason::Deauthorized, Urgency::Drain))]
    );
    scope.set_policy(PeerPolicy::one_of([]));
    world.settle();
    assert_eq!(
        closing(&mut guards[0]),
        Some((CloseReason::Deauthorized, Urgency::Drain))
    );
}

#[test]
fn an_alias_that_goes_takes_those_under_it() {
    let ca = ca(TD);
    let aliases = TrustDomainAliases::new([(td("old"), td(TD))]).unwrap();
    let renamed = bundles(&[&ca]).with_aliases(aliases).unwrap();
    let mut world = World::new(renamed.clone());
    let old = ca.issue_with(Template::leaf(&id("spiffe://old/a"), now())).unwrap();
    let excepting = anybody().except(PeerPolicy::exact(id("spiffe://old/b")));
    let scope = world.live.scope(excepting);
    let mut under_old_name = world.register(&scope, &verified(&old, &renamed));
    let mut member = world.register(&scope, &peer(&ca, "/a"));
    world.publish(bundles(&[&ca]));
    world.settle();
    assert_eq!(closing(&mut under_old_name).unwrap().0, CloseReason::AnchorRemoved);
    assert_eq!(closing(&mut member), None);
    // An exception that is about the old name concerns members as soon as it is one of theirs.
    let mut excepted = world.register(&scope, &peer(&ca, "/b"));
    world.publish(renamed);
    world.settle();
    assert_eq!(
        closing(&mut excepted),
        Some((CloseReason::Deauthorized, Urgency::Drain))
    );
    assert_eq!(closing(&mut member), None);
}

#[test]
fn a_withdrawn_source_closes_all_and_admits_nobody() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let mut guard = world.register(&scope, &peer(&ca, "/a"));
    world.publisher.withdraw(SourceEnded);
    let refused = scope.register(world.own.id(), peer(&ca, "/b"));
    assert_eq!(refused.unwrap_err(), CloseReason::Withdrawn);
    world.settle();
    assert_eq!(closing(&mut guard), Some((CloseReason::Withdrawn, Urgency::Drain)));
}

#[test]
fn an_identity_that_is_released_closes_its_own_connections() {
    let ca = ca(TD);
    let mut world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let other = svid(
        &ca.issue(&member(&ca, "/other"), now()).unwrap(),
        &provider::aws_lc_rs(),
    );
    let trust = Arc::new(bundles(&[&ca]));
    world.publisher.publish(Snapshot::new(
        [Arc::clone(&world.own), Arc::clone(&other)],
        Arc::clone(&trust),
    ));
    let mut kept = world.register(&scope, &peer(&ca, "/a"));
    let mut gone = scope.register(other.id(), peer(&ca, "/a")).unwrap();
    world.publisher.publish(Snapshot::new([Arc::clone(&world.own)], trust));
    world.settle();
    assert_eq!(closing(&mut kept), None);
    assert_eq!(closing(&mut gone), Some((CloseReason::Withdrawn, Urgency::Drain)));
}

#[test]
fn the_most_urgent_of_several_reasons_counts() {
    let ca = ca(TD);
    let both_drain = ClosePolicy::default().urgency(CloseReason::Revoked, Urgency::Drain);
    for (policy, expected) in [
        (ClosePolicy::default(), (CloseReason::Revoked, Urgency::Abort)),
        (both_drain, (CloseReason::Withdrawn, Urgency::Drain)),
    ] {
        let mut world = World::with(bundles(&[&ca]), provider::aws_lc_rs(), Profile::istio(), policy);
        let scope = world.live.scope(anybody());
        let revoked = peer(&ca, "/a");
        let mut guard = world.register(&scope, &revoked);
        // One snapshot has neither this side's identity nor any trust in the peer.
        let trust = ca.bundle().unwrap().with_revocation_lists([list(&ca, &revoked)]);
        let trust = Arc::new(TrustBundles::from(trust.unwrap()));
        let other = svid(&ca.issue(&member(&ca, "/b"), now()).unwrap(), &provider::aws_lc_rs());
        world.publisher.publish(Snapshot::new([other], trust));
        scope.set_policy(PeerPolicy::one_of([]));
        world.settle();
        assert_eq!(closing(&mut guard), Some(expected));
    }
}

#[test]
fn what_was_verified_with_superseded_trust_is_not_registered() {
    let (first, second) = (ca(TD), ca(TD));
    let world = World::new(bundles(&[&first]));
    let scope = world.live.scope(anybody());
    let late = peer(&first, "/a");
    world.publish(bundles(&[&second]));
    // The driver has not been polled: registering looks for itself.
    let refused = scope.register(world.own.id(), late.clone());
    assert_eq!(refused.unwrap_err(), CloseReason::AnchorRemoved);
    let lists = [list(&first, &late)];
    world.publish(first.bundle().unwrap().with_revocation_lists(lists).unwrap());
    let refused = scope.register(world.own.id(), late);
    assert_eq!(refused.unwrap_err(), CloseReason::Revoked);
    let closed = world.live.scope(PeerPolicy::one_of([]));
    let refused = closed.register(world.own.id(), peer(&first, "/b"));
    assert_eq!(refused.unwrap_err(), CloseReason::Deauthorized);
    world.clock.set(Some(at(now().as_secs() + 2 * 24 * 3600)));
    let refused = scope.register(world.own.id(), peer(&first, "/b"));
    assert_eq!(refused.unwrap_err(), CloseReason::Expired);
    world.clock.set(None);
    assert!(scope.register(world.own.id(), peer(&first, "/b")).is_err());
    assert_eq!(world.live.connections(), 0);
}

#[test]
fn a_dropped_guard_ends_the_registration() {
    let ca = ca(TD);
    let world = World::new(bundles(&[&ca]));
    let scope = world.live.scope(anybody());
    let guards = ["/a", "/b"].map(|path| world.register(&scope, &peer(&ca, path)));
    assert_eq!(world.live.connections(), 2);
    drop(guards);
    assert_eq!(world.live.connections(), 0);
}

#[test]
fn connections_do_not_outlive_the_driver_that_watches_over_them() {
    let ca = ca(TD);
    let never_polled: fn(&mut World) = |_| {};
    let polled: fn(&mut World) = World::settle;
    for before in [never_polled, polled] {
        let mut world = World::new(bundles(&[&ca]));
        let scope = world.live.scope(anybody());
        let mut guards = ["/a", "/b"].map(|path| world.register(&scope, &peer(&ca, path)));
        before(&mut world);
        assert_eq!(guards.each_mut().map(closing), [None; 2]);
        world.driver = Box::pin(std::future::pending());
        let unattended = Some((CloseReason::Unattended, Urgency::Drain));
        assert_eq!(guards.each_mut().map(closing), [unattended; 2]);
        assert_eq!(world.live.connections(), 0);
        let refused = scope.register(world.own.id(), peer(&ca, "/c"));
        assert_eq!(refused.unwrap_err(), CloseReason::Unattended);
    }
}

/// What happens while signatures are checked, one thing at each.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<Event>>>);

type Event = Box<dyn FnOnce() + Send>;

impl Script {
    fn push(&self, event: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().push_back(Box::new(event));
    }

    fn is_over(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        let script = self.clone();
        provider_calling(move || {
            let event = script.0.lock().unwrap().pop_front();
            if let Some(event) = event {
                event();
            }
        })
    }

    fn world(&self, trust: TrustBundles) -> World {
        let policy = ClosePolicy::default().urgency(CloseReason::Unattended, Urgency::Abort);
        World::with(trust, self.provider(), Profile::istio(), policy)
    }
}

#[test]
fn connections_do_not_outlive_a_panic_under_their_lock() {
    let ca = ca(TD);
    // With this every peer has to be verified anew.
    let renewed = || TrustBundle::new(td(TD), [ca.renew(authority()).unwrap()]).unwrap();
    for by_driver in [true, false] {
        let script = Script::default();
        let mut world = script.world(bundles(&[&ca]));
        let scope = world.live.scope(anybody());
        let mut guard = world.register(&scope, &peer(&ca, "/a"));
        world.publish(renewed());
        if !by_driver {
            // A peer is verified under the lock only if it was in vain before.
            let publish = world.publishing(renewed());
            script.push(publish);
        }
        script.push(|| panic!("as the test wants it"));
        let panics = catch_unwind(AssertUnwindSafe(|| match by_driver {
            true => world.settle(),
            false => drop(scope.register(world.own.id(), peer(&ca, "/b"))),
        }));
        assert!(panics.is_err() && script.is_over());
        if !by_driver {
            world.settle();
        }
        let unattended = Some((CloseReason::Unattended, Urgency::Abort));
        assert_eq!(closing(&mut guard), unattended);
        let refused = scope.register(world.own.id(), peer(&ca, "/c"));
        assert_eq!(refused.unwrap_err(), CloseReason::Unattended);
    }
}

#[test]
fn what_changes_while_a_new_peer_is_verified_counts() {
    let ca = ca(TD);
    let peer = peer(&ca, "/a");
    let renewed = || TrustBundle::new(td(TD), [ca.renew(authority()).unwrap()]).unwrap();
    let script = Script::default();
    let world = script.world(renewed().into());
    let scope = Arc::new(world.live.scope(anybody()));
    let changed = Arc::clone(&scope);
    script.push(move || changed.set_policy(PeerPolicy::one_of([])));
    let refused = scope.register(world.own.id(), peer.clone());
    assert_eq!(refused.unwrap_err(), CloseReason::Deauthorized);

    scope.set_policy(anybody());
    let lists = [list(&ca, &peer)];
    script.push(world.publishing(renewed().with_revocation_lists(lists).unwrap()));
    let refused = scope.register(world.own.id(), peer.clone());
    assert_eq!(refused.unwrap_err(), CloseReason::Revoked);

    world.publish(renewed());
    script.push(world.publishing(renewed()));
    assert!(scope.register(world.own.id(), peer).is_ok());
    assert!(script.is_over());
}

#[test]
fn nobody_waits_while_a_new_peer_is_verified() {
    let ca = ca(TD);
    let script = Script::default();
    let renewed = TrustBundle::new(td(TD), [ca.renew(authority()).unwrap()]).unwrap();
    let world = script.world(renewed.into());
    let scope = world.live.scope(anybody());
    let live = world.live.clone();
    let (answer, answered) = mpsc::channel();
    script.push(move || {
        let (asked, waited) = mpsc::channel();
        thread::spawn(move || asked.send(live.connections()));
        answer.send(waited.recv_timeout(Duration::from_secs(10))).unwrap();
    });
    let _guard = world.register(&scope, &peer(&ca, "/a"));
    assert_eq!(answered.recv().unwrap(), Ok(0));
}

#[test]
fn urgency_is_by_reason() {
    let ca = ca(TD);
    let policy = ClosePolicy::default().urgency(CloseReason::AnchorRemoved, Urgency::Drain);
    let mut world = World::with(bundles(&[&ca]), provider::aws_lc_rs(), Profile::istio(), policy);
    let scope = world.live.scope(anybody());
    let mut guard = world.register(&scope, &peer(&ca, "/a"));
    world.publish(TrustBundles::default());
    world.settle();
    assert_eq!(closing(&mut guard), Some((CloseReason::AnchorRemoved, Urgency::Drain)));
}

#[test]
fn what_is_not_concerned_is_not_verified_again() {
    let (provider, signatures) = counting_provider();
    let (ca, next, other) = (ca(TD), ca(TD), ca("other"));
    let (istio, policy) = (Profile::istio(), ClosePolicy::default());
    let mut world = World::with(bundles(&[&ca, &other]), provider, istio, policy);
    let scope = world.live.scope(anybody());
    let peer = peer(&ca, "/a");
    let mut guards: Vec<_> = (0..100).map(|_| world.register(&scope, &peer)).collect();
    let before = signatures();
    world.publish(bundles(&[&ca]));
    world.publish(both(&ca, &next));
    let unrelated = [list(&ca, &self::peer(&ca, "/b"))];
    world.publish(both(&ca, &next).with_revocation_lists(unrelated).unwrap());
    scope.set_policy(PeerPolicy::exact(peer.id().clone()));
    world.settle();
    assert_eq!(signatures(), before);
    assert!(guards.iter_mut().all(|guard| closing(guard).is_none()));
    world.publish(bundles(&[&next]));
    world.settle();
    assert!(guards.iter_mut().all(|guard| closing(guard).is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_expired_peer_is_drained_in_the_second_after_its_last() {
    let ca = ca(TD);
    let start = tokio::time::Instant::now();
    let publisher = Publisher::new();
    let own = svid(&ca.issue(&workload(), now()).unwrap(), &provider::aws_lc_rs());
    let own_id = own.id().clone();
    publisher.publish(Snapshot::new([own], Arc::new(bundles(&[&ca]))));
    let (live, driver) = Live::builder(publisher.follow(), provider::aws_lc_rs())
        .clock(Arc::new(Calendar::new()))
        .build();
    let scope = live.scope(anybody());
    let issue = |seconds| {
        let leaf = Template {
            not_after: at(now().as_secs() + seconds),
            ..leaf()
        };
        verified(&ca.issue_with(leaf).unwrap(), &bundles(&[&ca]))
    };
    let check = async {
        let mut long = scope.register(&own_id, issue(3600)).unwrap();
        // The driver sleeps by now until the first one's end, and is woken for a sooner one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut short = scope.register(&own_id, issue(100)).unwrap();
        for (guard, second) in [(&mut short, 101), (&mut long, 3601)] {
            let closing = guard.closed().await;
            assert_eq!(
                (closing.reason(), closing.urgency()),
                (CloseReason::Expired, Urgency::Drain)
            );
            assert_eq!(start.elapsed().as_secs(), second);
        }
        assert_eq!(live.connections(), 0);
    };
    tokio::select! {
        () = driver => unreachable!("never completes"),
        () = check => {}
    }
}

#[tokio::test(start_paused = true)]
async fn root_rotation_in_order_closes_nothing_but_what_stayed_with_the_old_root() {
    let clock: Arc<dyn TimeProvider> = Arc::new(Calendar::new());
    let day = Duration::from_secs(24 * 3600);
    let source = DevCaSource::new(ca(TD), [workload()], day, provider::aws_lc_rs(), now(), 0).unwrap();
    let follower = source.follow();
    let (live, driver) = Live::builder(source.follow(), provider::aws_lc_rs())
        .clock(clock)
        .build();
    let scope = live.scope(anybody());
    // The peer presents what the same source issues, as another process of the mesh would.
    let connect = || {
        let snapshot = follower.snapshot();
        let chain = snapshot.default_svid().unwrap().chain().to_vec();
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        let trust = snapshot.trust();
        let peer = verify_under(Profile::istio(), &chain, Role::Client, trust, now(), algorithms).unwrap();
        scope.register(&workload(), peer).unwrap()
    };
    let check = async {
        let rest = || tokio::time::sleep(Duration::from_secs(5));
        let mut by_first = connect();
        source.prepare(ca(TD)).unwrap();
        rest().await;
        let mut between = connect();
        source.activate(now(), 0).unwrap();
        rest().await;
        let mut by_second = connect();
        source.renew(now(), 0).unwrap();
        rest().await;
        assert_eq!([&mut by_first, &mut between, &mut by_second].map(closing), [None; 3]);
        source.revoke().unwrap();
        rest().await;
        let removed = Some((CloseReason::AnchorRemoved, Urgency::Abort));
        assert_eq!(
            [&mut by_first, &mut between, &mut by_second].map(closing),
            [removed, removed, None]
        );
    };
    tokio::select! {
        () = driver => unreachable!("never completes"),
        () = check => {}
    }
}

#[test]
fn nothing_slips_in_between_a_change_and_its_registration() {
    let (first, second) = (ca(TD), ca(TD));
    let mut world = World::new(bundles(&[&first]));
    let scope = world.live.scope(anybody());
    let peer = peer(&first, "/a");
    let done = AtomicBool::new(false);
    let guards: Vec<Guard> = thread::scope(|threads| {
        let registering: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    let mut guards = Vec::new();
                    while !done.load(Ordering::Acquire) && guards.len() < 20_000 {
                        guards.extend(scope.register(world.own.id(), peer.clone()).ok());
                    }
                    guards
                })
            })
            .collect();
        while world.live.connections() < 100 {
            thread::yield_now();
        }
        let snapshot = Snapshot::new([Arc::clone(&world.own)], Arc::new(bundles(&[&second])));
        world.publisher.publish(snapshot);
        assert!(
            scope.register(world.own.id(), peer.clone()).is_err(),
            "refused from the publication on"
        );
        done.store(true, Ordering::Release);
        registering
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    while world.live.connections() > 0 {
        world.settle();
    }
    for mut guard in guards {
        assert_eq!(closing(&mut guard), Some((CloseReason::AnchorRemoved, Urgency::Abort)));
    }
}

#[test]
fn reasons_are_one_line_and_have_stable_names() {
    let names = CloseReason::ALL.map(CloseReason::name);
    assert_eq!(
        names,
        [
            "anchor_removed",
            "revoked",
            "expired",
            "deauthorized",
            "withdrawn",
            "unattended"
        ]
    );
    for reason in CloseReason::ALL {
        let text = reason.to_string();
        assert!(!text.ends_with('.') && !text.contains('\n') && text.starts_with(char::is_lowercase));
    }
}
