//! Certificates that were revoked, and lists that cannot say so.

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
    BundleError, PeerPolicy, Profile, ProfileRule, RevocationList, RevocationListError, Role, TrustBundle,
    TrustBundles, VerifyError, provider,
    source::dev_ca::{DevCa, Extension, Issued, KeyUsageBits, Template},
    tls::HandshakeError,
    verify_under,
};
use rustls_pki_types::UnixTime;
use support::*;

const SERIAL: &[u8] = &[0x0a, 0xff];
const OTHER_SERIAL: &[u8] = &[0x0b, 0xff];

fn later() -> UnixTime {
    at(now().as_secs() + 3600)
}

fn list(ca: &DevCa, serials: &[&[u8]]) -> RevocationList {
    let der = ca.revocation_list(serials.iter().copied(), now(), later()).unwrap();
    RevocationList::from_der(&der).unwrap()
}

fn numbered(serial: &[u8], template: Template) -> Template {
    Template {
        serial: Some(serial.to_vec()),
        ..template
    }
}

fn trust(ca: &DevCa, lists: impl IntoIterator<Item = RevocationList>) -> TrustBundles {
    ca.bundle().unwrap().with_revocation_lists(lists).unwrap().into()
}

fn check_at(profile: Profile, issued: &Issued, trust: &TrustBundles, now: UnixTime) -> Result<(), VerifyError> {
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    let by_role = |role| verify_under(profile, issued.chain(), role, trust, now, algorithms).map(drop);
    let outcome = by_role(Role::Client);
    assert_eq!(outcome, by_role(Role::Server));
    outcome
}

fn reason(profile: Profile, issued: &Issued, trust: &TrustBundles) -> &'static str {
    check_at(profile, issued, trust, now())
        .err()
        .map_or("", |error| error.reason())
}

#[test]
fn a_listed_leaf_is_refused_and_its_neighbours_are_not() {
    let ca = ca(TD);
    let trust = trust(&ca, [list(&ca, &[SERIAL])]);
    let revoked = ca.issue_with(numbered(SERIAL, leaf())).unwrap();
    let neighbour = ca.issue_with(numbered(OTHER_SERIAL, leaf())).unwrap();
    for profile in [Profile::spiffe(), Profile::istio()] {
        let Err(VerifyError::Revoked { serial }) = check_at(profile, &revoked, &trust, now()) else {
            panic!("not revoked")
        };
        assert_eq!(serial.as_bytes(), SERIAL);
        assert_eq!(check_at(profile, &neighbour, &trust, now()), Ok(()));
    }
    let error = check_at(Profile::istio(), &revoked, &trust, now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a certificate of the chain is revoked, the one with serial number 0a:ff"
    );
}

#[test]
fn a_listed_intermediate_takes_its_leaves_along() {
    let root = ca(TD);
    let below = root.intermediate_with(numbered(SERIAL, authority())).unwrap();
    let issued = below.issue_with(numbered(OTHER_SERIAL, leaf())).unwrap();
    for profile in [Profile::spiffe(), Profile::istio()] {
        let lists = [list(&root, &[SERIAL]), list(&below, &[])];
        let Err(VerifyError::Revoked { serial }) = check_at(profile, &issued, &trust(&root, lists), now()) else {
            panic!("not revoked")
        };
        assert_eq!(serial.as_bytes(), SERIAL);
        // The same number means nothing from another issuer.
        let lists = [list(&root, &[OTHER_SERIAL]), list(&below, &[SERIAL])];
        assert_eq!(check_at(profile, &issued, &trust(&root, lists), now()), Ok(()));
    }
}

