use std::{collections::HashSet, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    bundle::{BundleError, TrustBundle},
    certificate::Certificate,
    json::{Json, JsonError, Object},
    jwk::{PublicKey, Unusable},
    trust_domain::TrustDomain,
};

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// The most elements of `keys`.
pub const MAX_DOCUMENT_KEYS: usize = 512;

const X509_SVID: &str = "x509-svid";
const JWT_SVID: &str = "jwt-svid";

/// A SPIFFE bundle as it is published: the authorities of one trust domain for X.509 and for JWT,
/// with a sequence number and a hint when to ask again (SPIFFE Trust Domain and Bundle §4).
///
/// The text does not name its trust domain; whoever fetched it knows. A document replaces the one
/// before it entirely. One without any usable key is meaningful: nobody in the trust domain is
/// believed.
///
/// ```
/// use mesh_identity::BundleDocument;
///
/// let text = br#"{"keys": [{"use": "wit-svid", "kty": "EC"}], "spiffe_sequence": 12, "spiffe_refresh_hint": 300}"#;
/// let document = BundleDocument::parse("example.org".parse()?, text)?;
/// assert!(document.trust_bundle().is_empty());
/// assert_eq!(document.sequence(), Some(12));
/// assert_eq!(document.skipped().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BundleDocument {
    /// Of `x509_authorities`.
    trust_bundle: TrustBundle,
    x509_authorities: Vec<(CertificateDer<'static>, PublicKey)>,
    jwt_authorities: Vec<JwtAuthority>,
    sequence: Option<u64>,
    refresh_hint: Option<u64>,
    skipped: Vec<SkippedKey>,
}

impl BundleDocument {
    /// A document of these authorities, without sequence number and refresh hint.
    ///
    /// # Errors
    ///
    /// A root that [`TrustBundle::new`] refuses or whose key is none of RSA, P-256, P-384, P-521 and
    /// Ed25519, a key ID that occurs twice, or more than [`MAX_DOCUMENT_KEYS`] authorities.
    pub fn new(
        trust_domain: TrustDomain,
        x509_authorities: impl IntoIterator<Item = CertificateDer<'static>>,
        jwt_authorities: impl IntoIterator<Item = JwtAuthority>,
    ) -> Result<Self, DocumentError> {
        let mut parts = Parts::default();
        for (index, root) in x509_authorities.into_iter().enumerate() {
            let number = index + 1;
            let key = root_key(&root, number)?.ok_or(DocumentError::RootKey { number })?;
            parts.x509_authorities.push((root, key));
        }
        parts.jwt_authorities.extend(jwt_authorities);
        parts.assemble(trust_domain)
    }

