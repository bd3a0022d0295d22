use std::{collections::HashSet, sync::Arc};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use thiserror::Error;

use super::{
    revocations::{RevocationsError, distribute},
    wire::{Bundle, X509Svid, X509SvidResponse},
};
use crate::{
    bundle::{BundleError, MAX_ANCHORS, TrustBundle, TrustBundles},
    der::{Reader, SEQUENCE},
    source::snapshot::Snapshot,
    spiffe_id::{SpiffeId, SpiffeIdError},
    svid::{Svid, SvidError},
    trust_domain::{TrustDomain, TrustDomainError},
    verify::MAX_CHAIN_CERTIFICATES,
};

/// The most X509-SVIDs in one message. Each costs a check of its key.
pub const MAX_SVIDS: usize = 128;
/// The most bundles in one message, one's own aside.
pub const MAX_BUNDLES: usize = 256;
/// The longest hint, in bytes (SPIFFE Workload API §5.2.1).
pub const MAX_HINT_BYTES: usize = 1024;

/// What one message of the X.509 stream gives: everything there is, until the next.
#[derive(Debug, Default)]
pub(super) struct Material {
    /// The default one first, with the hint of each; no hint occurs twice.
    svids: Vec<(Arc<Svid>, String)>,
    trust: Arc<TrustBundles>,
}

impl Material {
    /// Reads a message whole, or refuses it whole.
    pub(super) fn read(
        response: &X509SvidResponse,
        provider: &CryptoProvider,
        now: UnixTime,
    ) -> Result<Self, MessageError> {
        if response.svids.is_empty() {
            return Err(MessageError::NoSvids);
        }
        if response.svids.len() > MAX_SVIDS {
            return Err(MessageError::TooManySvids);
        }
        if response.federated_bundles.len() > MAX_BUNDLES {
            return Err(MessageError::TooManyBundles);
        }
        let mut svids = Vec::new();
        let mut hints = HashSet::new();
        let mut own: Vec<(TrustDomain, &[u8])> = Vec::new();
        for (index, entry) in response.svids.iter().enumerate() {
            let fail = |fault| MessageError::Svid {
                number: index + 1,
                fault,
            };
            let svid = read_svid(entry, provider, now).map_err(fail)?;
            let trust_domain = svid.id().trust_domain();
            match own.iter().find(|(known, _)| known == trust_domain) {
                None => own.push((trust_domain.clone(), &entry.bundle)),
                Some((_, bundle)) if **bundle == *entry.bundle => {}
                Some(_) => return Err(fail(SvidFault::OtherBundle)),
            }
            // The first of several SVIDs with one hint counts (§5.2.1).
            if entry.hint.is_empty() || hints.insert(&entry.hint) {
                svids.push((Arc::new(svid), entry.hint.clone()));
            }
        }
        let mut bundles = federated(&response.federated_bundles, &own)?;
        for (trust_domain, der) in own {
            bundles.push(read_bundle(trust_domain, der)?);
        }
        let chains = svids.iter().map(|(svid, _)| (svid.id().trust_domain(), svid.chain()));
        let bundles = distribute(bundles, chains, &response.crl, provider)?;
        let trust = TrustBundles::new(bundles).map_err(|fault| MessageError::Bundles { fault })?;
        Ok(Self {
            svids,
            trust: Arc::new(trust),
        })
    }

    /// Drops the SVIDs that are past their time, and says whether there were any.
    pub(super) fn expire(&mut self, now: UnixTime) -> bool {
        let before = self.svids.len();
        self.svids.retain(|(svid, _)| svid.not_after() >= now);
        self.svids.len() < before
    }

    /// The last second of the SVID that expires first.
    pub(super) fn expires(&self) -> Option<UnixTime> {
        self.svids.iter().map(|(svid, _)| svid.not_after()).min()
    }

    /// Whether nobody is presented and nobody is believed.
    pub(super) fn is_empty(&self) -> bool {
        self.svids.is_empty() && self.trust.iter().next().is_none()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::new(
            self.svids.iter().map(|(svid, _)| Arc::clone(svid)),
            Arc::clone(&self.trust),
        )
    }

