//! Identities and bundles from PEM texts and files, and what is said about those that are wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod support;

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use mesh_identity::{
    MAX_REVOCATION_LIST_BYTES, Svid, SvidError, TrustBundle,
    pem::{self, PemError},
    provider,
    source::{
        dev_ca::{Extension, Issued, KeyType, Template},
        files::{FileError, load_bundle, load_svid},
    },
};
use support::*;

fn issued() -> Issued {
    ca(TD).issue(&workload(), now()).unwrap()
}

fn from_pem(chain: &str, key: &str) -> Result<Svid, SvidError> {
    Svid::from_pem(chain.as_bytes(), key.as_bytes(), &provider::aws_lc_rs(), now())
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&path));
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn takes_every_form_of_key_that_meshes_write() {
    let ca = ca(TD);
    for key in [
        KeyType::EcdsaP256,
        KeyType::EcdsaP384,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        let issued = ca.issue_with(Template { key, ..leaf() }).unwrap();
        let mut texts = vec![issued.key_pem()];
        texts.extend(issued.traditional_key_pem());
        assert_eq!(texts.len(), if key == KeyType::Ed25519 { 1 } else { 2 });
        for text in texts {
            for provider in [provider::aws_lc_rs(), provider::ring()] {
                let svid = Svid::from_pem(issued.chain_pem().as_bytes(), text.as_bytes(), &provider, now());
                assert_eq!(svid.unwrap().id(), &workload(), "{key:?}");
            }
        }
    }
}

#[test]
fn keeps_the_chain_and_its_dates() {
    let issued = ca(TD).intermediate(now()).unwrap().issue(&workload(), now()).unwrap();
    let svid = from_pem(&issued.chain_pem(), &issued.key_pem()).unwrap();
    assert_eq!(svid.chain(), issued.chain());
    assert_eq!(svid.not_before(), at(now().as_secs() - 120));
    assert_eq!(svid.not_after(), at(now().as_secs() + 24 * 3600));
}

#[test]
fn keys_are_never_printed() {
    let issued = issued();
    let svid = from_pem(&issued.chain_pem(), &issued.key_pem()).unwrap();
    assert_eq!(
        format!("{svid:?}"),
        "Svid { id: SpiffeId(spiffe://cluster.local/ns/shop/sa/cart), not_before: 2030-03-17T17:44:40Z, \
         not_after: 2030-03-18T17:46:40Z, .. }"
    );
    assert_eq!(format!("{issued:?}"), "Issued { certificates: 1, .. }");
}

#[test]
fn rejects_a_key_of_another_certificate() {
    assert_eq!(
        from_pem(&issued().chain_pem(), &issued().key_pem()).unwrap_err(),
        SvidError::KeyMismatch
    );
}

#[test]
fn rejects_broken_leaves_of_ones_own() {
    let ca = ca(TD);
    for vector in broken_leaves(&ca) {
        let outcome = vector.issued.svid(&provider::aws_lc_rs(), now());
        // Trust is for the peer to judge.
        let passes = vector.name == "another trust domain";
        assert_eq!(outcome.is_ok(), passes, "{}", vector.name);
        assert!(!outcome.is_err_and(|error| error.concerns_key()), "{}", vector.name);
    }
}

#[test]
fn rejects_identities_that_are_out_of_time() {
    let ca = ca(TD);
    let expired = ca
        .issue_with(Template {
            not_after: at(1_800_000_000),
            ..leaf()
        })
        .unwrap();
    let error = expired.svid(&provider::aws_lc_rs(), now()).unwrap_err();
    assert_eq!(error.to_string(), "the certificate expired at 2027-01-15T08:00:00Z");
    let early = ca
        .issue_with(Template {
            not_before: at(2_000_000_000),
            ..leaf()
        })
        .unwrap();
    let error = early.svid(&provider::aws_lc_rs(), now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate is not valid before 2033-05-18T03:33:20Z"
    );
}