    /// Reads the document of `trust_domain`.
    ///
    /// Elements of `keys` are passed over where the standard says so, and
    /// [`skipped`](Self::skipped) tells which: those of an unknown use or key type, X.509
    /// authorities without a certificate, JWT authorities without a key ID. An element that is
    /// meant for this reader and is malformed makes the whole document an error, so that the
    /// document before it can be kept. Members with other names are ignored.
    ///
    /// # Errors
    ///
    /// A text that is too large, is no JSON object, has a name twice in an object, has no `keys`,
    /// or holds a malformed element.
    pub fn parse(trust_domain: TrustDomain, text: &[u8]) -> Result<Self, DocumentError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge { bytes: text.len() });
        }
        Self::from_value(trust_domain, &Json::parse(text)?)
    }

    pub(super) fn from_value(trust_domain: TrustDomain, document: &Json) -> Result<Self, DocumentError> {
        let document = document.as_object().ok_or(DocumentError::NotAnObject)?;
        let keys = keys(document)?;
        let mut parts = Parts {
            sequence: integer(document, "spiffe_sequence")?,
            refresh_hint: integer(document, "spiffe_refresh_hint")?,
            ..Parts::default()
        };
        for (index, key) in keys.iter().enumerate() {
            parts.add(index + 1, key)?;
        }
        parts.assemble(trust_domain)
    }

    /// The same document with a sequence number, which has to grow with every change.
    #[must_use]
    pub fn with_sequence(self, sequence: u64) -> Self {
        Self {
            sequence: Some(sequence),
            ..self
        }
    }

    /// The same document with a refresh hint. Fractions of a second are cut off.
    #[must_use]
    pub fn with_refresh_hint(self, hint: Duration) -> Self {
        Self {
            refresh_hint: Some(hint.as_secs()),
            ..self
        }
    }

    /// The document as JSON text.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    pub(super) fn to_value(&self) -> Value {
        let x509 = self.x509_authorities.iter().map(|(certificate, key)| {
            let chain = vec![Value::from(STANDARD.encode(certificate))];
            jwk(key, X509_SVID, ("x5c", Value::from(chain)))
        });
        let jwt = self.jwt_authorities.iter().map(|authority| {
            jwk(
                &authority.key,
                JWT_SVID,
                ("kid", Value::from(authority.key_id.as_str())),
            )
        });
        let mut document = Map::new();
        document.insert("keys".to_owned(), x509.chain(jwt).collect());
        if let Some(sequence) = self.sequence {
            document.insert("spiffe_sequence".to_owned(), sequence.into());
        }
        if let Some(hint) = self.refresh_hint {
            document.insert("spiffe_refresh_hint".to_owned(), hint.into());
        }
        document.into()
    }

    /// Whose authorities these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.trust_bundle.trust_domain()
    }

    /// The X.509 authorities as a bundle to verify with. It is for X509-SVIDs alone.
    pub fn trust_bundle(&self) -> &TrustBundle {
        &self.trust_bundle
    }

    /// The certificates of the X.509 authorities, in order.
    pub fn x509_authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.x509_authorities.iter().map(|(certificate, _)| certificate)
    }

    /// The JWT authorities, in order. They are for JWT-SVIDs alone.
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt_authorities
    }

    /// The sequence number.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How often to ask for a newer document. Nobody is bound by it, and it may be zero.
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint.map(Duration::from_secs)
    }

    /// The elements of `keys` that were passed over.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Whether this document is to take the place of `previous`: it is of the same trust domain, and
    /// its sequence number is higher, or one of the two has none (§4.1.1).
    pub fn supersedes(&self, previous: &Self) -> bool {
        self.trust_domain() == previous.trust_domain()
            && match (self.sequence, previous.sequence) {
                (Some(ours), Some(theirs)) => ours > theirs,
                _ => true,
            }
    }
}

/// Equal documents say the same; what was passed over in reading them does not count.
impl PartialEq for BundleDocument {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain() == other.trust_domain()
            && self.x509_authorities == other.x509_authorities
            && self.jwt_authorities == other.jwt_authorities
            && self.sequence == other.sequence
            && self.refresh_hint == other.refresh_hint
    }
}

impl Eq for BundleDocument {}

impl fmt::Debug for BundleDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleDocument")
            .field("trust_domain", self.trust_domain())
            .field("x509_authorities", &self.x509_authorities.len())
            .field("jwt_authorities", &self.jwt_authorities)
            .field("sequence", &self.sequence)
            .field("refresh_hint", &self.refresh_hint)
            .field("skipped", &self.skipped)
            .finish()
    }
}

/// A public key that may sign JWT-SVIDs, with its ID.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    key_id: String,
    key: PublicKey,
}

impl JwtAuthority {
    /// The key in a SubjectPublicKeyInfo, in DER: RSA of 2,048 to 8,192 bits, P-256, P-384 or P-521.
    ///
    /// # Errors
    ///
    /// A key of another kind, or an empty ID.
    pub fn new(key_id: impl Into<String>, public_key: &[u8]) -> Result<Self, JwtAuthorityError> {
        let key = PublicKey::from_spki(public_key).map_err(|_| JwtAuthorityError::Malformed)?;
        let key = key.filter(PublicKey::signs_tokens).ok_or(JwtAuthorityError::KeyType)?;
        let key_id = key_id.into();
        if key_id.is_empty() {
            return Err(JwtAuthorityError::NoKeyId);
        }
        Ok(Self { key_id, key })
    }

    /// The ID, by which tokens name the key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The JWT authorities of a key set as the Workload API has it (§6.2.2): without a sequence, and
    /// with keys that need not say their use.
    ///
    /// What a key says is respected: one for another use signs no tokens.
    #[cfg(all(feature = "jwt", feature = "workload-api"))]
    pub(crate) fn read_set(text: &[u8]) -> Result<Vec<Self>, DocumentError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(DocumentError::TooLarge { bytes: text.len() });
        }
        let set = Json::parse(text)?;
        let mut parts = Parts::default();
        for (index, key) in keys(set.as_object().ok_or(DocumentError::NotAnObject)?)?
            .iter()
            .enumerate()
        {
            let number = index + 1;
            let key = key.as_object().ok_or(DocumentError::KeyNotAnObject { number })?;
            if matches!(self::text(key, "use", number)?, None | Some(JWT_SVID | "sig")) {
                parts.add_jwt(number, key)?;
            }
        }
        parts.check_key_ids()?;
        Ok(parts.jwt_authorities)
    }

    #[cfg(feature = "jwt")]
    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl fmt::Debug for JwtAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtAuthority({:?})", self.key_id)
    }
}