    /// Which SVID has which hint; those without are left out.
    pub(super) fn hints(&self) -> Vec<(String, SpiffeId)> {
        let hinted = self.svids.iter().filter(|(_, hint)| !hint.is_empty());
        hinted.map(|(svid, hint)| (hint.clone(), svid.id().clone())).collect()
    }
}

fn read_svid(entry: &X509Svid, provider: &CryptoProvider, now: UnixTime) -> Result<Svid, SvidFault> {
    let X509Svid {
        spiffe_id,
        x509_svid,
        x509_svid_key,
        bundle,
        hint,
    } = entry;
    let mandatory = [
        ("spiffe_id", spiffe_id.is_empty()),
        ("x509_svid", x509_svid.is_empty()),
        ("x509_svid_key", x509_svid_key.is_empty()),
        ("bundle", bundle.is_empty()),
    ];
    if let Some((field, _)) = mandatory.into_iter().find(|(_, empty)| *empty) {
        return Err(SvidFault::Missing { field });
    }
    if hint.len() > MAX_HINT_BYTES {
        return Err(SvidFault::HintTooLong { bytes: hint.len() });
    }
    let named: SpiffeId = spiffe_id.parse().map_err(SvidFault::Id)?;
    let chain = certificates(x509_svid, MAX_CHAIN_CERTIFICATES).ok_or(SvidFault::Certificates)?;
    let key = PrivatePkcs8KeyDer::from(x509_svid_key.to_vec());
    let svid = Svid::new(chain, key.into(), provider, now).map_err(SvidFault::Svid)?;
    // Only the certificate is signed; a name beside it that says otherwise is a mistake at least.
    if *svid.id() != named {
        return Err(SvidFault::OtherId {
            named,
            certified: svid.id().clone(),
        });
    }
    Ok(svid)
}

/// The bundles of other trust domains. One that claims to be of one's own is not looked at: that
/// one came with the SVID.
fn federated(entries: &[Bundle], own: &[(TrustDomain, &[u8])]) -> Result<Vec<TrustBundle>, MessageError> {
    let mut seen = HashSet::new();
    let mut bundles = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let trust_domain = trust_domain(&entry.trust_domain).map_err(|fault| MessageError::TrustDomain {
            number: index + 1,
            fault,
        })?;
        if !seen.insert(trust_domain.clone()) {
            return Err(MessageError::RepeatedBundle { trust_domain });
        }
        if own.iter().all(|(known, _)| *known != trust_domain) {
            bundles.push(read_bundle(trust_domain, &entry.contents)?);
        }
    }
    Ok(bundles)
}

/// A trust domain as the keys of maps spell it: its SPIFFE ID; agents in use also write the name.
pub(super) fn trust_domain(key: &str) -> Result<TrustDomain, TrustDomainError> {
    key.strip_prefix("spiffe://").unwrap_or(key).parse()
}

fn read_bundle(trust_domain: TrustDomain, der: &[u8]) -> Result<TrustBundle, MessageError> {
    let Some(roots) = certificates(der, MAX_ANCHORS) else {
        return Err(MessageError::BundleEncoding { trust_domain });
    };
    TrustBundle::new(trust_domain.clone(), roots).map_err(|fault| MessageError::Bundle { trust_domain, fault })
}

/// Certificates that lie one after the other, at most `limit` of them.
fn certificates(der: &[u8], limit: usize) -> Option<Vec<CertificateDer<'static>>> {
    let mut rest = Reader::new(der);
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        if certificates.len() == limit {
            return None;
        }
        certificates.push(CertificateDer::from(rest.whole(SEQUENCE).ok()?.to_vec()));
    }
    Some(certificates)
}