#[test]
fn passes_over_text_and_other_sections() {
    let issued = issued();
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let chain = format!("Certificate:\n  Data: x\n{}", issued.chain_pem());
    let key = format!("Bag Attributes\n{parameters}{}\r\n\n", issued.key_pem());
    assert!(from_pem(&chain, &key).is_ok());
    let both = format!("{}{}", issued.chain_pem(), issued.key_pem());
    assert!(from_pem(&both, &both).is_ok());
}

#[test]
fn rejects_texts_that_would_lose_something() {
    let chain = issued().chain_pem();
    let chain = chain.trim_end();
    let cut = chain.split_at(200).0;
    let key = issued().key_pem();
    for (text, error) in [
        (String::new(), PemError::NoCertificate),
        ("no pem at all".to_owned(), PemError::NoCertificate),
        (key, PemError::NoCertificate),
        (format!("{chain}{chain}"), PemError::Boundary),
        (format!("x{chain}"), PemError::Boundary),
        (format!("{chain}\n{}", cut), PemError::Unended),
        (format!("{}\n{chain}", cut), PemError::Unended),
        (format!("{chain}\ntrailing"), PemError::TrailingText),
        (
            chain.replacen("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE---", 1),
            PemError::Boundary,
        ),
        (
            format!("{}\n{chain}", chain.replacen("-----BEGIN", "----BEGIN", 1)),
            PemError::Boundary,
        ),
        (format!("-----END CERTIFICATE-----\n{chain}"), PemError::Boundary),
        (chain.replacen("MII", "M!I", 1), PemError::Base64),
        (
            format!("{chain}\n{}", "x".repeat(1 << 20)),
            PemError::TooLarge { limit: 1 << 20 },
        ),
        (format!("{chain}\n").repeat(513), PemError::TooManySections),
    ] {
        assert_eq!(pem::certificates(text.as_bytes()).unwrap_err(), error);
    }
}

#[test]
fn the_largest_revocation_list_is_read_from_text() {
    let text = |bytes: usize| {
        let base64 = BASE64.encode(vec![0; bytes]);
        format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n")
    };
    let lists = pem::revocation_lists(text(MAX_REVOCATION_LIST_BYTES).as_bytes()).unwrap();
    assert_eq!(lists[0].len(), MAX_REVOCATION_LIST_BYTES);
    let limit = 8 << 20;
    let larger = pem::revocation_lists(text(limit).as_bytes()).unwrap_err();
    assert_eq!(larger, PemError::TooLarge { limit });
    let key = format!("{}{}", "x".repeat(1 << 20), issued().key_pem()).replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert_eq!(
        pem::private_key(key.as_bytes()).unwrap_err(),
        PemError::TooLarge { limit: 1 << 20 }
    );
}

/// A list that goes unread revokes nobody.
#[test]
fn rejects_a_revocation_list_whose_beginning_is_misspelt() {
    let list = |name| {
        let list = ca(name).revocation_list([[1u8].as_slice()], now(), at(now().as_secs() + 60));
        let base64 = BASE64.encode(list.unwrap());
        format!("-----BEGIN X509 CRL-----\n{base64}\n-----END X509 CRL-----\n")
    };
    let (first, second) = (list(TD), list("other"));
    let both = format!("{first}{second}");
    assert_eq!(pem::revocation_lists(both.as_bytes()).unwrap().len(), 2);
    let misspelt = both.replacen("-----BEGIN", "----BEGIN", 1);
    assert_eq!(
        pem::revocation_lists(misspelt.as_bytes()).unwrap_err(),
        PemError::Boundary
    );
}

