//! The registry against a model that verifies every connection anew after every event.
#![cfg(all(feature = "aws-lc-rs", feature = "dev-ca"))]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use proptest::prelude::*;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::{
    aliases::TrustDomainAliases,
    bundle::TrustBundles,
    leaf::Role,
    live::closing::ClosePolicy,
    profile::Profile,
    provider,
    revocation::RevocationList,
    source::dev_ca::{DevCa, Template},
    svid::Svid,
    verify::{VerifyError, verify_under},
};

const START: u64 = 1_900_000_000;
/// The lives of leaves and of the root that is signed anew, in seconds.
const LIVES: [u64; 3] = [100, 200, 1000];
const RENEWED_ROOT_LIFE: u64 = 150;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(START + seconds))
}

fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// Certificates for all cases: making them takes most of the time.
struct World {
    domains: [Domain; 2],
    peers: Vec<VerifiedPeer>,
    locals: Vec<Arc<Svid>>,
}

struct Domain {
    name: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    lists: Vec<RevocationList>,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> Self {
        let provider = provider::aws_lc_rs();
        let mut chains = Vec::new();
        let domains = ["a", "b"].map(|name| Domain::new(name, &mut chains));
        let locals = ["spiffe://a/local/0", "spiffe://a/local/1"].map(|name| {
            let ca = DevCa::new(td("a"), at(0)).unwrap();
            Arc::new(ca.issue(&id(name), at(0)).unwrap().svid(&provider, at(0)).unwrap())
        });
        let mut world = Self {
            domains,
            peers: Vec::new(),
            locals: locals.into(),
        };
        let trust = world.trust([0b111, 0b111], [0, 0], true);
        world.peers = chains
            .iter()
            .map(|chain| world.verify(chain, Role::Client, &trust, at(0)).unwrap())
            .collect();
        world
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        role: Role,
        trust: &TrustBundles,
        now: UnixTime,
    ) -> Result<VerifiedPeer, VerifyError> {
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        verify_under(Profile::istio(), chain, role, trust, now, algorithms)
    }

    /// Some of the roots and lists of each trust domain; none of the roots means no bundle.
    fn trust(&self, roots: [u8; 2], lists: [u8; 2], renamed: bool) -> TrustBundles {
        let bundles = self
            .domains
            .iter()
            .zip(roots)
            .zip(lists)
            .filter(|((_, roots), _)| *roots != 0)
            .map(|((domain, roots), lists)| {
                let bundle = TrustBundle::new(domain.name.clone(), chosen(&domain.roots, roots)).unwrap();
                bundle.with_revocation_lists(chosen(&domain.lists, lists)).unwrap()
            });
        let trust = TrustBundles::new(bundles).unwrap();
        if renamed && trust.get(&td("a")).is_some() {
            let aliases = TrustDomainAliases::new([(td("old"), td("a"))]).unwrap();
            trust.with_aliases(aliases).unwrap()
        } else {
            trust
        }
    }
}

impl Domain {
    /// Two roots, the first of them also signed anew, and lists of the first and of an
    /// intermediate beneath it.
    fn new(name: &str, chains: &mut Vec<Vec<CertificateDer<'static>>>) -> Self {
        let [first, second] = [(); 2].map(|()| DevCa::new(td(name), at(0)).unwrap());
        let intermediate = first.intermediate(at(0)).unwrap();
        let renewed = Template {
            not_after: at(RENEWED_ROOT_LIFE),
            ..Template::authority(&td(name), at(0))
        };
        let mut lists = Vec::new();
        for (issuer, ca) in [&first, &second, &intermediate].into_iter().enumerate() {
            for life in LIVES {
                for trust_domain in [name, "old"] {
                    if trust_domain == "old" && name != "a" {
                        continue;
                    }
                    let leaf = Template {
                        not_after: at(life),
                        serial: Some(vec![1, issuer as u8, chains.len() as u8]),
                        ..Template::leaf(&id(&format!("spiffe://{trust_domain}/{issuer}/{life}")), at(0))
                    };
                    chains.push(ca.issue_with(leaf).unwrap().chain().to_vec());
                }
            }
            let listed = chains.last().unwrap().first().unwrap();
            let serial = crate::certificate::Certificate::parse(listed).unwrap().serial.to_vec();
            let list = ca.revocation_list([serial.as_slice()], at(0), at(10_000)).unwrap();
            lists.push(RevocationList::from_der(&list).unwrap());
        }
        Self {
            name: td(name),
            roots: vec![
                first.root_certificate().clone(),
                first.renew(renewed).unwrap(),
                second.root_certificate().clone(),
            ],
            lists,
        }
    }
}