/// Why a message of the X.509 stream was not taken. What came before it stays in use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// There is no SVID.
    #[error("the message has no svid")]
    NoSvids,
    /// There are more than [`MAX_SVIDS`].
    #[error("the message has more than {MAX_SVIDS} svids")]
    TooManySvids,
    /// There are more than [`MAX_BUNDLES`] of other trust domains.
    #[error("the message has more than {MAX_BUNDLES} bundles")]
    TooManyBundles,
    /// An SVID is none.
    #[error("svid {number}: {fault}")]
    Svid {
        /// Which one, counting from one.
        number: usize,
        /// What is wrong with it.
        #[source]
        fault: SvidFault,
    },
    /// A bundle is of something that is no trust domain.
    #[error("bundle {number}: {fault}")]
    TrustDomain {
        /// Which one, counting from one.
        number: usize,
        /// What is wrong with the name.
        #[source]
        fault: TrustDomainError,
    },
    /// A trust domain has two bundles.
    #[error("trust domain `{trust_domain}` has two bundles")]
    RepeatedBundle {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// A bundle is not a run of certificates, or of more than [`MAX_ANCHORS`].
    #[error("the bundle of `{trust_domain}` is no run of at most {MAX_ANCHORS} certificates")]
    BundleEncoding {
        /// Whose bundle.
        trust_domain: TrustDomain,
    },
    /// A bundle holds what is no root.
    #[error("the bundle of `{trust_domain}`: {fault}")]
    Bundle {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        #[source]
        fault: BundleError,
    },
    /// The revocation lists were not taken.
    #[error(transparent)]
    Revocations(#[from] RevocationsError),
    /// The bundles do not go together.
    #[error(transparent)]
    Bundles {
        /// Why not.
        fault: BundleError,
    },
}

/// What is wrong with an SVID of a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SvidFault {
    /// A field that has to be there is empty.
    #[error("`{field}` is empty")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// The hint is longer than [`MAX_HINT_BYTES`].
    #[error("the hint has {bytes} bytes, more than {MAX_HINT_BYTES}")]
    HintTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The name beside the certificate is no SPIFFE ID.
    #[error("the name beside the certificate: {0}")]
    Id(#[source] SpiffeIdError),
    /// The certificate is another one's than the name beside it says.
    #[error("the certificate is of `{certified}`, and `{named}` stands beside it")]
    OtherId {
        /// The name beside the certificate.
        named: SpiffeId,
        /// The SPIFFE ID in the certificate.
        certified: SpiffeId,
    },
    /// The chain is not a run of certificates, or of more than
    /// [`MAX_CHAIN_CERTIFICATES`].
    #[error("the chain is no run of at most {MAX_CHAIN_CERTIFICATES} certificates")]
    Certificates,
    /// The certificates and the key make no identity.
    #[error(transparent)]
    Svid(SvidError),
    /// Its bundle is not the one that came with another SVID of the same trust domain.
    #[error("its bundle is not the one of its trust domain's first svid")]
    OtherBundle,
}

#[cfg(test)]
#[cfg(feature = "aws-lc-rs")]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use prost::{Message as _, bytes::Bytes};

    use super::*;
    use crate::provider;

    fn bytes() -> impl Strategy<Value = Bytes> {
        let der = vec(any::<u8>(), 0..20).prop_map(|contents| {
            let length = u8::try_from(contents.len()).unwrap();
            [vec![SEQUENCE, length], contents].concat()
        });
        prop_oneof![vec(any::<u8>(), 0..20), der].prop_map(Bytes::from)
    }

    fn refused(response: &X509SvidResponse) -> bool {
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        Material::read(response, &provider::aws_lc_rs(), now).is_err()
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_message_or_refused(message in vec(any::<u8>(), 0..200)) {
            let refused = X509SvidResponse::decode(&*message).map(|response| refused(&response));
            prop_assert!(refused.unwrap_or(true));
        }

        #[test]
        fn any_fields_are_refused(spiffe_id in "(spiffe://)?[a-z/]{0,9}", fields in vec(bytes(), 5), hint in "[ab]?") {
            let [x509_svid, x509_svid_key, bundle, contents, list] = fields.try_into().unwrap();
            let trust_domain = spiffe_id.clone();
            let response = X509SvidResponse {
                svids: vec![X509Svid { spiffe_id, x509_svid, x509_svid_key, bundle, hint }],
                crl: vec![list],
                federated_bundles: vec![Bundle { trust_domain, contents }],
            };
            let refused = refused(&response);
            prop_assert!(refused);
        }

        #[test]
        fn any_run_of_der_is_split_or_refused(run in vec(bytes(), 0..5)) {
            let run = run.concat();
            if let Some(split) = certificates(&run, 4) {
                prop_assert!(split.len() <= 4);
                prop_assert_eq!(split.iter().flat_map(|one| one.to_vec()).collect::<Vec<u8>>(), run);
            }
        }
    }
}
