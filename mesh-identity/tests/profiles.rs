//! What the profiles relax, rule by rule, and trust domains that go by several names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::sync::Arc;

use mesh_identity::{
    AliasError, DenyReason, PeerPolicy, Profile, ProfileRule, Role, TrustBundles, TrustDomainAliases, VerifyError,
    provider,
    source::dev_ca::{DevCa, Extension, Issued, KeyUsageBits, Template},
    tls::{ClientTls, HandshakeError, ServerTls},
    verify, verify_under,
};
use support::*;

fn check(profile: Profile, issued: &Issued, role: Role, trust: &TrustBundles) -> Result<(), &'static str> {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    verify_under(profile, issued.chain(), role, trust, now(), algorithms)
        .map(drop)
        .map_err(|error| error.reason())
}

fn server(ca: &DevCa, trust: TrustBundles, profile: Profile, policy: PeerPolicy) -> ServerTls {
    let provider = provider::aws_lc_rs();
    let svid = svid(&ca.issue(&workload(), now()).unwrap(), &provider);
    ServerTls::builder(provider)
        .identity(svid)
        .trust(Arc::new(trust))
        .authorize(policy)
        .profile(profile)
        .clock(Arc::new(Still(now())))
        .build()
        .unwrap()
}

fn client(ca: &DevCa, trust: TrustBundles, profile: Profile, policy: PeerPolicy) -> ClientTls {
    let provider = provider::aws_lc_rs();
    let svid = svid(&ca.issue(&workload(), now()).unwrap(), &provider);
    ClientTls::builder(provider)
        .identity(svid)
        .trust(Arc::new(trust))
        .authorize(policy)
        .profile(profile)
        .clock(Arc::new(Still(now())))
        .build()
        .unwrap()
}

/// What a server says of a client that shows `issued`, and a client of a server that does.
fn handshakes(
    ca: &DevCa,
    trust: &TrustBundles,
    profile: Profile,
    policy: &PeerPolicy,
    issued: &Issued,
) -> [Result<(), HandshakeError>; 2] {
    let server = server(ca, trust.clone(), profile, policy.clone());
    let client = client(ca, trust.clone(), profile, policy.clone());
    let claim = client_claiming(issued.chain().to_vec(), issued);
    let (_, of_client) = Pair::new(claim, server.config()).run();
    let (of_server, _) = Pair::new(client.config(), server_showing(issued)).run();
    [of_client, of_server].map(|outcome| outcome.map_err(|error| HandshakeError::from_rustls(&error)))
}

/// A chain that breaks one rule only, and the roots that it leads to.
struct Vector {
    rule: ProfileRule,
    reason: &'static str,
    ca: DevCa,
    issued: Issued,
}

fn vectors() -> Vec<Vector> {
    fn not_critical(extension: &mut Option<Extension>) {
        *extension = extension.take().map(|extension| extension.critical(false));
    }
    type Change = fn(&mut Template);
    let leaves: &[(ProfileRule, &str, Change)] = &[
        (ProfileRule::CriticalKeyUsage, "leaf_key_usage_not_critical", |t| {
            not_critical(&mut t.key_usage);
        }),
        (ProfileRule::CriticalNames, "leaf_names_not_critical", |t| {
            not_critical(&mut t.names);
        }),
        (ProfileRule::LeafConstraints, "leaf_no_basic_constraints", |t| {
            t.basic_constraints = None;
        }),
    ];
    let roots: &[(ProfileRule, &str, Change)] = &[
        (ProfileRule::AnchorKeyUsage, "issuer_no_key_usage", |t| {
            t.key_usage = None;
        }),
        (ProfileRule::CriticalKeyUsage, "issuer_key_usage_not_critical", |t| {
            not_critical(&mut t.key_usage);
        }),
    ];
    let mut vectors = Vec::new();
    for &(rule, reason, change) in leaves {
        let ca = ca(TD);
        let mut template = leaf();
        change(&mut template);
        let issued = ca.issue_with(template).unwrap();
        vectors.push(Vector {
            rule,
            reason,
            ca,
            issued,
        });
    }
    for &(rule, reason, change) in roots {
        let mut template = authority();
        change(&mut template);
        let ca = DevCa::root(td(TD), template).unwrap();
        let issued = ca.issue(&workload(), now()).unwrap();
        vectors.push(Vector {
            rule,
            reason,
            ca,
            issued,
        });
    }
    let ca = ca(TD);
    let mut template = authority();
    not_critical(&mut template.key_usage);
    let issued = ca
        .intermediate_with(template)
        .unwrap()
        .issue(&workload(), now())
        .unwrap();
    vectors.push(Vector {
        rule: ProfileRule::CriticalKeyUsage,
        reason: "issuer_key_usage_not_critical",
        ca,
        issued,
    });
    vectors
}

