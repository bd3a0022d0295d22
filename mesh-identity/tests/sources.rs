//! Sources: what they publish together, and in what order an authority replaces its root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::{sync::Arc, time::Duration};

use mesh_identity::{
    Role, Svid, TrustBundle, TrustBundles, TrustDomainAliases, VerifyError, provider,
    source::{
        FixedSource, Follower, MergedSource, Publisher, Share, Snapshot, Source, SourceEnded,
        dev_ca::{DevCa, DevCaSource, RotationError},
    },
    verify,
};
use mesh_testkit::clock::Calendar;
use support::*;

const LIFETIME: Duration = Duration::from_secs(3600);

fn svid_of(ca: &DevCa, path: &str) -> Arc<Svid> {
    let name = id(&format!("spiffe://{}{path}", ca.trust_domain()));
    svid(&ca.issue(&name, now()).unwrap(), &provider::aws_lc_rs())
}

fn bundles(authorities: &[&DevCa]) -> TrustBundles {
    TrustBundles::new(authorities.iter().map(|ca| ca.bundle().unwrap())).unwrap()
}

fn snapshot(svids: &[&Arc<Svid>], trust: TrustBundles) -> Snapshot {
    Snapshot::new(svids.iter().map(|svid| Arc::clone(svid)), Arc::new(trust))
}

fn ids(follower: &Follower) -> Vec<String> {
    let snapshot = follower.snapshot();
    snapshot.svids().iter().map(|svid| svid.id().to_string()).collect()
}

fn root_of(follower: &Follower, name: &str) -> Option<TrustBundle> {
    follower.snapshot().trust().get(&td(name)).cloned()
}

/// Whether the source believes the SVID as a client.
fn believes(follower: &Follower, svid: &Svid) -> Result<(), VerifyError> {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    verify(
        svid.chain(),
        Role::Client,
        follower.snapshot().trust(),
        now(),
        algorithms,
    )
    .map(drop)
}

#[tokio::test]
async fn a_fixed_source_is_ready_at_once() {
    let ca = ca(TD);
    let cart = svid_of(&ca, "/cart");
    let source = FixedSource::new(snapshot(&[&cart], bundles(&[&ca])));
    let ready = source.follow().ready().await.unwrap();
    assert!(Arc::ptr_eq(ready.default_svid().unwrap(), &cart));
}

#[test]
fn the_first_source_that_knows_a_trust_domain_has_it_alone() {
    let (mine, theirs, other) = (ca(TD), ca(TD), ca("other"));
    let first = FixedSource::new(snapshot(&[], bundles(&[&mine])));
    let second = FixedSource::new(snapshot(&[&svid_of(&mine, "/cart")], bundles(&[&theirs, &other])));
    let parts = [(Share::Trust, first.follow()), (Share::All, second.follow())];
    let merged = MergedSource::new(parts).0.follow();
    assert_eq!(root_of(&merged, TD), Some(mine.bundle().unwrap()));
    assert_eq!(root_of(&merged, "other"), Some(other.bundle().unwrap()));
    assert_eq!(ids(&merged), ["spiffe://cluster.local/cart"]);
    assert!(believes(&merged, &svid_of(&mine, "/a")).is_ok());
    assert!(believes(&merged, &svid_of(&theirs, "/a")).is_err());
}

#[test]
fn an_empty_bundle_has_precedence_as_well() {
    let real = ca(TD);
    let empty = TrustBundle::new(td(TD), []).unwrap();
    let first = FixedSource::new(snapshot(&[], empty.into()));
    let second = FixedSource::new(snapshot(&[&svid_of(&real, "/cart")], bundles(&[&real])));
    let parts = [(Share::All, first.follow()), (Share::All, second.follow())];
    let merged = MergedSource::new(parts).0.follow();
    assert_eq!(
        believes(&merged, &svid_of(&real, "/a")),
        Err(VerifyError::EmptyBundle { trust_domain: td(TD) })
    );
}

