//! TLS for all identities of a process: made once for each generation, and for callers without a
//! certificate where that was asked for.

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
    fmt,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use mesh_identity::{
    PeerPolicy, RevocationList, SpiffeId, Svid, TrustBundle, TrustBundles, VerifyError, provider,
    source::{Publisher, Snapshot, SourceEnded, dev_ca::DevCa},
    tls::{Caller, ClientTls, HandshakeError, Identities, IdentityUnavailable, PermissiveServerTls, ServerTls},
};
use rustls::{
    NamedGroup,
    client::Resumption,
    crypto::{ActiveKeyExchange, SupportedKxGroup},
};
use support::*;

struct World {
    ca: DevCa,
    publisher: Publisher,
    clock: Arc<Manual>,
    identities: Identities,
}

fn cart() -> SpiffeId {
    workload()
}

fn till() -> SpiffeId {
    id("spiffe://cluster.local/ns/shop/sa/till")
}

fn members() -> PeerPolicy {
    PeerPolicy::member_of(td(TD))
}

impl World {
    /// A source that has published nothing.
    fn empty() -> Self {
        let (publisher, clock) = (Publisher::new(), Arc::new(Manual::default()));
        clock.set(Some(now()));
        let identities = Identities::new(publisher.follow(), provider::aws_lc_rs()).clock(Arc::clone(&clock) as _);
        Self {
            ca: ca(TD),
            publisher,
            clock,
            identities,
        }
    }

    fn new() -> Self {
        let world = Self::empty();
        world.publish(world.ca.bundle().unwrap());
        world
    }

    fn svid(&self, id: &SpiffeId) -> Arc<Svid> {
        svid(&self.ca.issue(id, now()).unwrap(), &provider::aws_lc_rs())
    }

    /// Publishes new SVIDs with this bundle.
    fn publish(&self, bundle: impl Into<TrustBundles>) {
        let svids = [cart(), till()].map(|id| self.svid(&id));
        self.publisher.publish(Snapshot::new(svids, Arc::new(bundle.into())));
    }

    fn client(&self) -> ClientTls {
        self.identities.client(Some(&cart()), &members()).unwrap()
    }

    fn server(&self) -> ServerTls {
        self.identities.server(Some(&till()), &members()).unwrap()
    }

    fn permissive(&self) -> PermissiveServerTls {
        self.identities.permissive_server(Some(&till()), &members()).unwrap()
    }
}

/// Who each side of a handshake saw.
fn meet(client: &ClientTls, server: &ServerTls) -> Result<(SpiffeId, SpiffeId), HandshakeError> {
    let mut pair = Pair::new(client.config(), server.config());
    let (of_client, of_server) = pair.run();
    of_client
        .and(of_server)
        .map_err(|error| HandshakeError::from_rustls(&error))?;
    let seen = |peer: mesh_identity::VerifiedPeer| peer.id().clone();
    Ok((
        seen(client.verified_peer(&pair.client)?),
        seen(server.verified_peer(&pair.server)?),
    ))
}

#[test]
fn a_configuration_is_made_once_for_an_identity_and_a_policy() {
    let world = World::new();
    let same = |a: &ClientTls, b: &ClientTls| Arc::ptr_eq(&a.config(), &b.config());
    let first = world.client();
    assert!(same(&first, &world.client()));
    let by_default = world.identities.client(None, &members()).unwrap();
    assert!(same(&first, &by_default), "the default identity is this one");
    let other_policy = world
        .identities
        .client(Some(&cart()), &PeerPolicy::exact(till()))
        .unwrap();
    assert!(!same(&first, &other_policy));
    let other_identity = world.identities.client(Some(&till()), &members()).unwrap();
    assert!(!same(&first, &other_identity));
    world.publish(world.ca.bundle().unwrap());
    assert!(!same(&first, &world.client()), "a new generation has its own");
}

#[test]
fn each_identity_presents_itself_to_the_peers_that_it_expects() {
    let world = World::new();
    assert_eq!(meet(&world.client(), &world.server()).unwrap(), (till(), cart()));
    let elsewhere = world
        .identities
        .client(Some(&cart()), &PeerPolicy::exact(id("spiffe://cluster.local/other")))
        .unwrap();
    assert!(matches!(
        meet(&elsewhere, &world.server()),
        Err(HandshakeError::Denied(_))
    ));
}

#[test]
fn what_was_replaced_is_not_kept() {
    let world = World::new();
    let config = Arc::downgrade(&world.server().config());
    assert!(config.upgrade().is_some());
    world.publish(world.ca.bundle().unwrap());
    drop(world.server());
    assert!(config.upgrade().is_none());
}

