//! Chains under revocation lists that the development authority does not issue.
#![cfg(all(feature = "aws-lc-rs", feature = "dev-ca"))]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber as Serial, date_time_ymd,
};

use super::*;
use crate::{provider, revocation::RevocationList};

const A: &str = "http://a/";
const B: &str = "http://b/";

/// A root that signs leaves and lists with any distribution points.
struct Root {
    /// The second one has expired: whatever a list refuses, a path to this one is refused otherwise.
    certificates: [CertificateDer<'static>; 2],
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut root = params(
            "spiffe://td",
            IsCa::Ca(BasicConstraints::Unconstrained),
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        );
        root.distinguished_name.push(rcgen::DnType::CommonName, "root");
        let mut expired = root.clone();
        expired.not_after = date_time_ymd(2030, 1, 2);
        Self {
            certificates: [&root, &expired].map(|root| root.self_signed(&key).unwrap().der().clone()),
            issuer: Issuer::new(root, key),
        }
    }

    fn leaf(&self, serial: u64, places: &[&str]) -> CertificateDer<'static> {
        let mut leaf = params(
            "spiffe://td/a",
            IsCa::ExplicitNoCa,
            vec![KeyUsagePurpose::DigitalSignature],
        );
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        leaf.serial_number = Some(Serial::from(serial));
        leaf.crl_distribution_points = places.iter().map(|place| at(place)).collect();
        let key = KeyPair::generate().unwrap();
        leaf.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn list(&self, place: Option<&str>, serials: &[u64]) -> RevocationList {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: Serial::from(*serial),
            revocation_time: date_time_ymd(2030, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2030, 1, 1),
            next_update: date_time_ymd(2030, 12, 31),
            crl_number: Serial::from(1),
            issuing_distribution_point: place.map(|place| CrlIssuingDistributionPoint {
                distribution_point: at(place),
                scope: None,
            }),
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        RevocationList::from_der(list.signed_by(&self.issuer).unwrap().der()).unwrap()
    }

    /// The reason for which these lists refuse a chain.
    fn judge(&self, chain: &[CertificateDer<'_>], lists: &[&RevocationList]) -> &'static str {
        let bundle = TrustBundle::new("td".parse().unwrap(), self.certificates.clone()).unwrap();
        let lists = lists.iter().copied().cloned();
        let trust = bundle.with_revocation_lists(lists).unwrap().into();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        let outcome = verify_under(Profile::istio(), chain, Role::Client, &trust, now, algorithms);
        outcome.map_or_else(|refusal| refusal.reason(), |_| "")
    }
}

fn params(id: &str, is_ca: IsCa, usages: Vec<KeyUsagePurpose>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2030, 12, 31));
    params.is_ca = is_ca;
    params.key_usages = usages;
    params
}

fn at(url: &str) -> CrlDistributionPoint {
    CrlDistributionPoint {
        uris: vec![url.to_owned()],
    }
}

/// A verifier that looks at the first distribution point only would find no list for the leaf.
#[test]
fn a_list_counts_for_whichever_distribution_point_names_it() {
    let root = Root::new();
    let chain = [root.leaf(7, &[A, B])];
    for (place, reason) in [(A, "revoked"), (B, "revoked"), ("http://c/", "")] {
        assert_eq!(root.judge(&chain, &[&root.list(Some(place), &[7])]), reason, "{place}");
    }
}

/// A verifier that looks at the first list only would miss what the others name.
#[test]
fn a_list_counts_in_whichever_order_it_is_given() {
    let root = Root::new();
    let cases = [
        (root.leaf(7, &[]), [root.list(None, &[]), root.list(Some(B), &[7])]),
        (
            root.leaf(7, &[A, B]),
            [root.list(Some(A), &[]), root.list(Some(B), &[7])],
        ),
    ];
    for (leaf, [silent, naming]) in cases {
        let chain = [leaf];
        assert_eq!(root.judge(&chain, &[&silent, &naming]), "revoked");
        assert_eq!(root.judge(&chain, &[&naming, &silent]), "revoked");
        assert_eq!(root.judge(&chain, &[&silent]), "");
    }
}

/// What a peer adds to its chain must not choose the list that its leaf is looked up in.
#[test]
fn another_revoked_certificate_in_the_chain_hides_nothing() {
    let root = Root::new();
    let chain = [root.leaf(7, &[]), root.leaf(8, &[])];
    let lists = [root.list(Some(A), &[8]), root.list(Some(B), &[7])];
    let [other, own] = &lists;
    assert_eq!(root.judge(&chain, &[other, own]), "revoked");
    assert_eq!(root.judge(&chain, &[own, other]), "revoked");
    assert_eq!(root.judge(&chain, &[other]), "");
}