#[test]
fn an_alias_takes_a_trust_domain_from_later_sources() {
    let (own, old) = (ca(TD), ca("old"));
    let aliases = TrustDomainAliases::new([(td("old"), td(TD))]).unwrap();
    let first = FixedSource::new(snapshot(&[], bundles(&[&own]).with_aliases(aliases).unwrap()));
    let chained = TrustDomainAliases::new([(td("older"), td("old"))]).unwrap();
    let second = FixedSource::new(snapshot(&[], bundles(&[&old]).with_aliases(chained).unwrap()));
    let parts = [(Share::Trust, first.follow()), (Share::Trust, second.follow())];
    let merged = MergedSource::new(parts).0.follow();
    assert_eq!(root_of(&merged, "old"), None);
    let trust = Arc::clone(merged.snapshot().trust());
    assert_eq!(trust.for_members_of(&td("old")), trust.get(&td(TD)));
    assert_eq!(trust.for_members_of(&td("older")), None);
    assert!(believes(&merged, &svid_of(&old, "/a")).is_err());
}

#[test]
fn of_identities_with_the_same_name_the_first_counts() {
    let ca = ca(TD);
    let (a, b, other_a) = (svid_of(&ca, "/a"), svid_of(&ca, "/b"), svid_of(&ca, "/a"));
    let first = FixedSource::new(snapshot(&[&a], bundles(&[&ca])));
    let second = FixedSource::new(snapshot(&[&b, &other_a], TrustBundles::default()));
    let parts = [(Share::All, first.follow()), (Share::Identities, second.follow())];
    let merged = MergedSource::new(parts).0.follow();
    assert_eq!(ids(&merged), ["spiffe://cluster.local/a", "spiffe://cluster.local/b"]);
    assert!(Arc::ptr_eq(merged.snapshot().svid(a.id()).unwrap(), &a));
}

/// Polls a merged source's driver until it has nothing to do.
macro_rules! settle {
    ($driver:expr) => {
        tokio::select! {
            biased;
            () = &mut $driver => true,
            () = std::future::ready(()) => false,
        }
    };
}

#[tokio::test]
async fn half_a_configuration_is_not_published() {
    let ca = ca(TD);
    let (roots, leaves) = (Publisher::new(), Publisher::new());
    let parts = [(Share::Trust, roots.follow()), (Share::Identities, leaves.follow())];
    let (merged, driver) = MergedSource::new(parts);
    let merged = merged.follow();
    tokio::pin!(driver);
    leaves.publish(snapshot(&[&svid_of(&ca, "/a")], TrustBundles::default()));
    roots.report(SourceEnded);
    assert!(!settle!(driver));
    assert_eq!(merged.generation().0, 0);
    assert!(merged.problem().is_some(), "says what it waits for");
    roots.publish(snapshot(&[], bundles(&[&ca])));
    assert!(!settle!(driver));
    assert_eq!(merged.generation().0, 1);
    assert!(merged.problem().is_none());
    assert!(believes(&merged, merged.snapshot().default_svid().unwrap()).is_ok());
}

#[tokio::test]
async fn one_withdrawal_withdraws_all_and_no_other_source_fills_the_gap() {
    let (first_ca, second_ca) = (ca(TD), ca(TD));
    let both = [&first_ca, &second_ca].map(|ca| snapshot(&[&svid_of(ca, "/a")], bundles(&[ca])));
    let publishers = both.clone().map(|snapshot| {
        let publisher = Publisher::new();
        publisher.publish(snapshot);
        publisher
    });
    for (place, withdrawing) in publishers.iter().enumerate() {
        let parts = publishers.iter().map(|publisher| (Share::All, publisher.follow()));
        let (merged, driver) = MergedSource::new(parts);
        let merged = merged.follow();
        tokio::pin!(driver);
        withdrawing.withdraw(SourceEnded);
        assert!(!settle!(driver));
        assert!(merged.snapshot().is_blank());
        assert_eq!(merged.problem().unwrap().to_string(), SourceEnded.to_string());
        withdrawing.publish(both[place].clone());
        assert!(!settle!(driver));
        assert!(!merged.snapshot().is_blank() && merged.problem().is_none());
    }
}

/// A federation has nothing before its first fetch, and says so.
#[test]
fn a_source_that_has_nothing_yet_takes_nothing_back() {
    let ca = ca(TD);
    let own = FixedSource::new(snapshot(&[&svid_of(&ca, "/a")], bundles(&[&ca])));
    let none = FixedSource::new(Snapshot::default());
    let merged = |first| MergedSource::new([first, (Share::Trust, none.follow())]).0.follow();
    assert_eq!(ids(&merged((Share::All, own.follow()))), ["spiffe://cluster.local/a"]);
    // An identity is waited for, since it is what such a part is for.
    for share in [Share::All, Share::Identities] {
        let merged = MergedSource::new([(share, none.follow()), (Share::All, own.follow())]);
        assert_eq!(merged.0.follow().generation().0, 0, "{share:?}");
    }
}

