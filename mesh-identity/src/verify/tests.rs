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
    let (key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut root = params(
        "spiffe://td",
        IsCa::Ca(BasicConstraints::Unconstrained),
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
    );
    root.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let der = root.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(root, key);

    let mut leaf = params(
        "spiffe://td/a",
        IsCa::ExplicitNoCa,
        vec![KeyUsagePurpose::DigitalSignature],
    );
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf.serial_number = Some(Serial::from(7));
    leaf.crl_distribution_points = vec![at("http://a/"), at("http://b/")];
    let chain = [leaf.signed_by(&leaf_key, &issuer).unwrap().der().clone()];

    let judge = |place: &str| {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2030, 1, 1),
            next_update: date_time_ymd(2030, 12, 31),
            crl_number: Serial::from(1),
            issuing_distribution_point: Some(CrlIssuingDistributionPoint {
                distribution_point: at(place),
                scope: None,
            }),
            revoked_certs: vec![RevokedCertParams {
                serial_number: Serial::from(7),
                revocation_time: date_time_ymd(2030, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = RevocationList::from_der(list.signed_by(&issuer).unwrap().der()).unwrap();
        let bundle = TrustBundle::new("td".parse().unwrap(), [der.clone()]).unwrap();
        let trust = bundle.with_revocation_lists([list]).unwrap().into();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        let outcome = verify_under(Profile::istio(), &chain, Role::Client, &trust, now, algorithms);
        outcome.map_or_else(|refusal| refusal.reason(), |_| "")
    };
    assert_eq!(judge("http://a/"), "revoked");
    assert_eq!(judge("http://b/"), "revoked");
    assert_eq!(judge("http://c/"), "");
}