/// Why a key may not sign JWT-SVIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtAuthorityError {
    /// The bytes are not the DER of a SubjectPublicKeyInfo.
    #[error("the public key is not valid DER of a SubjectPublicKeyInfo")]
    Malformed,
    /// The key is of a kind that no algorithm of JWT-SVID takes, or too short or long for it.
    #[error("no signature algorithm of JWT-SVID takes the public key")]
    KeyType,
    /// The ID is empty.
    #[error("the key id is empty")]
    NoKeyId,
}

/// An element of `keys` that was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    number: usize,
    reason: SkipReason,
}

impl SkippedKey {
    /// Which element, counting from one.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Why.
    pub fn reason(&self) -> SkipReason {
        self.reason
    }
}

/// Why an element of `keys` is not for readers of SPIFFE bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// `use` is missing or is neither `x509-svid` nor `jwt-svid` (§4.2.2).
    Use,
    /// `kty` is missing or unknown (§4.2.1), or the key is of a kind that is not used here.
    KeyType,
    /// An X.509 authority has no certificate (X509-SVID §6).
    NoCertificate,
    /// A JWT authority has no key ID (JWT-SVID §5).
    NoKeyId,
}

/// Why a document is no SPIFFE bundle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The text is larger than [`MAX_DOCUMENT_BYTES`].
    #[error("the bundle has {bytes} bytes, more than {MAX_DOCUMENT_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The text is no JSON, or has a name twice.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The document is no JSON object.
    #[error("the bundle is no JSON object")]
    NotAnObject,
    /// There is no `keys`, or it is no list.
    #[error("the bundle has no list `keys`")]
    NoKeys,
    /// `keys` has more than [`MAX_DOCUMENT_KEYS`] elements.
    #[error("the bundle has more than {MAX_DOCUMENT_KEYS} keys")]
    TooManyKeys,
    /// A number of the document is not an unsigned integer of 64 bits.
    #[error("`{name}` is no unsigned integer")]
    Number {
        /// The member's name.
        name: &'static str,
    },
    /// An element of `keys` is no JSON object.
    #[error("key {number} is no JSON object")]
    KeyNotAnObject {
        /// Which element, counting from one.
        number: usize,
    },
    /// A member of an element is missing or malformed.
    #[error("`{name}` of key {number} is malformed")]
    Member {
        /// Which element, counting from one.
        number: usize,
        /// The member's name.
        name: &'static str,
    },
    /// A root's key is of a kind that a document cannot express.
    #[error("the key of root {number} cannot be expressed as a JSON web key")]
    RootKey {
        /// Which root, counting from one.
        number: usize,
    },
    /// Two JWT authorities have the same key ID.
    #[error("two jwt authorities have key id `{key_id}`")]
    RepeatedKeyId {
        /// The key ID.
        key_id: String,
    },
    /// The X.509 authorities make no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

#[derive(Default)]
struct Parts {
    x509_authorities: Vec<(CertificateDer<'static>, PublicKey)>,
    jwt_authorities: Vec<JwtAuthority>,
    sequence: Option<u64>,
    refresh_hint: Option<u64>,
    skipped: Vec<SkippedKey>,
}

impl Parts {
    fn add(&mut self, number: usize, key: &Json) -> Result<(), DocumentError> {
        let key = key.as_object().ok_or(DocumentError::KeyNotAnObject { number })?;
        let skip = match text(key, "use", number)? {
            Some(X509_SVID) => self.add_x509(number, key)?,
            Some(JWT_SVID) => self.add_jwt(number, key)?,
            _ => Some(SkipReason::Use),
        };
        self.skipped.extend(skip.map(|reason| SkippedKey { number, reason }));
        Ok(())
    }