#[tokio::test]
async fn a_source_that_loses_its_identity_or_its_bundles_withdraws_all() {
    let (mine, theirs) = (ca(TD), ca("other"));
    let whole = || snapshot(&[&svid_of(&mine, "/a")], bundles(&[&mine]));
    let second = FixedSource::new(snapshot(&[&svid_of(&theirs, "/b")], bundles(&[&theirs])));
    let no_identity = snapshot(&[], bundles(&[&mine]));
    let no_bundle = snapshot(&[&svid_of(&mine, "/a")], TrustBundles::default());
    for (share, rest, withdraws) in [
        (Share::All, &no_identity, true),
        (Share::All, &no_bundle, true),
        (Share::Identities, &no_identity, true),
        (Share::Identities, &no_bundle, false),
        (Share::Trust, &no_identity, false),
        (Share::Trust, &no_bundle, true),
    ] {
        let first = Publisher::new();
        first.publish(whole());
        let (merged, driver) = MergedSource::new([(share, first.follow()), (Share::All, second.follow())]);
        let merged = merged.follow();
        tokio::pin!(driver);
        assert!(!merged.snapshot().is_empty());
        first.publish(rest.clone());
        assert!(!settle!(driver));
        assert_eq!(merged.snapshot().is_blank(), withdraws, "{share:?}");
    }
}

/// Whether it was seen to have something or not.
#[test]
fn what_was_withdrawn_before_anybody_looked_is_withdrawn() {
    let ca = ca(TD);
    let own = FixedSource::new(snapshot(&[&svid_of(&ca, "/a")], bundles(&[&ca])));
    for share in [Share::All, Share::Identities, Share::Trust] {
        let first = Publisher::new();
        first.publish(snapshot(&[&svid_of(&ca, "/b")], bundles(&[&ca])));
        first.withdraw(SourceEnded);
        let merged = MergedSource::new([(share, first.follow()), (Share::All, own.follow())]).0;
        assert!(merged.follow().snapshot().is_blank(), "{share:?}");
        assert!(merged.follow().problem().is_some(), "{share:?}");
    }
}

#[tokio::test]
async fn a_source_that_ended_leaves_what_it_had() {
    let ca = ca(TD);
    let publisher = Publisher::new();
    publisher.publish(snapshot(&[&svid_of(&ca, "/a")], bundles(&[&ca])));
    let (merged, driver) = MergedSource::new([(Share::All, publisher.follow())]);
    drop(publisher);
    tokio::pin!(driver);
    assert!(settle!(driver), "the driver completes");
    assert_eq!(ids(&merged.follow()), ["spiffe://cluster.local/a"]);
}

fn dev_source(ca: DevCa) -> DevCaSource {
    DevCaSource::new(ca, [workload()], LIFETIME, provider::aws_lc_rs(), now(), 0).unwrap()
}

fn own(follower: &Follower) -> Arc<Svid> {
    Arc::clone(follower.snapshot().default_svid().unwrap())
}

#[test]
fn a_root_is_replaced_without_anybody_noticing() {
    let source = dev_source(ca(TD));
    let before = source.follow();
    let by_first = own(&before);
    source.prepare(ca(TD)).unwrap();
    assert!(Arc::ptr_eq(&own(&before), &by_first), "the next root signs nothing yet");
    assert_eq!(root_of(&before, TD).unwrap().len(), 2);
    source.activate(now(), 0).unwrap();
    let by_second = own(&before);
    assert_ne!(by_first.chain(), by_second.chain());
    for svid in [&by_first, &by_second] {
        assert!(believes(&before, svid).is_ok(), "both roots are believed");
    }
    source.revoke().unwrap();
    assert!(believes(&before, &by_second).is_ok());
    assert!(matches!(
        believes(&before, &by_first),
        Err(VerifyError::UnknownIssuer { .. })
    ));
}

