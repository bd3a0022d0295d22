use std::{collections::HashMap, fmt, time::Duration};

use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{
    channel::RpcError,
    wire::{JwtBundlesResponse, JwtSvid, JwtSvidResponse},
    x509::{MAX_BUNDLES, MAX_HINT_BYTES, MAX_SVIDS, trust_domain},
};
use crate::{
    bundle::document::{DocumentError, JwtAuthority},
    jwt::{JwtBundles, TokenError, token::Token},
    spiffe_id::{SpiffeId, SpiffeIdError},
    trust_domain::{TrustDomain, TrustDomainError},
};

/// A JWT-SVID of one's own, to be shown to those it is addressed to. `Debug` leaves the token out.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedJwt {
    id: SpiffeId,
    token: String,
    audiences: Vec<String>,
    expires: UnixTime,
    hint: String,
}

impl IssuedJwt {
    /// Whom the token identifies.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The token itself. Whoever sees it can use it until it expires.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Everybody the token is addressed to.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The first second in which the token is no longer valid.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// What the operator says about the use of this identity, if anything.
    pub fn hint(&self) -> Option<&str> {
        Some(self.hint.as_str()).filter(|hint| !hint.is_empty())
    }

    /// Reads the answer to a request for tokens that are addressed to `audiences`, and identify
    /// `wanted` if that is given.
    pub(super) fn read_all(
        answer: JwtSvidResponse,
        audiences: &[&str],
        wanted: Option<&SpiffeId>,
        now: UnixTime,
    ) -> Result<Vec<Self>, JwtFetchError> {
        if answer.svids.is_empty() {
            return Err(JwtFetchError::NoSvids);
        }
        if answer.svids.len() > MAX_SVIDS {
            return Err(JwtFetchError::TooManySvids);
        }
        let mut issued: Vec<Self> = Vec::new();
        for (index, entry) in answer.svids.into_iter().enumerate() {
            let fail = |fault| JwtFetchError::Svid {
                number: index + 1,
                fault,
            };
            let next = Self::read(entry, audiences, wanted, now).map_err(fail)?;
            // The first of several SVIDs with one hint counts (§6.2.1).
            if next.hint.is_empty() || issued.iter().all(|other| other.hint != next.hint) {
                issued.push(next);
            }
        }
        Ok(issued)
    }

    fn read(
        entry: JwtSvid,
        audiences: &[&str],
        wanted: Option<&SpiffeId>,
        now: UnixTime,
    ) -> Result<Self, IssuedJwtFault> {
        if entry.hint.len() > MAX_HINT_BYTES {
            return Err(IssuedJwtFault::HintTooLong {
                bytes: entry.hint.len(),
            });
        }
        let named: SpiffeId = entry.spiffe_id.parse().map_err(IssuedJwtFault::Id)?;
        let token = Token::parse(&entry.svid).map_err(IssuedJwtFault::Token)?;
        let certified = token.subject;
        if certified != named || wanted.is_some_and(|wanted| *wanted != certified) {
            return Err(IssuedJwtFault::OtherId { certified });
        }
        let addressed = |audience: &&str| token.audiences.iter().any(|own| own == audience);
        if !audiences.iter().all(addressed) {
            return Err(IssuedJwtFault::Audience);
        }
        let expires = UnixTime::since_unix_epoch(Duration::from_secs(token.expires));
        if now >= expires {
            return Err(IssuedJwtFault::Expired);
        }
        Ok(Self {
            id: certified,
            audiences: token.audiences,
            expires,
            token: entry.svid,
            hint: entry.hint,
        })
    }
}

impl fmt::Debug for IssuedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedJwt")
            .field("id", &self.id)
            .field("audiences", &self.audiences)
            .field("expires", &self.expires)
            .field("hint", &self.hint)
            .finish_non_exhaustive()
    }
}

/// Why the Workload API gave no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtFetchError {
    /// No audience was named, or an empty one; tokens for everybody are not issued (SPIFFE Workload
    /// API §6.2.1).
    #[error("a token is to be addressed to somebody")]
    NoAudience,
    /// The call fails.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The clock could not be read, by which tokens are judged.
    #[error("the clock could not be read")]
    NoClock,
    /// The answer has no SVID.
    #[error("the answer has no svid")]
    NoSvids,
    /// The answer has more than [`MAX_SVIDS`].
    #[error("the answer has more than {MAX_SVIDS} svids")]
    TooManySvids,
    /// An SVID is not what was asked for.
    #[error("svid {number}: {fault}")]
    Svid {
        /// Which one, counting from one.
        number: usize,
        /// What is wrong with it.
        #[source]
        fault: IssuedJwtFault,
    },
}

/// What is wrong with a JWT-SVID that the Workload API gave.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssuedJwtFault {
    /// The hint is longer than [`MAX_HINT_BYTES`].
    #[error("the hint has {bytes} bytes, more than {MAX_HINT_BYTES}")]
    HintTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The name beside the token is no SPIFFE ID.
    #[error("the name beside the token: {0}")]
    Id(#[source] SpiffeIdError),
    /// The token is malformed, or says what no JWT-SVID says.
    #[error(transparent)]
    Token(TokenError),
    /// The token identifies another workload than the name beside it, or than was asked for.
    #[error("the token is `{certified}`'s, and another one's was expected")]
    OtherId {
        /// Whom the token identifies.
        certified: SpiffeId,
    },
    /// The token is not addressed to everybody it was asked for.
    #[error("the token is not addressed to those it was asked for")]
    Audience,
    /// The token is past its time.
    #[error("the token has expired")]
    Expired,
}

/// Why the Workload API vouches for no token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtValidationError {
    /// The token is no JWT-SVID, whoever signed it; it was not sent.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The call fails; a token that is not valid is answered with status 3 (invalid argument).
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The answer names no workload, or another one than the token does.
    #[error("the workload api took the token for another one's than it is")]
    OtherId,
}

/// Reads a message of the JWT bundles stream whole, or refuses it whole.
pub(super) fn read_bundles(message: &JwtBundlesResponse) -> Result<JwtBundles, JwtBundlesError> {
    if message.bundles.is_empty() {
        return Err(JwtBundlesError::NoBundles);
    }
    if message.bundles.len() > MAX_BUNDLES {
        return Err(JwtBundlesError::TooManyBundles);
    }
    let mut bundles = HashMap::new();
    for (index, entry) in message.bundles.iter().enumerate() {
        let trust_domain = trust_domain(&entry.trust_domain).map_err(|fault| JwtBundlesError::TrustDomain {
            number: index + 1,
            fault,
        })?;
        let authorities = JwtAuthority::read_set(&entry.contents).map_err(|fault| JwtBundlesError::Bundle {
            trust_domain: trust_domain.clone(),
            fault,
        })?;
        if bundles.insert(trust_domain.clone(), authorities).is_some() {
            return Err(JwtBundlesError::RepeatedBundle { trust_domain });
        }
    }
    Ok(JwtBundles::of_distinct(bundles))
}

/// Why a message of the JWT bundles stream was not taken. What came before it stays in use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtBundlesError {
    /// There is no bundle.
    #[error("the message has no bundle")]
    NoBundles,
    /// There are more than [`MAX_BUNDLES`].
    #[error("the message has more than {MAX_BUNDLES} bundles")]
    TooManyBundles,
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
    /// A bundle is no key set.
    #[error("the bundle of `{trust_domain}`: {fault}")]
    Bundle {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// What is wrong with it.
        #[source]
        fault: DocumentError,
    },
}