    /// `kid` and all certificates but the first are for others (X509-SVID §6.2).
    fn add_x509(&mut self, number: usize, key: &Object) -> Result<Option<SkipReason>, DocumentError> {
        if !matches!(text(key, "kty", number)?, Some("EC" | "RSA" | "OKP")) {
            return Ok(Some(SkipReason::KeyType));
        }
        let malformed = || DocumentError::Member { number, name: "x5c" };
        let chain = match key.get("x5c") {
            None => return Ok(Some(SkipReason::NoCertificate)),
            Some(chain) => chain.as_list().ok_or_else(malformed)?,
        };
        let Some(first) = chain.first() else {
            return Ok(Some(SkipReason::NoCertificate));
        };
        let der = first
            .as_text()
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or_else(malformed)?;
        let certificate = CertificateDer::from(der);
        match root_key(&certificate, number)? {
            Some(public_key) => self.x509_authorities.push((certificate, public_key)),
            None => return Ok(Some(SkipReason::KeyType)),
        }
        Ok(None)
    }

    fn add_jwt(&mut self, number: usize, key: &Object) -> Result<Option<SkipReason>, DocumentError> {
        let key_id = match text(key, "kid", number)? {
            None | Some("") => return Ok(Some(SkipReason::NoKeyId)),
            Some(key_id) => key_id.to_owned(),
        };
        text(key, "kty", number)?;
        match PublicKey::from_jwk(key) {
            Ok(public_key) if public_key.signs_tokens() => self.jwt_authorities.push(JwtAuthority {
                key_id,
                key: public_key,
            }),
            Ok(_) | Err(Unusable::Kind) => return Ok(Some(SkipReason::KeyType)),
            Err(Unusable::Member(name)) => return Err(DocumentError::Member { number, name }),
        }
        Ok(None)
    }

    fn assemble(self, trust_domain: TrustDomain) -> Result<BundleDocument, DocumentError> {
        if self.x509_authorities.len() + self.jwt_authorities.len() > MAX_DOCUMENT_KEYS {
            return Err(DocumentError::TooManyKeys);
        }
        self.check_key_ids()?;
        let roots = self.x509_authorities.iter().map(|(root, _)| root.clone());
        Ok(BundleDocument {
            trust_bundle: TrustBundle::new(trust_domain, roots)?,
            x509_authorities: self.x509_authorities,
            jwt_authorities: self.jwt_authorities,
            sequence: self.sequence,
            refresh_hint: self.refresh_hint,
            skipped: self.skipped,
        })
    }

    fn check_key_ids(&self) -> Result<(), DocumentError> {
        let mut key_ids = HashSet::new();
        match self.jwt_authorities.iter().find(|next| !key_ids.insert(&next.key_id)) {
            None => Ok(()),
            Some(authority) => Err(DocumentError::RepeatedKeyId {
                key_id: authority.key_id.clone(),
            }),
        }
    }
}

fn keys(document: &Object) -> Result<&[Json], DocumentError> {
    let keys = document
        .get("keys")
        .and_then(Json::as_list)
        .ok_or(DocumentError::NoKeys)?;
    if keys.len() > MAX_DOCUMENT_KEYS {
        return Err(DocumentError::TooManyKeys);
    }
    Ok(keys)
}

/// The key of a root, unless it is of a kind that JSON Web Keys are not written for here.
fn root_key(root: &CertificateDer<'_>, number: usize) -> Result<Option<PublicKey>, DocumentError> {
    let malformed = DocumentError::Member { number, name: "x5c" };
    let Ok(certificate) = Certificate::parse(root) else {
        return Err(malformed);
    };
    PublicKey::from_spki(certificate.public_key).map_err(|_| malformed)
}

fn integer(document: &Object, name: &'static str) -> Result<Option<u64>, DocumentError> {
    match document.get(name) {
        None => Ok(None),
        Some(value) => value.as_integer().map(Some).ok_or(DocumentError::Number { name }),
    }
}

fn text<'k>(key: &'k Object, name: &'static str, number: usize) -> Result<Option<&'k str>, DocumentError> {
    match key.get(name) {
        None => Ok(None),
        Some(value) => value.as_text().map(Some).ok_or(DocumentError::Member { number, name }),
    }
}

fn jwk(key: &PublicKey, purpose: &str, last: (&str, Value)) -> Value {
    let mut jwk: Map<String, Value> = key
        .to_jwk()
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into()))
        .collect();
    jwk.insert("use".to_owned(), purpose.into());
    jwk.insert(last.0.to_owned(), last.1);
    jwk.into()
}
