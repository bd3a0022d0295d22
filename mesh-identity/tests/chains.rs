//! `verify` against chains that break one rule each, and against those that may look odd.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use mesh_identity::{
    BundleError, IssuerError, Role, TrustBundle, TrustBundles, VerifiedPeer, VerifyError, provider,
    source::dev_ca::{DevCa, Extension, KeyType, KeyUsageBits, Name, Template},
    verify,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use support::*;

fn check_at(
    chain: &[CertificateDer<'_>],
    role: Role,
    trust: &TrustBundles,
    now: UnixTime,
) -> Result<VerifiedPeer, VerifyError> {
    verify(
        chain,
        role,
        trust,
        now,
        provider::aws_lc_rs().signature_verification_algorithms.all,
    )
}

fn check(chain: &[CertificateDer<'_>], trust: &TrustBundles) -> Result<VerifiedPeer, VerifyError> {
    let client = check_at(chain, Role::Client, trust, now());
    let server = check_at(chain, Role::Server, trust, now());
    let facts = |outcome: &Result<VerifiedPeer, VerifyError>| {
        let peer = outcome.as_ref().map_err(Clone::clone)?;
        Ok::<_, VerifyError>((peer.id().clone(), peer.not_after(), peer.anchor_public_key().to_vec()))
    };
    assert_eq!(facts(&client), facts(&server));
    client
}

fn trust(ca: &DevCa) -> TrustBundles {
    ca.bundle().unwrap().into()
}

fn reason(chain: &[CertificateDer<'_>], trust: &TrustBundles) -> &'static str {
    check(chain, trust).unwrap_err().reason()
}

#[test]
fn believes_what_istiod_and_spire_issue() {
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    let peer = check(issued.chain(), &trust(&ca)).unwrap();
    assert_eq!(peer.id(), &workload());
    assert_eq!(peer.chain(), issued.chain());
    assert_eq!(peer.not_after(), at(now().as_secs() + 24 * 3600));
    assert!(ca.bundle().unwrap().has_anchor(peer.anchor_public_key()));

    let mut like_spire = leaf();
    like_spire.common_name = Some("x".into());
    like_spire.organization = Some("SPIRE".into());
    like_spire.names = like_spire.names.map(|names| names.critical(false));
    like_spire.key_usage = Some(Extension::key_usage(
        KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_ENCIPHERMENT | KeyUsageBits::KEY_AGREEMENT,
    ));
    assert!(check(ca.issue_with(like_spire).unwrap().chain(), &trust(&ca)).is_ok());
}

#[test]
fn believes_leaves_that_leave_out_what_may_be_left_out() {
    let ca = ca(TD);
    let changes: &[fn(&mut Template)] = &[
        |t| t.basic_constraints = None,
        |t| t.extended_key_usage = None,
        |t| t.key_usage = t.key_usage.take().map(|usage| usage.critical(false)),
        |t| t.names = t.names.take().map(|names| names.critical(false)),
        |t| t.serial = Some(vec![0x7f; 20]),
        |t| t.key = KeyType::EcdsaP384,
        |t| t.key = KeyType::Ed25519,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut template = leaf();
        change(&mut template);
        let issued = ca.issue_with(template).unwrap();
        assert!(check(issued.chain(), &trust(&ca)).is_ok(), "change {number}");
    }
}

#[test]
fn ignores_names_that_are_no_uris() {
    let ca = ca(TD);
    let mut template = leaf();
    template.names = Some(Extension::names(&[
        Name::Dns("spiffe://cluster.local/evil".into()),
        uri(&workload().to_string()),
        Name::Ip("10.0.0.1".parse().unwrap()),
    ]));
    let issued = ca.issue_with(template).unwrap();
    assert_eq!(check(issued.chain(), &trust(&ca)).unwrap().id(), &workload());
}

#[test]
fn rejects_every_broken_leaf_in_both_roles() {
    let ca = ca(TD);
    let trust = trust(&ca);
    for vector in broken_leaves(&ca) {
        for (role, expected) in [(Role::Client, vector.as_client), (Role::Server, vector.as_server)] {
            let outcome = check_at(vector.issued.chain(), role, &trust, now());
            let found = outcome.as_ref().err().map_or("", VerifyError::reason);
            assert_eq!(found, expected, "{} as {role:?}", vector.name);
        }
    }
}

#[test]
fn signing_certificates_identify_nobody() {
    let ca = ca(TD);
    let below = ca.intermediate(now()).unwrap();
    let leaf = below.issue(&workload(), now()).unwrap();
    assert_eq!(
        reason(std::slice::from_ref(ca.root_certificate()), &trust(&ca)),
        "leaf_root_path"
    );
    assert_eq!(reason(&leaf.chain()[1..], &trust(&ca)), "leaf_root_path");

    let mut template = authority();
    template.names = support::leaf().names;
    let root = DevCa::root(td(TD), template).unwrap();
    assert_eq!(
        reason(std::slice::from_ref(root.root_certificate()), &trust(&ca)),
        "leaf_is_authority"
    );
}

#[test]
fn follows_intermediates_in_any_order_and_passes_over_the_rest() {
    let ca = ca(TD);
    let below = ca.intermediate(now()).unwrap().intermediate(now()).unwrap();
    let issued = below.issue(&workload(), now()).unwrap();
    let [leaf, lower, upper] = issued.chain() else {
        panic!("two intermediates")
    };
    let stranger = support::ca(TD);
    let chain = [leaf, upper, stranger.root_certificate(), lower, ca.root_certificate()].map(Clone::clone);
    assert_eq!(check(&chain, &trust(&ca)).unwrap().id(), &workload());
    assert_eq!(reason(&[leaf.clone(), upper.clone()], &trust(&ca)), "unknown_issuer");
}

#[test]
fn an_unused_certificate_does_not_spoil_a_chain() {
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    let chain = [issued.chain()[0].clone(), CertificateDer::from(vec![0; 10])];
    assert!(check(&chain, &trust(&ca)).is_ok());
}

#[test]
fn issuers_keep_their_own_rules() {
    let ca = ca(TD);
    for vector in broken_issuers(&ca) {
        assert_eq!(
            reason(vector.issued.chain(), &trust(&ca)),
            vector.as_client,
            "{}",
            vector.name
        );
    }
}

#[test]
fn issuers_need_no_spiffe_id() {
    let ca = ca(TD);
    for names in [None, Some(Extension::names(&[uri("https://ca.example/")]))] {
        let issued = ca
            .intermediate_with(Template { names, ..authority() })
            .unwrap()
            .issue(&workload(), now())
            .unwrap();
        assert!(check(issued.chain(), &trust(&ca)).is_ok());
    }
}

#[test]
fn path_length_is_honoured() {
    let limited = Template {
        basic_constraints: Some(Extension::basic_constraints(true, Some(0))),
        ..authority()
    };
    let ca = ca(TD);
    let first = ca.intermediate_with(limited).unwrap();
    assert!(check(first.issue(&workload(), now()).unwrap().chain(), &trust(&ca)).is_ok());
    let second = first.intermediate(now()).unwrap();
    assert_eq!(
        reason(second.issue(&workload(), now()).unwrap().chain(), &trust(&ca)),
        "path_length"
    );
}

#[test]
fn anchors_expire() {
    let soon = at(now().as_secs() + 60);
    let root = DevCa::root(
        td(TD),
        Template {
            not_after: soon,
            ..authority()
        },
    )
    .unwrap();
    let issued = root.issue(&workload(), now()).unwrap();
    let trust = trust(&root);
    assert_eq!(check(issued.chain(), &trust).unwrap().not_after(), soon);
    let at = |seconds| check_at(issued.chain(), Role::Client, &trust, at(seconds)).map(drop);
    assert_eq!(at(soon.as_secs()), Ok(()));
    assert_eq!(
        at(soon.as_secs() + 1),
        Err(VerifyError::AnchorExpired { not_after: soon })
    );

    let later = support::at(now().as_secs() + 60);
    let root = DevCa::root(
        td(TD),
        Template {
            not_before: later,
            ..authority()
        },
    )
    .unwrap();
    let issued = root.issue(&workload(), now()).unwrap();
    assert_eq!(reason(issued.chain(), &self::trust(&root)), "anchor_not_yet_valid");
}

#[test]
fn a_peer_expires_with_the_first_certificate_of_its_path() {
    let ca = ca(TD);
    let soon = at(now().as_secs() + 30);
    let below = ca
        .intermediate_with(Template {
            not_after: soon,
            ..authority()
        })
        .unwrap();
    let issued = below.issue(&workload(), now()).unwrap();
    assert_eq!(check(issued.chain(), &trust(&ca)).unwrap().not_after(), soon);
}

#[test]
fn roots_of_other_trust_domains_are_not_looked_at() {
    let (ours, theirs) = (ca(TD), ca("other"));
    let both = TrustBundles::new([ours.bundle().unwrap(), theirs.bundle().unwrap()]).unwrap();
    // Their authority signs our name.
    let forged = theirs.issue_with(leaf()).unwrap();
    assert_eq!(reason(forged.chain(), &both), "unknown_issuer");
    // The same by way of an intermediate that claims to be ours.
    let forged = theirs
        .intermediate_with(authority())
        .unwrap()
        .issue_with(leaf())
        .unwrap();
    assert_eq!(reason(forged.chain(), &both), "unknown_issuer");
    // The same with the subject of our root.
    let named = |name| Template {
        names: None,
        common_name: Some("root".into()),
        ..Template::authority(&td(name), now())
    };
    let ours = DevCa::root(td(TD), named(TD)).unwrap();
    let lookalike = DevCa::root(
        td("other"),
        Template {
            organization: Some(TD.into()),
            ..named("other")
        },
    )
    .unwrap();
    let both = TrustBundles::new([ours.bundle().unwrap(), lookalike.bundle().unwrap()]).unwrap();
    let forged = lookalike.issue_with(leaf()).unwrap();
    assert_eq!(reason(forged.chain(), &both), "bad_signature");
    assert!(check(ours.issue(&workload(), now()).unwrap().chain(), &both).is_ok());
}

#[test]
fn no_bundle_and_an_empty_bundle_believe_nobody() {
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    assert_eq!(reason(issued.chain(), &TrustBundles::default()), "unknown_trust_domain");
    assert_eq!(
        reason(issued.chain(), &trust(&support::ca("other"))),
        "unknown_trust_domain"
    );
    let empty = TrustBundle::new(td(TD), []).unwrap();
    assert!(empty.is_empty());
    assert_eq!(reason(issued.chain(), &empty.into()), "empty_bundle");
}

#[test]
fn several_roots_of_a_trust_domain_serve_side_by_side() {
    let (old, new) = (ca(TD), ca(TD));
    let bundle = TrustBundle::new(td(TD), [old.root_certificate().clone(), new.root_certificate().clone()]).unwrap();
    assert_eq!(bundle.len(), 2);
    let trust = TrustBundles::from(bundle);
    for ca in [&old, &new] {
        let peer = check(ca.issue(&workload(), now()).unwrap().chain(), &trust).unwrap();
        assert!(ca.bundle().unwrap().has_anchor(peer.anchor_public_key()));
    }
}

#[test]
fn a_renewed_root_counts_by_its_own_dates() {
    let past = at(now().as_secs() - 1);
    let expired = DevCa::root(
        td(TD),
        Template {
            not_after: past,
            ..authority()
        },
    )
    .unwrap();
    let issued = expired.issue(&workload(), now()).unwrap();
    assert_eq!(reason(issued.chain(), &trust(&expired)), "anchor_expired");
    let renewed = expired.renew(authority()).unwrap();
    let bundle = TrustBundle::new(td(TD), [expired.root_certificate().clone(), renewed]).unwrap();
    assert_eq!(bundle.len(), 2);
    let peer = check(issued.chain(), &bundle.into()).unwrap();
    assert_eq!(peer.not_after(), at(now().as_secs() + 24 * 3600));
}

#[test]
fn a_root_signs_for_the_hosts_that_its_constraints_permit() {
    let named = |name: &str| Some(Extension::names(&[uri(name)]));
    for (permitted, excluded, expected) in [
        (&["cluster.local"][..], &[][..], ""),
        (&[".local"], &[], ""),
        (&["other", "cluster.local"], &["other"], ""),
        (&[], &["other"], ""),
        (&["other"], &[], "name_constraint"),
        (&[".cluster.local"], &[], "name_constraint"),
        (&[], &["cluster.local"], "name_constraint"),
        (&["cluster.local"], &[".local"], "name_constraint"),
    ] {
        let root = Template {
            more: vec![Extension::uri_constraints(permitted, excluded)],
            ..authority()
        };
        let root = DevCa::root(td(TD), root).unwrap();
        let below = root.intermediate(now()).unwrap();
        for issuer in [&root, &below] {
            let issued = issuer.issue(&workload(), now()).unwrap();
            let outcome = check(issued.chain(), &trust(&root));
            let found = outcome.map_or_else(|error| error.reason(), |_| "");
            assert_eq!(found, expected, "{permitted:?} {excluded:?}");
        }
        // Whatever is permitted, the host of another URI is not looked for.
        let names = named("https://cluster.local/");
        let below = root.intermediate_with(Template { names, ..authority() }).unwrap();
        let issued = below.issue(&workload(), now()).unwrap();
        assert_eq!(reason(issued.chain(), &trust(&root)), "name_constraint");
    }
}

#[test]
fn roots_are_counted_once_each_and_bounded() {
    let roots: Vec<_> = (0..256).map(|_| ca(TD).root_certificate().clone()).collect();
    let twice = roots.iter().chain(&roots).cloned();
    assert_eq!(TrustBundle::new(td(TD), twice).unwrap().len(), 256);
    let one_more = roots.iter().cloned().chain([ca(TD).root_certificate().clone()]);
    assert_eq!(
        TrustBundle::new(td(TD), one_more).unwrap_err(),
        BundleError::TooManyRoots
    );
}

#[test]
fn bundles_refuse_what_is_no_root_of_theirs() {
    let ca = ca(TD);
    let fault = |template| match DevCa::root(td(TD), template).unwrap().bundle() {
        Err(BundleError::Root { number: 1, fault }) => fault,
        other => panic!("{other:?}"),
    };
    let not_authority = Template {
        basic_constraints: None,
        ..authority()
    };
    assert_eq!(fault(not_authority), IssuerError::NotAuthority);
    let no_sign = Template {
        key_usage: Some(Extension::key_usage(KeyUsageBits::CRL_SIGN)),
        ..authority()
    };
    assert_eq!(fault(no_sign), IssuerError::NoCertificateSigning);
    assert_eq!(
        fault(Template::authority(&td("other"), now())),
        IssuerError::ForeignTrustDomain {
            trust_domain: td("other")
        }
    );
    assert!(
        DevCa::root(
            td(TD),
            Template {
                key_usage: None,
                names: None,
                ..authority()
            }
        )
        .unwrap()
        .bundle()
        .is_ok()
    );

    let leaf = ca.issue(&workload(), now()).unwrap();
    let error = TrustBundle::new(td(TD), [ca.root_certificate().clone(), leaf.chain()[0].clone()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "root 2: the issuer's certificate is not a certificate authority's"
    );
    let twice = TrustBundles::new([ca.bundle().unwrap(), ca.bundle().unwrap()]).unwrap_err();
    assert_eq!(twice, BundleError::Repeated { trust_domain: td(TD) });
}

#[test]
fn sizes_are_capped_before_anything_is_parsed() {
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    let garbage = |bytes| CertificateDer::from(vec![0u8; bytes]);
    assert_eq!(reason(&[], &trust(&ca)), "empty_chain");
    assert_eq!(reason(&vec![garbage(1); 9], &trust(&ca)), "chain_too_long");
    assert_eq!(
        reason(&[issued.chain()[0].clone(), garbage(16 * 1024 + 1)], &trust(&ca)),
        "certificate_too_large"
    );
    assert_eq!(reason(&[garbage(16 * 1024)], &trust(&ca)), "leaf_malformed");
    let six: DevCa = (0..6).fold(support::ca(TD), |ca, _| ca.intermediate(now()).unwrap());
    assert!(check(six.issue(&workload(), now()).unwrap().chain(), &trust(&six)).is_ok());
}

#[test]
fn look_alike_intermediates_do_not_multiply_the_work() {
    // All of them could have signed each other by their names.
    let mut chain = ca(TD).issue(&workload(), now()).unwrap().chain().to_vec();
    let named = || Template {
        common_name: Some("same".into()),
        ..authority()
    };
    let stranger = DevCa::root(td(TD), named()).unwrap();
    let lookalike = || {
        stranger
            .intermediate_with(named())
            .unwrap()
            .issue(&workload(), now())
            .unwrap()
    };
    chain[0] = lookalike().chain()[0].clone();
    chain.extend((0..7).map(|_| lookalike().chain()[1].clone()));
    let error = check(&chain, &trust(&ca(TD))).unwrap_err();
    assert!(
        ["too_many_paths", "bad_signature", "unknown_issuer"].contains(&error.reason()),
        "{error}"
    );
    // The root could have signed each of them by its name, so every path costs a signature.
    let (provider, signatures) = counting_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    let root = trust(&DevCa::root(td(TD), named()).unwrap());
    let error = verify(&chain, Role::Client, &root, now(), algorithms).unwrap_err();
    assert_eq!(error, VerifyError::TooManyPaths);
    assert!((2..=100).contains(&signatures()), "{} signatures", signatures());
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    let trust = trust(&ca);
    for place in 0..issued.chain()[0].len() {
        let mut der = issued.chain()[0].to_vec();
        der[place] ^= 1;
        let outcome = check_at(&[CertificateDer::from(der)], Role::Client, &trust, now());
        assert!(outcome.is_err(), "byte {place}");
    }
}

#[test]
fn reasons_and_messages_are_well_formed() {
    let ca = ca(TD);
    for vector in broken_leaves(&ca) {
        let role = if vector.as_client.is_empty() {
            Role::Server
        } else {
            Role::Client
        };
        let error = check_at(vector.issued.chain(), role, &trust(&ca), now()).unwrap_err();
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
        assert!(text.starts_with(|c: char| c.is_lowercase()), "{text}");
        assert!(error.reason().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
    }
    let expired = VerifyError::Expired {
        not_after: at(951_868_799),
    };
    assert_eq!(
        expired.to_string(),
        "a certificate of the chain expired at 2000-02-29T23:59:59Z"
    );
}