#[test]
fn rejects_keys_that_cannot_be_used() {
    let issued = issued();
    let encrypted = issued.key_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let public = issued.key_pem().replace("PRIVATE KEY", "PUBLIC KEY");
    let two = format!("{}{}", issued.key_pem(), issued.key_pem());
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let chain = issued.chain_pem();
    for (key, error) in [
        (encrypted.as_str(), SvidError::KeyPem(PemError::EncryptedKey)),
        (legacy, SvidError::KeyPem(PemError::EncryptedKey)),
        (&public, SvidError::KeyPem(PemError::NoKey)),
        (&chain, SvidError::KeyPem(PemError::NoKey)),
        (&two, SvidError::KeyPem(PemError::SeveralKeys)),
        (garbage, SvidError::UnusableKey),
    ] {
        assert_eq!(from_pem(&chain, key).unwrap_err(), error);
    }
}

#[test]
fn rejects_der_with_something_behind_it() {
    let issued = issued();
    let mut der = issued.chain()[0].to_vec();
    der.push(0);
    let error = Svid::new(vec![der.into()], issued.key(), &provider::aws_lc_rs(), now()).unwrap_err();
    assert_eq!(error, SvidError::Leaf(mesh_identity::LeafError::Malformed));
}

#[test]
fn written_files_are_read_back() {
    let folder = folder("written_files_are_read_back");
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    let files = issued.write(&folder, "client").unwrap();
    let svid = load_svid(&files.chain, &files.key, &provider::aws_lc_rs(), now()).unwrap();
    assert_eq!(svid.id(), &workload());
    assert_eq!(load_bundle(td(TD), &ca.write_roots(&folder).unwrap()).unwrap().len(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn errors_name_the_file_and_the_problem_in_one_line() {
    let folder = folder("errors_name_the_file");
    let ca = ca(TD);
    let files = ca.issue(&workload(), now()).unwrap().write(&folder, "client").unwrap();
    let other = ca.issue(&workload(), now()).unwrap().write(&folder, "other").unwrap();
    let purpose = Template {
        extended_key_usage: Some(Extension::extended_key_usage(&[Extension::CLIENT_AUTH])),
        ..leaf()
    };
    let purpose = ca.issue_with(purpose).unwrap().write(&folder, "purpose").unwrap();
    let absent = folder.join("absent.pem");
    let load = |chain, key| load_svid(chain, key, &provider::aws_lc_rs(), now()).unwrap_err();
    let says = |error: FileError, file: &str, problem: &str| {
        let expected = format!("{}: {problem}", folder.join(file).display());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.path(), folder.join(file));
    };
    says(load(&files.key, &files.key), "client.key", "no certificate found");
    says(load(&files.chain, &files.chain), "client.pem", "no private key found");
    says(
        load(&files.chain, &other.key),
        "other.key",
        "the key does not match the certificate",
    );
    says(
        load(&absent, &files.key),
        "absent.pem",
        "No such file or directory (os error 2)",
    );
    says(
        load(&purpose.chain, &purpose.key),
        "purpose.pem",
        "the extended key usage lacks serverAuth",
    );
    let bundle = |path| load_bundle(td(TD), path).unwrap_err();
    says(bundle(&files.key), "client.key", "no certificate found");
    says(
        bundle(&files.chain),
        "client.pem",
        "root 1: the issuer's certificate is not a certificate authority's",
    );
    says(
        load_bundle(td("other"), &ca.write_roots(&folder).unwrap()).unwrap_err(),
        "roots.pem",
        "root 1: the issuer belongs to trust domain `cluster.local`",
    );
    fs::write(folder.join("large.pem"), vec![b'x'; (1 << 20) + 1]).unwrap();
    says(
        bundle(&folder.join("large.pem")),
        "large.pem",
        "larger than 1048576 bytes",
    );
}

#[cfg(unix)]
#[test]
fn endless_files_are_given_up() {
    let error = load_bundle(td(TD), "/dev/zero".as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "/dev/zero: larger than 1048576 bytes");
}

#[test]
fn bundles_are_read_from_texts() {
    let (old, new) = (ca(TD), ca(TD));
    let text = format!("# old\n{}# new\n{}", old.roots_pem(), new.roots_pem());
    assert_eq!(TrustBundle::from_pem(td(TD), text.as_bytes()).unwrap().len(), 2);
}
