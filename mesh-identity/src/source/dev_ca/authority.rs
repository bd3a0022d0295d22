use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType, Issuer,
    KeyIdMethod, KeyPair, PublicKeyData, RevokedCertParams, SerialNumber,
};
#[cfg(feature = "tls")]
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime, pem::PemObject};
use thiserror::Error;

use super::{
    encode,
    request::CertificateRequest,
    template::{Extension, Template},
};
#[cfg(feature = "tls")]
use crate::svid::{Svid, SvidError};
use crate::{
    bundle::{BundleError, TrustBundle},
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

/// An authority of one trust domain: a root, or an intermediate beneath one.
#[derive(Debug)]
pub struct DevCa {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    /// From this authority up to the root, which is left out.
    intermediates: Vec<CertificateDer<'static>>,
}

impl DevCa {
    /// A new root for `trust_domain` with an ECDSA P-256 key, valid for ten years around `now`.
    ///
    /// # Errors
    ///
    /// The generator fails.
    pub fn new(trust_domain: TrustDomain, now: UnixTime) -> Result<Self, DevCaError> {
        let template = Template::authority(&trust_domain, now);
        Self::root(trust_domain, template)
    }

    /// A new root made after `template`.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn root(trust_domain: TrustDomain, template: Template) -> Result<Self, DevCaError> {
        let key = template.key.generate()?;
        let params = authority_params(template, &key)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            trust_domain,
            issuer: Issuer::new(params, key),
            root: certificate.into(),
            intermediates: Vec::new(),
        })
    }

    /// A root that [`DevCa::new`] made earlier: its certificate as [`roots_pem`](Self::roots_pem)
    /// gave it, and its key as [`key_pem`](Self::key_pem) did.
    ///
    /// # Errors
    ///
    /// A text is no PEM of its kind, or the certificate is not that of a root of `trust_domain`
    /// with this key.
    pub fn from_pem(trust_domain: TrustDomain, root: &str, key: &str) -> Result<Self, DevCaError> {
        let root = CertificateDer::from_pem_slice(root.as_bytes()).map_err(|_| DevCaError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| DevCaError::NoKey)?;
        let key = KeyPair::try_from(&key).map_err(|_| DevCaError::NoKey)?;
        // The moment is of no account: it is who signs that has to be the same.
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(1 << 30));
        let params = authority_params(Template::authority(&trust_domain, moment), &key)?;
        let same = params.self_signed(&key)?.into();
        if signer(&root)? != signer(&same)? {
            return Err(DevCaError::OtherRoot { trust_domain });
        }
        Ok(Self {
            trust_domain,
            issuer: Issuer::new(params, key),
            root,
            intermediates: Vec::new(),
        })
    }

    /// A new authority of the same trust domain, signed by this one.
    ///
    /// # Errors
    ///
    /// The generator fails.
    pub fn intermediate(&self, now: UnixTime) -> Result<Self, DevCaError> {
        self.intermediate_with(Template::authority(&self.trust_domain, now))
    }

    /// A new authority made after `template`, signed by this one.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn intermediate_with(&self, template: Template) -> Result<Self, DevCaError> {
        let key = template.key.generate()?;
        let params = authority_params(template, &key)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut intermediates = vec![certificate.into()];
        intermediates.extend(self.intermediates.iter().cloned());
        Ok(Self {
            trust_domain: self.trust_domain.clone(),
            issuer: Issuer::new(params, key),
            root: self.root.clone(),
            intermediates,
        })
    }

    /// A new root certificate for this authority's key and name, as istiod renews its root. It
    /// keeps the name as long as `template` keeps the subject.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn renew(&self, template: Template) -> Result<CertificateDer<'static>, DevCaError> {
        let key = self.issuer.key();
        Ok(authority_params(template, key)?.self_signed(key)?.into())
    }

    /// A certificate for a workload, valid for a day from `now` on, with a new key.
    ///
    /// # Errors
    ///
    /// `id` is of another trust domain or has no path, or the generator fails.
    pub fn issue(&self, id: &SpiffeId, now: UnixTime) -> Result<Issued, DevCaError> {
        self.check_ours(id)?;
        self.issue_with(Template::leaf(id, now))
    }

    /// A certificate made after `template`, with a new key. Nothing is checked.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn issue_with(&self, template: Template) -> Result<Issued, DevCaError> {
        let key = template.key.generate()?;
        let certificate = params(template, &key)?.signed_by(&key, &self.issuer)?;
        let mut chain = vec![certificate.into()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(Issued { chain, key })
    }

    /// A certificate chain made after `template` for the key of `request`, the leaf first, the root
    /// left out. The kind of key that the template names does not count, and nothing is checked.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn certify(
        &self,
        request: &CertificateRequest,
        template: Template,
    ) -> Result<Vec<CertificateDer<'static>>, DevCaError> {
        let certificate = params(template, request)?.signed_by(request, &self.issuer)?;
        let mut chain = vec![certificate.into()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(chain)
    }

    /// A revocation list of certificates that this authority has issued, as DER for
    /// [`RevocationList::from_der`](crate::RevocationList::from_der).
    ///
    /// # Errors
    ///
    /// `next_update` is not after `this_update`, or the generator fails.
    pub fn revocation_list<'s>(
        &self,
        serials: impl IntoIterator<Item = &'s [u8]>,
        this_update: UnixTime,
        next_update: UnixTime,
    ) -> Result<Vec<u8>, DevCaError> {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let (this_update, next_update) = (epoch + since_epoch(this_update)?, epoch + since_epoch(next_update)?);
        let list = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .into_iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: this_update,
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The root's certificate.
    pub fn root_certificate(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The bundle that verifies what this authority issues.
    ///
    /// # Errors
    ///
    /// The root breaks a rule, which takes a [`Template`] that does.
    pub fn bundle(&self) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(self.trust_domain.clone(), [self.root.clone()])
    }

    /// The root as PEM text.
    pub fn roots_pem(&self) -> String {
        encode::pem("CERTIFICATE", &self.root)
    }

    /// The key that signs as PEM text of PKCS#8. Whoever has it can be anybody of the trust domain.
    pub fn key_pem(&self) -> String {
        encode::pem("PRIVATE KEY", &self.issuer.key().serialize_der())
    }

    pub(super) fn check_ours(&self, id: &SpiffeId) -> Result<(), DevCaError> {
        if id.trust_domain() != &self.trust_domain || id.path().is_empty() {
            return Err(DevCaError::NotOurs {
                id: id.clone(),
                trust_domain: self.trust_domain.clone(),
            });
        }
        Ok(())
    }

    /// Writes the root to `roots.pem` in `folder`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_roots(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join("roots.pem");
        fs::write(&path, self.roots_pem())?;
        Ok(path)
    }
}