#[test]
fn each_rule_is_enforced_unless_that_rule_is_relaxed() {
    for Vector {
        rule,
        reason,
        ca,
        issued,
    } in vectors()
    {
        let trust = TrustBundles::from(ca.bundle().unwrap());
        for role in [Role::Client, Role::Server] {
            assert_eq!(check(Profile::spiffe(), &issued, role, &trust), Err(reason), "{rule}");
            assert_eq!(check(Profile::istio(), &issued, role, &trust), Ok(()), "{rule}");
            let all_others = ProfileRule::ALL
                .into_iter()
                .filter(|other| *other != rule)
                .fold(Profile::spiffe(), Profile::relaxing);
            assert_eq!(check(all_others, &issued, role, &trust), Err(reason), "{rule}");
            assert_eq!(
                check(Profile::spiffe().relaxing(rule), &issued, role, &trust),
                Ok(()),
                "{rule}"
            );
        }
    }
}

#[test]
fn both_sides_of_a_handshake_keep_the_profile() {
    for Vector {
        rule,
        reason,
        ca,
        issued,
    } in vectors()
    {
        let trust = TrustBundles::from(ca.bundle().unwrap());
        let anybody = PeerPolicy::any_authenticated();
        for outcome in handshakes(&ca, &trust, Profile::spiffe(), &anybody, &issued) {
            assert_eq!(outcome.map_err(|error| error.reason()), Err(reason), "{rule}");
        }
        for outcome in handshakes(&ca, &trust, Profile::istio(), &anybody, &issued) {
            assert_eq!(outcome, Ok(()), "{rule}");
        }
    }
}

#[test]
fn strict_leaves_have_both_purposes_or_none_named() {
    let ca = ca(TD);
    let trust = TrustBundles::from(ca.bundle().unwrap());
    for (purpose, role) in [
        (Extension::CLIENT_AUTH, Role::Client),
        (Extension::SERVER_AUTH, Role::Server),
    ] {
        let issued = ca
            .issue_with(Template {
                extended_key_usage: Some(Extension::extended_key_usage(&[purpose])),
                ..leaf()
            })
            .unwrap();
        assert_eq!(check(Profile::istio(), &issued, role, &trust), Ok(()));
        assert_eq!(check(Profile::spiffe(), &issued, role, &trust), Err("leaf_purpose"));
        let relaxed = Profile::spiffe().relaxing(ProfileRule::BothPurposes);
        assert_eq!(check(relaxed, &issued, role, &trust), Ok(()));
        let anybody = PeerPolicy::any_authenticated();
        for outcome in handshakes(&ca, &trust, Profile::spiffe(), &anybody, &issued) {
            assert_eq!(outcome.map_err(|error| error.reason()), Err("leaf_purpose"));
        }
    }
    let unnamed = ca
        .issue_with(Template {
            extended_key_usage: None,
            ..leaf()
        })
        .unwrap();
    assert_eq!(check(Profile::spiffe(), &unnamed, Role::Client, &trust), Ok(()));
}

#[test]
fn the_strict_profile_believes_what_istiod_and_spire_issue() {
    let ca = ca(TD).intermediate(now()).unwrap();
    let trust = TrustBundles::from(ca.bundle().unwrap());
    let like_spire = Template {
        common_name: Some("x".into()),
        names: leaf().names.map(|names| names.critical(false)),
        key_usage: Some(Extension::key_usage(
            KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_ENCIPHERMENT | KeyUsageBits::KEY_AGREEMENT,
        )),
        ..leaf()
    };
    for template in [leaf(), like_spire] {
        let issued = ca.issue_with(template).unwrap();
        assert_eq!(check(Profile::spiffe(), &issued, Role::Server, &trust), Ok(()));
    }
}

#[test]
fn no_profile_relaxes_what_has_no_name() {
    let ca = ca(TD);
    let trust = TrustBundles::from(ca.bundle().unwrap());
    for vector in broken_leaves(&ca) {
        for (role, expected) in [(Role::Client, vector.as_client), (Role::Server, vector.as_server)] {
            let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
            let by_default = verify(vector.issued.chain(), role, &trust, now(), algorithms);
            assert_eq!(by_default.is_ok(), expected.is_empty());
            for profile in [Profile::spiffe(), Profile::istio()] {
                let found = check(profile, &vector.issued, role, &trust);
                assert!(
                    found.is_err() || expected.is_empty(),
                    "{} under {profile:?}",
                    vector.name
                );
            }
        }
    }
}

fn aliases(pairs: &[(&str, &str)]) -> TrustDomainAliases {
    TrustDomainAliases::new(pairs.iter().map(|(alias, target)| (td(alias), td(target)))).unwrap()
}