#[test]
fn no_other_fault_hides_a_revocation() {
    let root = ca(TD);
    let below = root.intermediate_with(numbered(SERIAL, authority())).unwrap();
    let issued = below.issue(&workload(), now()).unwrap();
    // The same key has been a root as well: one path ends there, one at the root above it.
    let expired = below.renew(Template {
        not_after: at(now().as_secs() - 1),
        ..authority()
    });
    let roots = [expired.unwrap(), root.root_certificate().clone()];
    let bundle = TrustBundle::new(td(TD), roots).unwrap();
    let reason = |trust| reason(Profile::istio(), &issued, &trust);
    assert_eq!(reason(bundle.clone().into()), "");
    let lists = [list(&root, &[SERIAL])];
    assert_eq!(reason(bundle.with_revocation_lists(lists).unwrap().into()), "revoked");
}

#[test]
fn both_sides_of_a_handshake_refuse_what_is_revoked() {
    let ca = ca(TD);
    let revoked = ca.issue_with(numbered(SERIAL, leaf())).unwrap();
    let trust = || trust(&ca, [list(&ca, &[SERIAL])]);
    let server = server(&ca, trust(), PeerPolicy::any_authenticated());
    let client = client(&ca, trust(), PeerPolicy::any_authenticated());
    let (_, of_client) = Pair::new(careless_client(Some(&revoked)), server.config()).run();
    let (of_server, _) = Pair::new(client.config(), careless_server(&revoked)).run();
    for outcome in [of_client, of_server] {
        assert_eq!(HandshakeError::from_rustls(&outcome.unwrap_err()).reason(), "revoked");
    }
    let mut pair = Pair::new(client.config(), server.config());
    assert_eq!(pair.run(), (Ok(()), Ok(())));
}

#[test]
fn what_no_list_covers_is_for_the_profile_to_judge() {
    let root = ca(TD);
    let issued = root.intermediate(now()).unwrap().issue(&workload(), now()).unwrap();
    let only_roots_list = trust(&root, [list(&root, &[])]);
    assert_eq!(
        reason(Profile::spiffe(), &issued, &only_roots_list),
        "revocation_unknown"
    );
    assert_eq!(reason(Profile::istio(), &issued, &only_roots_list), "");
    let relaxed = Profile::spiffe().relaxing(ProfileRule::KnownRevocation);
    assert_eq!(reason(relaxed, &issued, &only_roots_list), "");
    // A trust domain without lists does not revoke.
    assert_eq!(reason(Profile::spiffe(), &issued, &trust(&root, [])), "");
}

#[test]
fn an_old_list_is_for_the_profile_to_judge() {
    let ca = ca(TD);
    let trust = trust(&ca, [list(&ca, &[SERIAL])]);
    let fine = ca.issue_with(numbered(OTHER_SERIAL, leaf())).unwrap();
    let revoked = ca.issue_with(numbered(SERIAL, leaf())).unwrap();
    let late = at(later().as_secs() + 1);
    assert_eq!(
        check_at(Profile::spiffe(), &fine, &trust, late),
        Err(VerifyError::RevocationListExpired { next_update: later() })
    );
    for profile in [
        Profile::istio(),
        Profile::spiffe().relaxing(ProfileRule::FreshRevocation),
    ] {
        assert_eq!(check_at(profile, &fine, &trust, late), Ok(()));
        let outcome = check_at(profile, &revoked, &trust, late);
        assert_eq!(outcome.unwrap_err().reason(), "revoked");
    }
}

#[test]
fn a_list_counts_only_by_its_issuers_signature() {
    let named = || Template {
        common_name: Some("root".into()),
        ..authority()
    };
    let (ours, impostor) = (
        DevCa::root(td(TD), named()).unwrap(),
        DevCa::root(td(TD), named()).unwrap(),
    );
    let issued = ours.issue_with(numbered(SERIAL, leaf())).unwrap();
    for profile in [Profile::spiffe(), Profile::istio()] {
        for serials in [&[][..], &[SERIAL]] {
            let trust = trust(&ours, [list(&impostor, serials)]);
            assert_eq!(reason(profile, &issued, &trust), "revocation_list_signature");
        }
    }
}