fn chosen<T: Clone>(all: &[T], bits: u8) -> Vec<T> {
    let chosen = all.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
    chosen.map(|(_, one)| one.clone()).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Register {
        peer: usize,
        scope: usize,
        local: usize,
    },
    Remove(usize),
    Publish {
        roots: [u8; 2],
        lists: [u8; 2],
        renamed: bool,
        locals: u8,
    },
    SetPolicy {
        scope: usize,
        policy: usize,
    },
    Advance(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Mostly all roots and no lists, or hardly anything would stay open.
    let roots = || prop_oneof![3 => Just(0b111u8), 2 => 0..8u8];
    let lists = || prop_oneof![3 => Just(0u8), 1 => 0..8u8];
    let locals = prop_oneof![4 => Just(3u8), 1 => 0..4u8];
    let event = prop_oneof![
        6 => (0..64usize, 0..2usize, 0..2usize)
            .prop_map(|(peer, scope, local)| Event::Register { peer, scope, local }),
        1 => (0..16usize).prop_map(Event::Remove),
        3 => ([roots(), roots()], [lists(), lists()], any::<bool>(), locals)
            .prop_map(|(roots, lists, renamed, locals)| Event::Publish { roots, lists, renamed, locals }),
        1 => (0..2usize, 0..4usize).prop_map(|(scope, policy)| Event::SetPolicy { scope, policy }),
        1 => (0..80u64).prop_map(Event::Advance),
    ];
    prop::collection::vec(event, 1..40)
}

fn policy(number: usize) -> PeerPolicy {
    match number {
        0 => PeerPolicy::any_authenticated(),
        1 => PeerPolicy::member_of(td("a")),
        2 => PeerPolicy::member_of(td("b")),
        _ => PeerPolicy::any_authenticated().except(PeerPolicy::matching(["spiffe://old/0/*".parse().unwrap()])),
    }
}

/// The same without indexes and without memory.
struct Model {
    snapshot: Arc<Snapshot>,
    policies: [PeerPolicy; 2],
    open: BTreeMap<Key, (usize, usize, SpiffeId)>,
    now: u64,
}

impl Model {
    fn judge(&self, peer: usize, scope: usize, local: &SpiffeId) -> Result<(), CloseReason> {
        let peer = &WORLD.peers[peer];
        let trust = self.snapshot.trust();
        let mut reasons = Vec::new();
        if self.snapshot.svids().iter().all(|svid| svid.id() != local) {
            if self.snapshot.svids().is_empty() && trust.iter().next().is_none() {
                return Err(CloseReason::Withdrawn);
            }
            reasons.push(CloseReason::Withdrawn);
        }
        if let Err(error) = WORLD.verify(peer.chain(), peer.role(), trust, at(self.now)) {
            reasons.push(match error.reason() {
                "revoked" => CloseReason::Revoked,
                "expired" | "anchor_expired" => CloseReason::Expired,
                "unknown_issuer" | "unknown_trust_domain" => CloseReason::AnchorRemoved,
                other => panic!("{other}"),
            });
        }
        if self.policies[scope].check_under(trust.aliases(), peer.id()).is_err() {
            reasons.push(CloseReason::Deauthorized);
        }
        let aborts = |reason: &&CloseReason| matches!(reason, CloseReason::Revoked | CloseReason::AnchorRemoved);
        match reasons.iter().find(aborts).or(reasons.first()) {
            Some(reason) => Err(*reason),
            None => Ok(()),
        }
    }

    fn close(&mut self) -> BTreeMap<Key, CloseReason> {
        let open = std::mem::take(&mut self.open);
        let (mut kept, mut closed) = (BTreeMap::new(), BTreeMap::new());
        for (key, (peer, scope, local)) in open {
            match self.judge(peer, scope, &local) {
                Ok(()) => drop(kept.insert(key, (peer, scope, local))),
                Err(reason) => drop(closed.insert(key, reason)),
            }
        }
        self.open = kept;
        closed
    }
}

fn rules() -> Rules {
    Rules {
        profile: Profile::istio(),
        algorithms: provider::aws_lc_rs().signature_verification_algorithms,
        closing: ClosePolicy::default(),
    }
}

fn snapshot(trust: TrustBundles, locals: u8) -> Arc<Snapshot> {
    Arc::new(Snapshot::new(chosen(&WORLD.locals, locals), Arc::new(trust)))
}

fn register(
    registry: &mut Registry,
    scope: ScopeKey,
    local: SpiffeId,
    peer: VerifiedPeer,
    now: UnixTime,
) -> Result<Key, CloseReason> {
    let mut grounds = Grounds::new(local, peer);
    registry.terms(scope)?.judge(&mut grounds, now)?;
    Ok(registry.admit(scope, grounds))
}

fn run(events: Vec<Event>) -> Result<(), TestCaseError> {
    let first = snapshot(WORLD.trust([0b111, 0b111], [0, 0], true), 3);
    let mut registry = Registry::new(rules(), Arc::clone(&first));
    let scopes = [0, 3].map(|number| registry.open_scope(policy(number)));
    let mut model = Model {
        snapshot: first,
        policies: [policy(0), policy(3)],
        open: BTreeMap::new(),
        now: 0,
    };
    for event in events {
        match event {
            Event::Register { peer, scope, local } => {
                let peer = peer % WORLD.peers.len();
                let local = WORLD.locals[local].id().clone();
                let expected = model.judge(peer, scope, &local);
                let verified = WORLD.peers[peer].clone();
                let registered = register(&mut registry, scopes[scope], local.clone(), verified, at(model.now));
                prop_assert_eq!(registered.map(drop), expected);
                if let Ok(key) = registered {
                    model.open.insert(key, (peer, scope, local));
                }
            }
            Event::Remove(place) => {
                if let Some(&key) = model.open.keys().nth(place) {
                    model.open.remove(&key);
                    registry.remove(key);
                }
            }
            Event::Publish {
                roots,
                lists,
                renamed,
                locals,
            } => {
                model.snapshot = snapshot(WORLD.trust(roots, lists, renamed), locals);
                registry.apply(Arc::clone(&model.snapshot));
            }
            Event::SetPolicy { scope, policy: number } => {
                model.policies[scope] = policy(number);
                registry.set_policy(scopes[scope], policy(number));
            }
            Event::Advance(seconds) => model.now += seconds,
        }
        let mut closed = BTreeMap::new();
        while {
            closed.extend(registry.judge(at(model.now), 2));
            registry.has_suspects()
        } {}
        prop_assert_eq!(closed, model.close());
        prop_assert_eq!(registry.len(), model.open.len());
    }
    for key in model.open.into_keys() {
        registry.remove(key);
    }
    for scope in scopes {
        registry.close_scope(scope);
    }
    prop_assert!(
        registry.by_anchor.is_empty() && registry.by_local.is_empty(),
        "an index leaks"
    );
    prop_assert!(
        registry.deadlines.is_empty() && registry.scopes.is_empty(),
        "an index leaks"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn closes_exactly_what_would_not_be_accepted_today(events in events()) {
        run(events)?;
    }
}

#[test]
fn large_lists_make_small_batches() {
    let serials: Vec<_> = (0..10_000u32)
        .map(|serial| [[1; 4], serial.to_be_bytes()].concat())
        .collect();
    let ca = DevCa::new(td("a"), at(0)).unwrap();
    let list = ca.revocation_list(serials.iter().map(Vec::as_slice), at(0), at(10_000));
    let list = RevocationList::from_der(&list.unwrap()).unwrap();
    let cost = 1 + list.size() / BYTES_PER_SIGNATURE;
    assert!(cost > 2);
    let bundle = ca.bundle().unwrap().with_revocation_lists([list]).unwrap();
    let mut registry = Registry::new(rules(), snapshot(bundle.into(), 3));
    let scope = registry.open_scope(policy(0));
    let chain = ca.issue(&id("spiffe://a/x"), at(0)).unwrap().chain().to_vec();
    let trust = ca.bundle().unwrap().into();
    let peer = WORLD.verify(&chain, Role::Client, &trust, at(0)).unwrap();
    for _ in 0..10 {
        let local = WORLD.locals[0].id().clone();
        register(&mut registry, scope, local, peer.clone(), at(0)).unwrap();
    }
    registry.set_policy(scope, policy(1));
    for (budget, left) in [(1, 9), (cost, 8), (cost + 1, 6), (1000, 0)] {
        assert_eq!(registry.judge(at(0), budget), []);
        assert_eq!(registry.suspects.len(), left);
    }
}

#[test]
fn a_dropped_scope_goes_with_its_last_connection() {
    let trust = snapshot(WORLD.trust([0b111, 0b111], [0, 0], true), 3);
    let mut registry = Registry::new(rules(), trust);
    let scope = registry.open_scope(policy(0));
    let local = WORLD.locals[0].id().clone();
    let key = register(&mut registry, scope, local, WORLD.peers[0].clone(), at(0)).unwrap();
    registry.close_scope(scope);
    assert_eq!(registry.scopes.len(), 1);
    registry.remove(key);
    assert_eq!(registry.scopes.len(), 0);
}

#[test]
fn expiry_has_grace_or_no_effect_if_that_is_the_policy() {
    let trust = |roots| snapshot(WORLD.trust([roots, 0b111], [0, 0], true), 3);
    let closed_at = |closing| {
        let mut registry = Registry::new(Rules { closing, ..rules() }, trust(0b111));
        let scope = registry.open_scope(policy(0));
        let local = WORLD.locals[0].id().clone();
        register(&mut registry, scope, local, WORLD.peers[0].clone(), at(0)).unwrap();
        (0..400)
            .find(|second| {
                // Its root, and the same signed anew, by turns: the peer is verified every second.
                registry.apply(trust([0b101, 0b110][second % 2]));
                !registry.judge(at(*second as u64), 8).is_empty()
            })
            .map(|second| second as u64 - LIVES[0])
    };
    let policy = ClosePolicy::default;
    assert_eq!(closed_at(policy()), Some(1));
    assert_eq!(closed_at(policy().expiry_grace(Duration::from_secs(60))), Some(61));
    assert_eq!(closed_at(policy().keep_expired()), None);
}

#[test]
fn a_root_signed_anew_after_the_peer_expired_counts_by_its_own_dates() {
    let ca = DevCa::new(td("a"), at(0)).unwrap();
    let leaf = Template {
        not_after: at(LIVES[0]),
        ..Template::leaf(&id("spiffe://a/x"), at(0))
    };
    let chain = ca.issue_with(leaf).unwrap().chain().to_vec();
    let peer = WORLD
        .verify(&chain, Role::Client, &ca.bundle().unwrap().into(), at(0))
        .unwrap();
    let since = |second| {
        let renewed = Template {
            not_before: at(second),
            ..Template::authority(&td("a"), at(0))
        };
        let bundle = TrustBundle::new(td("a"), [ca.renew(renewed).unwrap()]).unwrap();
        snapshot(bundle.into(), 3)
    };
    let grace = ClosePolicy::default().expiry_grace(Duration::from_secs(60));
    for closing in [ClosePolicy::default().keep_expired(), grace] {
        let mut registry = Registry::new(Rules { closing, ..rules() }, snapshot(ca.bundle().unwrap().into(), 3));
        let scope = registry.open_scope(policy(0));
        let local = WORLD.locals[0].id().clone();
        let key = register(&mut registry, scope, local, peer.clone(), at(0)).unwrap();
        registry.apply(since(LIVES[0] + 20));
        assert_eq!(registry.judge(at(LIVES[0] + 20), 8), []);
        registry.apply(since(LIVES[0] + 40));
        assert_eq!(registry.judge(at(LIVES[0] + 39), 8), [(key, CloseReason::Expired)]);
    }
}