#[test]
fn what_was_withdrawn_is_not_kept() {
    let world = World::new();
    let config = Arc::downgrade(&world.server().config());
    world.publisher.withdraw(SourceEnded);
    assert!(config.upgrade().is_some());
    assert!(world.identities.client(None, &members()).is_err());
    assert!(config.upgrade().is_none());
}

#[test]
fn a_full_cache_hands_out_all_the_same() {
    let world = World::new();
    let follower = world.publisher.follow();
    let identities = Identities::new(follower, provider::aws_lc_rs())
        .clock(Arc::new(Still(now())))
        .capacity(1);
    let policies = [members(), PeerPolicy::exact(till())];
    for policy in policies.iter().cycle().take(6) {
        assert_eq!(identities.client(None, policy).unwrap().policy(), policy);
    }
}

#[test]
fn nothing_is_handed_out_that_is_not_to_be_used() {
    let world = World::empty();
    let client = |id: Option<&SpiffeId>| world.identities.client(id, &members()).unwrap_err();
    assert!(matches!(client(None), IdentityUnavailable::NotReady { problem: None }));
    world.publisher.report(SourceEnded);
    assert_eq!(
        client(None).to_string(),
        "there is no identity yet: the identity source is gone"
    );
    world.publish(world.ca.bundle().unwrap());
    assert_eq!(
        client(Some(&id("spiffe://cluster.local/nobody"))).to_string(),
        "there is no identity `spiffe://cluster.local/nobody`"
    );
    let kept = world.client();
    world.clock.set(Some(at(kept.identity().not_after().as_secs())));
    assert!(world.identities.client(None, &members()).is_ok());
    world.clock.set(Some(at(kept.identity().not_after().as_secs() + 1)));
    assert_eq!(
        client(None).to_string(),
        "the certificate of `spiffe://cluster.local/ns/shop/sa/cart` expired at 2030-03-18T17:46:40Z"
    );
    world.clock.set(None);
    assert!(matches!(client(None), IdentityUnavailable::NoClock));
    world.clock.set(Some(now()));
    world.publisher.withdraw(SourceEnded);
    assert_eq!(
        client(None).to_string(),
        "the identities were withdrawn: the identity source is gone"
    );
    assert!(world.identities.server(Some(&till()), &members()).is_err());
    assert!(world.identities.permissive_server(Some(&till()), &members()).is_err());
}

#[test]
fn no_session_outlives_the_trust_it_began_with() {
    let world = World::new();
    let issued = world.ca.issue_with(leaf()).unwrap();
    // A client that resumes whatever it can.
    let mut eager = careless_client(Some(&issued));
    eager.resumption = Resumption::in_memory_sessions(8);
    let eager = Arc::new(eager);
    let attempt = || {
        let server = world.server();
        let mut pair = Pair::new(Arc::clone(&eager), server.config());
        pair.run()
            .1
            .map_err(|error| HandshakeError::from_rustls(&error))
            .and_then(|()| server.verified_peer(&pair.server))
            .map(drop)
    };
    assert_eq!(attempt(), Ok(()));

    let bundle = world.ca.bundle().unwrap();
    let facts = x509_parser::parse_x509_certificate(&issued.chain()[0]).unwrap().1;
    let list = world
        .ca
        .revocation_list([facts.raw_serial()], now(), at(now().as_secs() + 60));
    let list = RevocationList::from_der(&list.unwrap()).unwrap();
    world.publish(bundle.clone().with_revocation_lists([list]).unwrap());
    assert!(matches!(
        attempt(),
        Err(HandshakeError::Verify(VerifyError::Revoked { .. }))
    ));

    world.publish(ca(TD).bundle().unwrap());
    assert!(matches!(
        attempt(),
        Err(HandshakeError::Verify(VerifyError::UnknownIssuer { .. }))
    ));

    world.publish(TrustBundle::new(td(TD), []).unwrap());
    assert!(matches!(
        attempt(),
        Err(HandshakeError::Verify(VerifyError::EmptyBundle { .. }))
    ));

    world.publish(bundle);
    assert_eq!(attempt(), Ok(()));
    world.clock.set(Some(at(now().as_secs() + 24 * 3600 + 1)));
    assert!(matches!(
        world.identities.server(None, &members()),
        Err(IdentityUnavailable::Expired { .. })
    ));
}