#[test]
fn the_steps_of_a_rotation_have_one_order() {
    let source = dev_source(ca(TD));
    let generation = source.follow().generation().0;
    assert_eq!(source.activate(now(), 0), Err(RotationError::NotPrepared));
    assert_eq!(source.revoke(), Err(RotationError::NothingRetired));
    assert_eq!(source.prepare(ca("other")), Err(RotationError::OtherTrustDomain));
    assert_eq!(source.follow().generation().0, generation, "nothing has changed");
    source.prepare(ca(TD)).unwrap();
    source.activate(now(), 0).unwrap();
    source.prepare(ca(TD)).unwrap();
    assert_eq!(source.activate(now(), 0), Err(RotationError::StillRetiring));
    assert_eq!(root_of(&source.follow(), TD).unwrap().len(), 3);
}

#[test]
fn an_issuer_that_is_not_believed_yet_breaks_new_handshakes_only() {
    let (first, second) = (ca(TD), ca(TD));
    let early = svid_of(&second, "/early");
    let source = dev_source(first);
    let follower = source.follow();
    assert_eq!(
        believes(&follower, &early).unwrap_err().to_string(),
        "the certificate was not issued by a root of trust domain `cluster.local`"
    );
    assert!(believes(&follower, &own(&follower)).is_ok());
}

#[test]
fn svids_are_renewed_between_45_and_50_percent_of_their_life() {
    let due = |random| {
        let source = DevCaSource::new(ca(TD), [workload()], LIFETIME, provider::aws_lc_rs(), now(), random);
        source.unwrap().due().as_secs() - now().as_secs()
    };
    assert_eq!(due(0), 1800);
    assert_eq!(due(u32::MAX), 1620);
    assert!((1620..=1800).contains(&due(u32::MAX / 3)));
}

#[test]
fn an_authority_issues_for_its_own_trust_domain_only() {
    let source = DevCaSource::new(ca("other"), [workload()], LIFETIME, provider::aws_lc_rs(), now(), 0);
    assert!(matches!(source.unwrap_err(), RotationError::Issue(_)));
}

#[tokio::test(start_paused = true)]
async fn a_running_authority_renews_in_time_and_trust_stays_the_same() {
    let source = dev_source(ca(TD));
    let mut follower = source.follow();
    let trust = Arc::clone(follower.snapshot().trust());
    let clock = Calendar::new();
    let watch = async {
        for _ in 0..10 {
            let last = own(&follower);
            follower.changed().await.unwrap();
            let next = own(&follower);
            let now = clock.now();
            assert!(next.not_after() > last.not_after());
            assert!(now.as_secs() <= last.not_after().as_secs() - LIFETIME.as_secs() / 2);
            assert!(Arc::ptr_eq(follower.snapshot().trust(), &trust));
        }
    };
    tokio::select! {
        () = source.run(&clock, || 7) => unreachable!("never completes"),
        () = watch => {}
    }
}

#[test]
fn a_root_that_was_kept_signs_on() {
    let first = DevCa::new(td("cluster.local"), now()).unwrap();
    let kept = DevCa::from_pem(td("cluster.local"), &first.roots_pem(), &first.key_pem()).unwrap();
    assert_eq!(kept.root_certificate(), first.root_certificate());
    let source = DevCaSource::new(first, [], LIFETIME, provider::aws_lc_rs(), now(), 0).unwrap();
    believes(&source.follow(), &svid_of(&kept, "/ns/a/sa/b")).unwrap();
}

#[test]
fn a_key_without_its_root_signs_nothing() {
    let authority = |name: &str| DevCa::new(td(name), now()).unwrap();
    let (one, other) = (authority("cluster.local"), authority("cluster.local"));
    let restore = |name, root: &str, key: &str| DevCa::from_pem(td(name), root, key).unwrap_err().to_string();
    let mismatch = "the certificate is not that of a root of `cluster.local` with this key";
    assert_eq!(restore("cluster.local", &one.roots_pem(), &other.key_pem()), mismatch);
    let elsewhere = restore("elsewhere.example", &one.roots_pem(), &one.key_pem());
    assert_eq!(elsewhere, mismatch.replace("cluster.local", "elsewhere.example"));
    assert_eq!(
        restore("cluster.local", "", &one.key_pem()),
        "the text holds no certificate"
    );
    let no_key = "the text holds no key of a kind that is known";
    assert_eq!(restore("cluster.local", &one.roots_pem(), &one.roots_pem()), no_key);
}