/// Lists are told apart by the name of their issuer, and what is in doubt is refused.
#[test]
fn roots_of_one_name_cannot_have_a_list_each() {
    let named = || Template {
        common_name: Some("root".into()),
        ..authority()
    };
    let [first, second] = [(); 2].map(|()| DevCa::root(td(TD), named()).unwrap());
    let roots = [&first, &second].map(|ca| ca.root_certificate().clone());
    let bundle = TrustBundle::new(td(TD), roots).unwrap();
    let trust = |lists: Vec<RevocationList>| bundle.clone().with_revocation_lists(lists);
    let only_firsts = trust(vec![list(&first, &[SERIAL])]).unwrap().into();
    for (ca, is_believed) in [(&first, true), (&second, false)] {
        let issued = ca.issue_with(numbered(OTHER_SERIAL, leaf())).unwrap();
        let outcome = check_at(Profile::istio(), &issued, &only_firsts, now());
        assert_eq!(outcome.is_ok(), is_believed);
    }
    assert_eq!(
        trust(vec![list(&first, &[]), list(&second, &[])]).unwrap_err(),
        BundleError::RivalRevocationLists { number: 2 }
    );
}

#[test]
fn an_issuer_that_may_not_sign_lists_signs_none() {
    let root = ca(TD);
    let below = root
        .intermediate_with(Template {
            key_usage: Some(Extension::key_usage(KeyUsageBits::KEY_CERT_SIGN)),
            ..authority()
        })
        .unwrap();
    let issued = below.issue(&workload(), now()).unwrap();
    let trust = trust(&root, [list(&root, &[]), list(&below, &[])]);
    assert_eq!(reason(Profile::istio(), &issued, &trust), "revocation_list_issuer");
}

#[test]
fn lists_of_one_trust_domain_say_nothing_about_another() {
    let named = |trust_domain: &str| Template {
        common_name: Some("root".into()),
        organization: None,
        ..Template::authority(&td(trust_domain), now())
    };
    let (ours, theirs) = (
        DevCa::root(td(TD), named(TD)).unwrap(),
        DevCa::root(td("other"), named("other")).unwrap(),
    );
    let listing = theirs
        .bundle()
        .unwrap()
        .with_revocation_lists([list(&theirs, &[SERIAL])])
        .unwrap();
    let trust = TrustBundles::new([ours.bundle().unwrap(), listing]).unwrap();
    let issued = ours.issue_with(numbered(SERIAL, leaf())).unwrap();
    assert_eq!(reason(Profile::spiffe(), &issued, &trust), "");
}

#[test]
fn lists_that_contradict_each_other_or_are_too_many_are_refused() {
    let ca = ca(TD);
    let bundle = |lists: Vec<RevocationList>| -> Result<TrustBundle, BundleError> {
        ca.bundle().unwrap().with_revocation_lists(lists)
    };
    assert_eq!(
        bundle(vec![list(&ca, &[]), list(&ca, &[SERIAL])]).unwrap_err(),
        BundleError::RivalRevocationLists { number: 2 }
    );
    let lists = |count| (0..count).map(|_| list(&support::ca(TD), &[])).collect();
    assert_eq!(bundle(lists(64)).unwrap().revocation_lists().len(), 64);
    assert_eq!(bundle(lists(65)).unwrap_err(), BundleError::TooManyRevocationLists);
}

#[test]
fn a_changed_byte_anywhere_in_a_list_gains_a_strict_verifier_nothing() {
    let ca = ca(TD);
    let revoked = ca.issue_with(numbered(SERIAL, leaf())).unwrap();
    let der = ca.revocation_list([SERIAL], now(), later()).unwrap();
    for place in 0..der.len() {
        let mut changed = der.clone();
        changed[place] ^= 1;
        if let Ok(list) = RevocationList::from_der(&changed) {
            let outcome = check_at(Profile::spiffe(), &revoked, &trust(&ca, [list]), now());
            assert!(outcome.is_err(), "byte {place}");
        }
    }
    for length in 0..der.len() {
        let outcome = RevocationList::from_der(&der[..length]);
        assert_eq!(outcome.unwrap_err(), RevocationListError::Malformed);
    }
}