#[test]
fn a_server_admits_callers_without_certificate_only_if_that_was_asked_for() {
    let world = World::new();
    let anonymous = || careless_client(None);
    let mut pair = Pair::new(anonymous(), world.server().config());
    let refusal = HandshakeError::from_rustls(&pair.run().1.unwrap_err());
    assert_eq!(refusal, HandshakeError::NoPeerCertificate);

    let permissive = world.permissive();
    let mut pair = Pair::new(anonymous(), permissive.config());
    assert_eq!(pair.run(), (Ok(()), Ok(())));
    assert_eq!(permissive.caller(&pair.server), Ok(Caller::Anonymous));

    let client = world.client();
    let mut pair = Pair::new(client.config(), permissive.config());
    assert_eq!(pair.run(), (Ok(()), Ok(())));
    match permissive.caller(&pair.server).unwrap() {
        Caller::Verified(peer) => assert_eq!(peer.id(), &cart()),
        Caller::Anonymous => panic!("the client presented a certificate"),
    }
}

#[test]
fn a_bad_certificate_does_not_make_a_caller_anonymous() {
    let world = World::new();
    let permissive = world.permissive();
    let mut vectors = 0;
    for vector in broken_leaves(&world.ca)
        .into_iter()
        .filter(|vector| !vector.as_client.is_empty())
    {
        let client = client_claiming(vector.issued.chain().to_vec(), &vector.issued);
        let mut pair = Pair::new(client, permissive.config());
        let refusal = HandshakeError::from_rustls(&pair.run().1.unwrap_err());
        assert_eq!(refusal.reason(), vector.as_client, "{}", vector.name);
        vectors += 1;
    }
    assert!(vectors > 30);
    let own = world.ca.issue(&cart(), now()).unwrap();
    let stolen = world.svid(&till()).chain().to_vec();
    let mut pair = Pair::new(client_claiming(stolen, &own), permissive.config());
    let refusal = HandshakeError::from_rustls(&pair.run().1.unwrap_err());
    assert_eq!(refusal, HandshakeError::BadHandshakeSignature);
    let nobody = world
        .identities
        .permissive_server(None, &PeerPolicy::one_of([]))
        .unwrap();
    let mut pair = Pair::new(world.client().config(), nobody.config());
    let refusal = HandshakeError::from_rustls(&pair.run().1.unwrap_err());
    assert_eq!(refusal.reason(), "denied");
}

#[test]
fn many_threads_see_one_generation_each_and_never_an_older_one() {
    const THREADS: usize = 4;
    let world = World::new();
    // The SVIDs of each generation; nothing was published in the first.
    let published = Mutex::new(vec![Vec::new(), world.publisher.follow().snapshot().svids().to_vec()]);
    let (start, done) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                while !done.load(Ordering::Relaxed) {
                    let before = world.publisher.follow().generation().0;
                    let identity = Arc::clone(world.client().identity());
                    let is_among = |svids: &Vec<_>| svids.iter().any(|svid| Arc::ptr_eq(svid, &identity));
                    let generation = published.lock().unwrap().iter().position(is_among).unwrap();
                    assert!(generation as u64 >= before, "{generation} after {before}");
                }
            });
        }
        start.wait();
        for _ in 0..50 {
            let mut published = published.lock().unwrap();
            world.publish(world.ca.bundle().unwrap());
            published.push(world.publisher.follow().snapshot().svids().to_vec());
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A key exchange that calls this whenever it is asked for its name, as in making a configuration.
struct Asked<F>(&'static dyn SupportedKxGroup, F);

impl<F> fmt::Debug for Asked<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<F: Fn() + Send + Sync> SupportedKxGroup for Asked<F> {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        self.0.start()
    }

    fn name(&self) -> NamedGroup {
        (self.1)();
        self.0.name()
    }
}

#[test]
fn what_is_published_while_a_configuration_is_made_counts() {
    let world = World::new();
    let publisher = Arc::new(Publisher::new());
    let trust = Arc::new(TrustBundles::from(world.ca.bundle().unwrap()));
    let snapshot = || Snapshot::new([world.svid(&cart())], Arc::clone(&trust));
    publisher.publish(snapshot());
    let later = Arc::new(Mutex::new(Some(snapshot())));

    let mut provider = (*provider::aws_lc_rs()).clone();
    let (publishing, next) = (Arc::clone(&publisher), Arc::clone(&later));
    let asked = Asked(provider.kx_groups[0], move || {
        if let Some(next) = next.lock().unwrap().take() {
            publishing.publish(next);
        }
    });
    provider.kx_groups = vec![Box::leak(Box::new(asked))];
    let identities = Identities::new(publisher.follow(), Arc::new(provider)).clock(Arc::new(Still(now())));
    let client = identities.client(None, &members()).unwrap();
    assert!(later.lock().unwrap().is_none(), "nothing was published in between");
    let newest = publisher.follow().snapshot();
    assert!(Arc::ptr_eq(client.identity(), newest.default_svid().unwrap()));
}