/// A certificate chain with the key of its leaf.
pub struct Issued {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Issued {
    /// The chain, the leaf first, the root left out.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The leaf's key as PKCS#8.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The chain and the key as an identity, to be used at `now`.
    ///
    /// # Errors
    ///
    /// The leaf breaks a rule, which takes a [`Template`] that does.
    #[cfg(feature = "tls")]
    pub fn svid(&self, provider: &CryptoProvider, now: UnixTime) -> Result<Svid, SvidError> {
        Svid::new(self.chain.clone(), self.key(), provider, now)
    }

    /// The chain as PEM text.
    pub fn chain_pem(&self) -> String {
        self.chain
            .iter()
            .map(|certificate| encode::pem("CERTIFICATE", certificate))
            .collect()
    }

    /// The key as PEM text of PKCS#8.
    pub fn key_pem(&self) -> String {
        encode::pem("PRIVATE KEY", &self.key.serialize_der())
    }

    /// The key as PEM text in the older form of its kind: PKCS#1 for RSA, SEC1 for elliptic curves.
    /// Ed25519 has none.
    pub fn traditional_key_pem(&self) -> Option<String> {
        encode::traditional_key(&self.key.serialize_der()).map(|(label, der)| encode::pem(label, &der))
    }

    /// Writes the chain to `<name>.pem` and the key to `<name>.key` in `folder`; on Unix only the
    /// owner can read the key.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<IssuedFiles> {
        let files = IssuedFiles {
            chain: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        fs::write(&files.chain, self.chain_pem())?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&files.key)?.write_all(self.key_pem().as_bytes())?;
        Ok(files)
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Where [`Issued::write`] put its files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedFiles {
    /// The certificate chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Why the authority made no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DevCaError {
    /// The ID is not a workload's of this authority's trust domain.
    #[error("`{id}` is no workload of trust domain `{trust_domain}`")]
    NotOurs {
        /// The requested ID.
        id: SpiffeId,
        /// The authority's trust domain.
        trust_domain: TrustDomain,
    },
    /// A text holds no certificate.
    #[error("the text holds no certificate")]
    NoCertificate,
    /// A text holds no key that could sign.
    #[error("the text holds no key of a kind that is known")]
    NoKey,
    /// The certificate is not that of a root with this key, or of this trust domain.
    #[error("the certificate is not that of a root of `{trust_domain}` with this key")]
    OtherRoot {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// The template has a date that no certificate can hold.
    #[error("the validity is out of range")]
    Validity,
    /// The generator fails.
    #[error("the certificate generator failed: {0}")]
    Generator(#[from] rcgen::Error),
}

/// What verifiers tell an authority by: name and key.
fn signer<'r>(root: &'r CertificateDer<'_>) -> Result<TrustAnchor<'r>, DevCaError> {
    let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| DevCaError::NoCertificate)?;
    Ok(TrustAnchor {
        name_constraints: None,
        ..anchor
    })
}

fn authority_params(mut template: Template, key: &KeyPair) -> Result<CertificateParams, DevCaError> {
    if template.common_name.is_none() {
        let identifier = CertificateParams::default().key_identifier(key);
        let digits: String = identifier.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        template.common_name = Some(format!("development authority {digits}"));
    }
    params(template, key)
}

/// Hands the generator everything as finished extensions: its own would decide on critical flags
/// and leave things out.
fn params(template: Template, key: &impl PublicKeyData) -> Result<CertificateParams, DevCaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = &template.common_name {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    if let Some(name) = &template.organization {
        params.distinguished_name.push(DnType::OrganizationName, name.as_str());
    }
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(template.not_before)?;
    params.not_after = epoch + since_epoch(template.not_after)?;
    params.serial_number = template.serial.as_deref().map(SerialNumber::from_slice);
    params.use_authority_key_identifier_extension = true;
    let identifier = Extension::subject_key_identifier(&params.key_identifier(key));
    params.custom_extensions = [identifier]
        .into_iter()
        .chain(template.extensions())
        .map(|extension| {
            let mut custom = CustomExtension::from_oid_content(&extension.id, extension.value);
            custom.set_criticality(extension.critical);
            custom
        })
        .collect();
    Ok(params)
}

/// The seconds up to a moment that X.509 can express: the year 9999 is its last.
fn since_epoch(moment: UnixTime) -> Result<Duration, DevCaError> {
    const LAST: u64 = 253_402_300_799;
    match moment.as_secs() {
        seconds @ ..=LAST => Ok(Duration::from_secs(seconds)),
        _ => Err(DevCaError::Validity),
    }
}
