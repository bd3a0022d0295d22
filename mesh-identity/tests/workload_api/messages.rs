//! What a message of the X.509 stream may say, and what it means.

use mesh_identity::{
    VerifyError,
    source::{
        dev_ca::{DevCa, Template},
        workload_api::{MAX_BUNDLES, MAX_HINT_BYTES, MAX_SVIDS},
    },
};
use mesh_testkit::workload_api::{X509Entry, X509Message};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn the_first_svid_is_the_default_and_its_bundle_is_believed() {
    let mut world = World::new();
    let message = world.message().with(world.entry(&till()));
    world.agent.say_x509(message);
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert_eq!(ids(&snapshot), [&cart(), &till()]);
    assert_eq!(snapshot.default_svid().unwrap().id(), &cart());
    assert!(follower.problem().is_none());
    let peer = judge(&snapshot, &world.issue(&till()), at(NOW)).unwrap();
    assert_eq!(peer.id(), &till());
}

#[tokio::test(start_paused = true)]
async fn a_message_replaces_everything_before_it() {
    let mut world = World::new();
    let stranger = world.abroad.issue(&id("spiffe://abroad/x"), at(NOW)).unwrap();
    let full = world.message().with(world.entry(&till()));
    world
        .agent
        .say_x509(full.federated(&td("abroad"), [world.abroad.root_certificate()]));
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(judge(&snapshot, &stranger, at(NOW)).is_ok());

    world.agent.say_x509(world.message());
    let snapshot = next(&mut follower).await;
    assert_eq!(ids(&snapshot), [&cart()]);
    assert!(matches!(
        judge(&snapshot, &stranger, at(NOW)),
        Err(VerifyError::UnknownTrustDomain { .. })
    ));
    assert_eq!(snapshot.trust().iter().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_federated_bundle_distrusts_its_trust_domain() {
    let mut world = World::new();
    let stranger = world.abroad.issue(&id("spiffe://abroad/x"), at(NOW)).unwrap();
    world.agent.say_x509(world.message().federated(&td("abroad"), []));
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(matches!(
        judge(&snapshot, &stranger, at(NOW)),
        Err(VerifyError::EmptyBundle { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_federated_bundle_never_takes_the_place_of_ones_own() {
    let mut world = World::new();
    let impostor = DevCa::new(td("home"), at(NOW)).unwrap();
    for name in ["home", "spiffe://home"] {
        let message = world
            .message()
            .federated_under(name, impostor.root_certificate())
            .federated(&td("abroad"), [world.abroad.root_certificate()]);
        world.agent.say_x509(message);
        let (_api, mut follower) = world.connect();
        let snapshot = next(&mut follower).await;
        let forged = impostor.issue(&till(), at(NOW)).unwrap();
        assert!(judge(&snapshot, &world.issue(&till()), at(NOW)).is_ok());
        assert!(judge(&snapshot, &forged, at(NOW)).is_err());
        assert!(snapshot.trust().get(&td("abroad")).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_svid_with_a_hint_has_it() {
    let mut world = World::new();
    let message = X509Message::new()
        .with(world.entry(&cart()).hint("internal"))
        .with(world.entry(&till()).hint("internal"))
        .with(world.entry(&id("spiffe://home/door")).hint("external"))
        .with(world.entry(&id("spiffe://home/cellar")));
    world.agent.say_x509(message);
    let (api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert_eq!(api.hinted("internal"), Some(cart()));
    assert_eq!(api.hinted("external"), Some(id("spiffe://home/door")));
    assert_eq!(api.hinted(""), None);
    assert_eq!(snapshot.svids().len(), 3);
    assert!(snapshot.svid(&till()).is_none());

    world.agent.say_x509(world.message());
    next(&mut follower).await;
    assert_eq!(api.hinted("internal"), None);
}

#[tokio::test(start_paused = true)]
async fn revocation_lists_count_for_those_who_signed_them() {
    let mut world = World::new();
    // Two authorities with one name, as SPIRE's have.
    let named = |name: &str| Template {
        common_name: Some("Authority".to_owned()),
        organization: None,
        ..Template::authority(&td(name), at(NOW))
    };
    world.home = DevCa::root(td("home"), named("home")).unwrap();
    world.abroad = DevCa::root(td("abroad"), named("abroad")).unwrap();
    let serial = |number: u8, name: &str| Template {
        serial: Some(vec![number]),
        ..Template::leaf(&id(name), at(NOW))
    };
    let revoked = world.home.issue_with(serial(7, "spiffe://home/x")).unwrap();
    let namesake = world.abroad.issue_with(serial(7, "spiffe://abroad/x")).unwrap();
    let list = world.home.revocation_list([&[7][..]], at(NOW), at(NOW + 3600)).unwrap();
    let message = world
        .message()
        .federated(&td("abroad"), [world.abroad.root_certificate()])
        .revocation_list(&list);
    world.agent.say_x509(message);
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(matches!(
        judge(&snapshot, &revoked, at(NOW)),
        Err(VerifyError::Revoked { .. })
    ));
    assert!(judge(&snapshot, &namesake, at(NOW)).is_ok());
    assert!(judge(&snapshot, &world.issue(&till()), at(NOW)).is_ok());

    world.agent.say_x509(world.message());
    let snapshot = next(&mut follower).await;
    assert!(judge(&snapshot, &revoked, at(NOW)).is_ok(), "the list is gone");
}

#[tokio::test(start_paused = true)]
async fn a_list_of_an_intermediate_authority_counts_as_well() {
    let mut world = World::new();
    let intermediate = world.home.intermediate(at(NOW)).unwrap();
    let template = Template {
        serial: Some(vec![7]),
        ..Template::leaf(&till(), at(NOW))
    };
    let revoked = intermediate.issue_with(template).unwrap();
    let list = intermediate
        .revocation_list([&[7][..]], at(NOW), at(NOW + 3600))
        .unwrap();
    world.agent.say_x509(world.message().revocation_list(&list));
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(matches!(
        judge(&snapshot, &revoked, at(NOW)),
        Err(VerifyError::Revoked { .. })
    ));
}

/// A certificate is an anchor to one trust domain and an intermediate to another.
#[tokio::test(start_paused = true)]
async fn a_list_of_anothers_anchor_counts_where_that_is_an_intermediate() {
    let mut world = World::new();
    let template = Template {
        names: None,
        ..Template::authority(&td("home"), at(NOW))
    };
    let shared = world.home.intermediate_with(template).unwrap();
    let revoked = shared.issue_with(seventh("spiffe://home/x")).unwrap();
    let good = shared.issue(&till(), at(NOW)).unwrap();
    let message = world
        .message()
        .federated(&td("abroad"), [&revoked.chain()[1]])
        .revocation_list(&revoke_the_seventh(&shared));
    world.agent.say_x509(message);
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(matches!(
        judge(&snapshot, &revoked, at(NOW)),
        Err(VerifyError::Revoked { .. })
    ));
    assert!(judge(&snapshot, &good, at(NOW)).is_ok());
}

/// The name is the same, and one's own chain tells which list is whose.
#[tokio::test(start_paused = true)]
async fn lists_of_intermediates_with_one_name_are_told_apart_by_ones_own_chain() {
    let mut world = World::new();
    let [near, far] = [&world.home, &world.abroad].map(|root| {
        let template = Template {
            common_name: Some("Authority".to_owned()),
            organization: None,
            ..Template::authority(root.trust_domain(), at(NOW))
        };
        root.intermediate_with(template).unwrap()
    });
    let own = near.issue(&cart(), at(NOW)).unwrap();
    let base = || {
        let entry = X509Entry::new(&cart(), &own, [world.home.root_certificate()]);
        let message = X509Message::new().with(entry);
        message.federated(&td("abroad"), [world.abroad.root_certificate()])
    };
    let [near_list, far_list] = [&near, &far].map(revoke_the_seventh);
    let near_revoked = near.issue_with(seventh("spiffe://home/x")).unwrap();
    let far_revoked = far.issue_with(seventh("spiffe://abroad/x")).unwrap();
    let near_good = near.issue(&till(), at(NOW)).unwrap();
    let far_good = far.issue(&id("spiffe://abroad/y"), at(NOW)).unwrap();
    let messages = [
        base().revocation_list(&near_list).revocation_list(&far_list),
        base().revocation_list(&far_list).revocation_list(&near_list),
        base().revocation_list(&near_list),
    ];
    let (_api, mut follower) = {
        world.agent.say_x509(base());
        world.connect()
    };
    next(&mut follower).await;
    for (place, message) in messages.into_iter().enumerate() {
        world.agent.say_x509(message);
        let snapshot = next(&mut follower).await;
        assert!(follower.problem().is_none(), "{place}");
        assert!(matches!(
            judge(&snapshot, &near_revoked, at(NOW)),
            Err(VerifyError::Revoked { .. })
        ));
        assert!(judge(&snapshot, &near_good, at(NOW)).is_ok());
        let (revoked, good) = (
            judge(&snapshot, &far_revoked, at(NOW)),
            judge(&snapshot, &far_good, at(NOW)),
        );
        if place < 2 {
            assert!(matches!(revoked, Err(VerifyError::Revoked { .. })));
            assert!(good.is_ok());
        } else {
            // Without a list of their own they are not told apart, and nobody is believed.
            assert!(revoked.is_err());
            assert_eq!(good, Err(VerifyError::RevocationListSignature));
        }
    }
}

/// Namesakes of two other trust domains are none of a third one's business.
#[tokio::test(start_paused = true)]
async fn lists_of_other_trust_domains_do_not_stand_in_each_others_way() {
    let mut world = World::new();
    let named = |name: &str| {
        let template = Template {
            common_name: Some("Authority".to_owned()),
            organization: None,
            ..Template::authority(&td(name), at(NOW))
        };
        DevCa::root(td(name), template).unwrap()
    };
    let others = ["one", "two"].map(named);
    let message = others.iter().fold(world.message(), |message, other| {
        let message = message.federated(other.trust_domain(), [other.root_certificate()]);
        message.revocation_list(&revoke_the_seventh(other))
    });
    world.agent.say_x509(message);
    let (_api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert!(follower.problem().is_none());
    for other in &others {
        let name = format!("spiffe://{}/x", other.trust_domain());
        let revoked = other.issue_with(seventh(&name)).unwrap();
        assert!(matches!(
            judge(&snapshot, &revoked, at(NOW)),
            Err(VerifyError::Revoked { .. })
        ));
    }
    assert!(judge(&snapshot, &world.issue(&till()), at(NOW)).is_ok());
}

/// Two lists that one authority signed are not chosen from.
#[tokio::test(start_paused = true)]
async fn two_lists_of_one_authority_refuse_the_message() {
    let mut world = World::new();
    let intermediate = world.home.intermediate(at(NOW)).unwrap();
    let lists = |ca: &DevCa| {
        let newer = ca.revocation_list([], at(NOW + 1), at(NOW + 3600)).unwrap();
        let message = world.message().revocation_list(&revoke_the_seventh(ca));
        message.revocation_list(&newer)
    };
    let messages = [lists(&world.home), lists(&intermediate)];
    let (_api, mut follower) = world.connect();
    for message in messages {
        world.agent.say_x509(message);
        let said = loop {
            let said = problem(&mut follower).await;
            if !said.contains("status 7") {
                break said;
            }
        };
        assert_eq!(
            said,
            "the bundle of `home`: revocation list 2 has the issuer of another one"
        );
        assert!(follower.snapshot().is_blank());
    }
}

/// As many roots with one name as a bundle may have, none of which signed the lists.
#[tokio::test(start_paused = true)]
async fn signatures_are_checked_with_a_bounded_number_of_keys() {
    let mut world = World::new();
    let template = || Template {
        common_name: Some("Authority".to_owned()),
        ..Template::authority(&td("abroad"), at(NOW))
    };
    let [many, other] = [template(), template()].map(|template| DevCa::root(td("abroad"), template).unwrap());
    let roots: Vec<_> = (0..256).map(|_| many.renew(template()).unwrap()).collect();
    let (_api, mut follower) = world.connect();
    for (lists, fault) in [
        (
            4,
            "the bundle of `abroad`: revocation list 2 has the issuer of another one",
        ),
        (5, "the revocation lists may be of more than 1024 authorities in all"),
    ] {
        let message = world.message().federated(&td("abroad"), &roots);
        let list = revoke_the_seventh(&other);
        world
            .agent
            .say_x509((0..lists).fold(message, |message, _| message.revocation_list(&list)));
        while follower.problem().is_none_or(|problem| problem.to_string() != fault) {
            tokio::time::timeout(std::time::Duration::from_secs(60), follower.changed())
                .await
                .expect(fault)
                .unwrap();
        }
    }
}

fn seventh(name: &str) -> Template {
    Template {
        serial: Some(vec![7]),
        ..Template::leaf(&id(name), at(NOW))
    }
}

fn revoke_the_seventh(ca: &DevCa) -> Vec<u8> {
    ca.revocation_list([&[7][..]], at(NOW), at(NOW + 3600)).unwrap()
}

/// What came before stays, the stream stays, and the next good message ends the problem.
#[tokio::test(start_paused = true)]
async fn a_message_with_any_fault_is_reported_and_not_taken() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    let first = next(&mut follower).await;
    for (message, fault) in faults(&world) {
        world.agent.say_x509(message);
        assert_eq!(problem(&mut follower).await, fault);
        assert_eq!(ids(&follower.snapshot()), ids(&first), "{fault}");
        assert_eq!(follower.generation().0, 1, "{fault}");
    }
    world.agent.say_x509(X509Message::new().with(world.entry(&till())));
    let last = next(&mut follower).await;
    assert_eq!(ids(&last), [&till()]);
    assert!(follower.problem().is_none());
    assert_eq!(world.agent.calls().len(), 1, "one stream for all of it");
}

fn faults(world: &World) -> Vec<(X509Message, String)> {
    let good = || world.entry(&cart());
    let one = |entry: X509Entry| X509Message::new().with(entry);
    let rsa_like = vec![0x30, 0x03, 0x02, 0x01, 0x00];
    let root = || world.home.root_certificate().to_vec();
    let other_root = || DevCa::new(td("home"), at(NOW)).unwrap().root_certificate().to_vec();
    let two = |first: &str, second: &str| {
        let message = world.message().federated_under(first, &[]);
        message.federated_under(second, &[])
    };
    let many = |count: usize| {
        (0..count).fold(world.message(), |message, n| {
            message.federated_under(&n.to_string(), &[])
        })
    };
    let old = |lifetime: u64| {
        let template = Template {
            not_before: at(NOW - 20),
            not_after: at(NOW - lifetime),
            ..Template::leaf(&cart(), at(NOW))
        };
        X509Entry::new(
            &cart(),
            &world.home.issue_with(template).unwrap(),
            [world.home.root_certificate()],
        )
    };
    let mut faults = vec![
        (X509Message::new(), "the message has no svid"),
        (
            one(X509Entry {
                id: String::new(),
                ..good()
            }),
            "svid 1: `spiffe_id` is empty",
        ),
        (
            one(X509Entry {
                chain: vec![],
                ..good()
            }),
            "svid 1: `x509_svid` is empty",
        ),
        (
            one(X509Entry { key: vec![], ..good() }),
            "svid 1: `x509_svid_key` is empty",
        ),
        (
            one(X509Entry {
                bundle: vec![],
                ..good()
            }),
            "svid 1: `bundle` is empty",
        ),
        (
            one(X509Entry {
                id: till().to_string(),
                ..good()
            }),
            "svid 1: the certificate is of `spiffe://home/cart`, and `spiffe://home/till` stands beside it",
        ),
        (
            one(good().hint(&"x".repeat(MAX_HINT_BYTES + 1))),
            "svid 1: the hint has 1025 bytes, more than 1024",
        ),
        (
            one(X509Entry {
                key: rsa_like,
                ..good()
            }),
            "svid 1: the private key is malformed or of an unsupported kind",
        ),
        (
            one(X509Entry {
                key: world.entry(&cart()).key,
                ..good()
            }),
            "svid 1: the key does not match the certificate",
        ),
        (
            one(X509Entry {
                chain: [good().chain, vec![0]].concat(),
                ..good()
            }),
            "svid 1: the chain is no run of at most 8 certificates",
        ),
        (
            one(X509Entry {
                chain: root().repeat(9),
                ..good()
            }),
            "svid 1: the chain is no run of at most 8 certificates",
        ),
        (
            world.message().with(X509Entry {
                chain: [root(), good().chain].concat(),
                ..good()
            }),
            "svid 2: the spiffe id of the certificate has no path",
        ),
        (
            world.message().with(X509Entry {
                bundle: other_root(),
                ..good()
            }),
            "svid 2: its bundle is not the one of its trust domain's first svid",
        ),
        (
            one(X509Entry {
                bundle: good().chain,
                ..good()
            }),
            "the bundle of `home`: root 1: the issuer's certificate is not a certificate authority's",
        ),
        (
            one(X509Entry {
                bundle: [root(), vec![1]].concat(),
                ..good()
            }),
            "the bundle of `home` is no run of at most 256 certificates",
        ),
        (two("spiffe://a", "spiffe://a"), "trust domain `a` has two bundles"),
        (two("spiffe://a", "a"), "trust domain `a` has two bundles"),
        (
            world.message().federated_under("spiffe://A", &[]),
            "bundle 1: a trust domain holds only `a-z`, `0-9`, `.`, `-` and `_`",
        ),
        (
            world.message().federated_under("spiffe://a/b", &[]),
            "bundle 1: a trust domain holds only `a-z`, `0-9`, `.`, `-` and `_`",
        ),
        (
            world
                .message()
                .federated(&td("abroad"), [world.home.root_certificate()]),
            "the bundle of `abroad`: root 1: the issuer belongs to trust domain `home`",
        ),
        (
            world.message().revocation_list(&[0x30, 0]),
            "revocation list 1: the revocation list is malformed",
        ),
        (
            (0..65).fold(world.message(), |message, _| message.revocation_list(&[])),
            "the message has more than 64 revocation lists",
        ),
        (many(MAX_BUNDLES + 1), "the message has more than 256 bundles"),
        (
            (0..=MAX_SVIDS).fold(X509Message::new(), |message, _| message.with(good())),
            "the message has more than 128 svids",
        ),
    ];
    faults.push((one(old(10)), "svid 1: the certificate expired at 2030-03-17T17:46:30Z"));
    faults
        .into_iter()
        .map(|(message, fault)| (message, fault.to_owned()))
        .collect()
}
