//! JWT-SVIDs: identities in a token, for where there is no connection to put a certificate on.
//!
//! A token is a bearer's: whoever sees it can use it until it expires, against everybody it is
//! addressed to. So it is addressed narrowly, and appears in no error and no `Debug` output here.
//!
//! ```
//! use mesh_identity::{
//!     BundleDocument, SpiffeId,
//!     jwt::{JwtBundles, JwtError, JwtValidator},
//! };
//! use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
//!
//! /// Who sent a request with this token, by a provider's `signature_verification_algorithms.all`.
//! fn sender(
//!     token: &str,
//!     bundle: &BundleDocument,
//!     algorithms: &[&dyn SignatureVerificationAlgorithm],
//! ) -> Result<SpiffeId, JwtError> {
//!     let validator = JwtValidator::new("https://till.example.org");
//!     let svid = validator.validate(token, &JwtBundles::from(bundle), UnixTime::now(), algorithms)?;
//!     Ok(svid.id().clone())
//! }
//! # let bundle = BundleDocument::new("example.org".parse()?, [], [])?;
//! # assert!(sender("e30.e30.AA", &bundle, &[]).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bundle;
pub(crate) mod token;

use std::time::Duration;

use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;

use self::token::Token;
pub use self::{
    bundle::JwtBundles,
    token::{MAX_TOKEN_AUDIENCES, TokenError},
};
pub use crate::jws::{MAX_KEYS_TRIED, MAX_TOKEN_BYTES};
use crate::{
    bundle::document::JwtAuthority,
    date::Rfc3339,
    jws::{SignatureError, check_signature},
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

/// The most that clocks are assumed to differ.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// Validates JWT-SVIDs that are addressed to one or several audiences (JWT-SVID §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtValidator {
    audiences: Vec<String>,
    leeway: u64,
}

impl JwtValidator {
    /// Accepts tokens addressed to `audience`, commonly the validator's own SPIFFE ID or URL. The
    /// empty text is nobody's address. Clocks are assumed to agree.
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            audiences: vec![audience.into()],
            leeway: 0,
        }
    }

    /// Accepts tokens addressed to `audience` as well.
    #[must_use]
    pub fn or_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Assumes that the issuer's clock may differ by `leeway`, in whole seconds up to
    /// [`MAX_LEEWAY`]; more counts as that. The default is zero.
    #[must_use]
    pub fn with_leeway(self, leeway: Duration) -> Self {
        Self {
            leeway: leeway.min(MAX_LEEWAY).as_secs(),
            ..self
        }
    }

    /// Validates a token at the moment `now`, and says whom it identifies.
    ///
    /// The token has to be signed by a JWT authority of the trust domain that its subject names;
    /// no other is looked at. `algorithms` implement the signatures; one that the token names and
    /// they lack is an error. Limits, header and claims are checked before any signature.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn validate(
        &self,
        token: &str,
        trust: &JwtBundles,
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<JwtSvid, JwtError> {
        let token = Token::parse(token)?;
        self.check_claims(&token, now.as_secs())?;
        let trust_domain = token.subject.trust_domain();
        let authorities = trust.get(trust_domain).ok_or_else(|| JwtError::UnknownTrustDomain {
            trust_domain: trust_domain.clone(),
        })?;
        let named = |authority: &&JwtAuthority| match &token.jws.key_id {
            Some(key_id) => authority.key_id() == key_id,
            None => true,
        };
        let keys = authorities.iter().filter(named).map(JwtAuthority::key);
        check_signature(&token.jws.compact, token.jws.algorithm, keys, algorithms)
            .map_err(|fault| JwtError::of_signature(fault, trust_domain))?;
        Ok(JwtSvid {
            id: token.subject,
            audiences: token.audiences,
            expires: moment(token.expires),
            issued: token.issued.map(moment),
        })
    }

    /// Time and audience, which cost next to nothing.
    fn check_claims(&self, token: &Token<'_>, now: u64) -> Result<(), JwtError> {
        if now >= token.expires.saturating_add(self.leeway) {
            return Err(JwtError::Expired {
                expired: moment(token.expires),
            });
        }
        if let Some(not_before) = token
            .not_before
            .filter(|start| now.saturating_add(self.leeway) < *start)
        {
            return Err(JwtError::NotYetValid {
                not_before: moment(not_before),
            });
        }
        let ours = |audience: &String| !audience.is_empty() && self.audiences.contains(audience);
        if !token.audiences.iter().any(ours) {
            return Err(JwtError::Audience);
        }
        Ok(())
    }
}

/// What a validated token says. Only [`JwtValidator::validate`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSvid {
    id: SpiffeId,
    audiences: Vec<String>,
    expires: UnixTime,
    issued: Option<UnixTime>,
}

impl JwtSvid {
    /// Whom the token identifies.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Everybody the token is addressed to; more than one of them can use it against the others.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The first second in which the token is no longer valid, leeway aside.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// When the token was made, if it says so.
    pub fn issued(&self) -> Option<UnixTime> {
        self.issued
    }
}

/// Why a token identifies nobody.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The token is malformed, or says what no JWT-SVID says.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There are no JWT authorities for the subject's trust domain.
    #[error("trust domain `{trust_domain}` is not trusted here")]
    UnknownTrustDomain {
        /// The subject's trust domain.
        trust_domain: TrustDomain,
    },
    /// The subject's trust domain has no authority with the token's key ID and a key for its
    /// algorithm; or, for a token without key ID, no authority with such a key.
    #[error("no key of trust domain `{trust_domain}` fits the token")]
    UnknownKey {
        /// The subject's trust domain.
        trust_domain: TrustDomain,
    },
    /// A token has no key ID, and more than [`MAX_KEYS_TRIED`] keys fit its algorithm.
    #[error("the token has no key id, and more than {MAX_KEYS_TRIED} keys fit it")]
    TooManyKeys,
    /// The given algorithms lack the one that the token is signed with.
    #[error("the token's algorithm is not supported here")]
    UnsupportedAlgorithm,
    /// The signature is wrong.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// The token is past its time.
    #[error("the token expired at {}", Rfc3339(*expired))]
    Expired {
        /// The first second in which it was no longer valid.
        expired: UnixTime,
    },
    /// The token is ahead of its time.
    #[error("the token is not valid before {}", Rfc3339(*not_before))]
    NotYetValid {
        /// The first second of its validity.
        not_before: UnixTime,
    },
    /// The token is addressed to others.
    #[error("the token is not addressed to this audience")]
    Audience,
}

impl JwtError {
    fn of_signature(fault: SignatureError, trust_domain: &TrustDomain) -> Self {
        match fault {
            SignatureError::UnknownKey => Self::UnknownKey {
                trust_domain: trust_domain.clone(),
            },
            SignatureError::TooManyKeys => Self::TooManyKeys,
            SignatureError::UnsupportedAlgorithm => Self::UnsupportedAlgorithm,
            SignatureError::BadSignature => Self::BadSignature,
        }
    }

    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Token(fault) => fault.reason(),
            Self::UnknownTrustDomain { .. } => "jwt_unknown_trust_domain",
            Self::UnknownKey { .. } => "jwt_unknown_key",
            Self::TooManyKeys => "jwt_too_many_keys",
            Self::UnsupportedAlgorithm => "jwt_unsupported_algorithm",
            Self::BadSignature => "jwt_bad_signature",
            Self::Expired { .. } => "jwt_expired",
            Self::NotYetValid { .. } => "jwt_not_yet_valid",
            Self::Audience => "jwt_audience",
        }
    }
}

fn moment(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}