#[test]
fn an_alias_is_verified_with_the_bundle_it_stands_for_and_no_other() {
    let (ours, theirs) = (ca(TD), ca("other"));
    let plain = TrustBundles::new([ours.bundle().unwrap(), theirs.bundle().unwrap()]).unwrap();
    let aliased = plain
        .clone()
        .with_aliases(aliases(&[("old", TD), ("ally", "other")]))
        .unwrap();
    let old = Template::leaf(&id("spiffe://old/ns/shop/sa/cart"), now());
    let rightful = ours.issue_with(old.clone()).unwrap();
    let forged = theirs.issue_with(old).unwrap();
    for role in [Role::Client, Role::Server] {
        assert_eq!(check(Profile::spiffe(), &rightful, role, &aliased), Ok(()));
        assert_eq!(
            check(Profile::spiffe(), &rightful, role, &plain),
            Err("unknown_trust_domain")
        );
        assert_eq!(check(Profile::istio(), &forged, role, &aliased), Err("unknown_issuer"));
    }
    // The other way round: what an alias stands for lends it no name.
    let ally = theirs
        .issue_with(Template::leaf(&id("spiffe://ally/a"), now()))
        .unwrap();
    assert_eq!(check(Profile::istio(), &ally, Role::Client, &aliased), Ok(()));
    let claims_ours = theirs.issue_with(leaf()).unwrap();
    assert_eq!(
        check(Profile::istio(), &claims_ours, Role::Client, &aliased),
        Err("unknown_issuer")
    );
    // The peer keeps the name that it bears.
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    let peer = verify(rightful.chain(), Role::Client, &aliased, now(), algorithms).unwrap();
    assert_eq!(peer.id().trust_domain(), &td("old"));
}

#[test]
fn an_issuer_of_the_old_name_signs_for_the_old_name_only() {
    let ours = ca(TD);
    let trust = TrustBundles::from(ours.bundle().unwrap())
        .with_aliases(aliases(&[("old", TD)]))
        .unwrap();
    let old = ours.intermediate_with(Template::authority(&td("old"), now())).unwrap();
    let old_leaf = old.issue_with(Template::leaf(&id("spiffe://old/a"), now())).unwrap();
    assert_eq!(check(Profile::spiffe(), &old_leaf, Role::Client, &trust), Ok(()));
    // The one bundle is the other way round good for both names.
    let own = ours.intermediate(now()).unwrap();
    let old_leaf = own.issue_with(Template::leaf(&id("spiffe://old/a"), now())).unwrap();
    assert_eq!(check(Profile::spiffe(), &old_leaf, Role::Client, &trust), Ok(()));
    let new_leaf = old.issue_with(leaf()).unwrap();
    assert_eq!(
        check(Profile::spiffe(), &new_leaf, Role::Client, &trust),
        Err("issuer_foreign_trust_domain")
    );
}

#[test]
fn policies_of_both_sides_know_the_aliases() {
    let ca = ca(TD);
    let trust = TrustBundles::from(ca.bundle().unwrap())
        .with_aliases(aliases(&[("old", TD)]))
        .unwrap();
    let members = PeerPolicy::member_of(td(TD));
    let but_carts = members.clone().except(PeerPolicy::exact(workload()));
    let cart = ca
        .issue_with(Template::leaf(&id("spiffe://old/ns/shop/sa/cart"), now()))
        .unwrap();
    for outcome in handshakes(&ca, &trust, Profile::istio(), &members, &cart) {
        assert_eq!(outcome, Ok(()));
    }
    for outcome in handshakes(&ca, &trust, Profile::istio(), &but_carts, &cart) {
        let Err(HandshakeError::Denied(denied)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(denied.reason(), DenyReason::Excluded);
    }
    let plain = TrustBundles::from(ca.bundle().unwrap());
    for outcome in handshakes(&ca, &plain, Profile::istio(), &members, &cart) {
        let expected = VerifyError::UnknownTrustDomain {
            trust_domain: td("old"),
        };
        assert_eq!(outcome, Err(expected.into()));
    }
}

#[test]
fn aliases_need_one_bundle_exactly() {
    let trust = TrustBundles::new([ca(TD).bundle().unwrap(), ca("other").bundle().unwrap()]).unwrap();
    assert_eq!(
        trust.clone().with_aliases(aliases(&[("other", TD)])).unwrap_err(),
        AliasError::OwnBundle { alias: td("other") }
    );
    assert_eq!(
        trust.with_aliases(aliases(&[("old", "third")])).unwrap_err(),
        AliasError::NoBundle {
            alias: td("old"),
            target: td("third")
        }
    );
}
