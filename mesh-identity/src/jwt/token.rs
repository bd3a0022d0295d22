use thiserror::Error;

use crate::{
    json::{Json, JsonError, Object},
    jws::{Algorithm, Jws, JwsError, MAX_TOKEN_BYTES},
    spiffe_id::{SpiffeId, SpiffeIdError},
};

/// The most audiences of a token.
pub const MAX_TOKEN_AUDIENCES: usize = 64;
/// How much of an unexpected name is repeated in an error, in characters.
const SHOWN_NAME: usize = 32;

/// A token that is well-formed and has been believed nothing yet.
pub(crate) struct Token<'t> {
    pub(crate) subject: SpiffeId,
    pub(crate) audiences: Vec<String>,
    /// Seconds since 1970, as are the others.
    pub(crate) expires: u64,
    pub(super) not_before: Option<u64>,
    pub(super) issued: Option<u64>,
    pub(super) jws: Jws<'t>,
}

impl<'t> Token<'t> {
    pub(crate) fn parse(text: &'t str) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        check_header(&jws)?;
        let claims = Json::parse(jws.payload()).map_err(TokenError::Claims)?;
        let claims = claims.as_object().ok_or(TokenError::NotAnObject)?;
        Ok(Self {
            subject: subject(claims)?,
            audiences: audiences(claims)?,
            expires: seconds(claims, "exp")?.ok_or(TokenError::Claim { name: "exp" })?,
            not_before: seconds(claims, "nbf")?,
            issued: seconds(claims, "iat")?,
            jws,
        })
    }
}

/// Why a text is no JWT-SVID, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token has {bytes} bytes, more than {MAX_TOKEN_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The token is not three parts in base64url (JWT-SVID §1).
    #[error("the token is not in compact serialisation")]
    NotCompact,
    /// The header is no JSON, or has a name twice.
    #[error("the token's header: {0}")]
    Header(#[source] JsonError),
    /// The claims are no JSON, or have a name twice.
    #[error("the token's claims: {0}")]
    Claims(#[source] JsonError),
    /// The header is no JSON object, or the claims are none.
    #[error("the token's header and claims are not both JSON objects")]
    NotAnObject,
    /// The header has a parameter other than `alg`, `kid` and `typ` (JWT-SVID §2).
    #[error("the token's header has parameter `{}`", name.escape_debug())]
    HeaderParameter {
        /// The parameter's name, cut off after 32 characters.
        name: String,
    },
    /// `alg` is missing or none of the nine permitted algorithms (JWT-SVID §2.1).
    #[error("the token's algorithm is not permitted")]
    Algorithm,
    /// `typ` is neither `JWT` nor `JOSE` (JWT-SVID §2.3).
    #[error("the token's type is neither `JWT` nor `JOSE`")]
    Type,
    /// `kid` is no text.
    #[error("the token's key id is no text")]
    KeyId,
    /// A claim is missing, or is not what it should be (JWT-SVID §3).
    #[error("the token's claim `{name}` is missing or malformed")]
    Claim {
        /// The claim's name.
        name: &'static str,
    },
    /// The token has more than [`MAX_TOKEN_AUDIENCES`].
    #[error("the token has more than {MAX_TOKEN_AUDIENCES} audiences")]
    TooManyAudiences,
    /// The subject is no SPIFFE ID (JWT-SVID §3.1).
    #[error("the token's subject is no spiffe id: {0}")]
    Subject(#[source] SpiffeIdError),
    /// The subject has no path: it names a trust domain, not a workload.
    #[error("the token's subject has no path")]
    RootPath,
}

impl TokenError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "jwt_too_large",
            Self::NotCompact => "jwt_not_compact",
            Self::Header(_) => "jwt_header",
            Self::Claims(_) => "jwt_claims",
            Self::NotAnObject => "jwt_not_an_object",
            Self::HeaderParameter { .. } => "jwt_header_parameter",
            Self::Algorithm => "jwt_algorithm",
            Self::Type => "jwt_type",
            Self::KeyId => "jwt_key_id",
            Self::Claim { .. } => "jwt_claim",
            Self::TooManyAudiences => "jwt_too_many_audiences",
            Self::Subject(_) => "jwt_subject",
            Self::RootPath => "jwt_root_path",
        }
    }
}

impl From<JwsError> for TokenError {
    fn from(fault: JwsError) -> Self {
        match fault {
            JwsError::TooLarge { bytes } => Self::TooLarge { bytes },
            JwsError::NotCompact => Self::NotCompact,
            JwsError::Header(fault) => Self::Header(fault),
            JwsError::HeaderNotAnObject => Self::NotAnObject,
            JwsError::Critical => Self::HeaderParameter {
                name: "crit".to_owned(),
            },
            JwsError::Algorithm => Self::Algorithm,
            JwsError::KeyId => Self::KeyId,
        }
    }
}

/// JWT-SVID §2: three parameters are known, and no other may be there; EdDSA is not permitted.
fn check_header(jws: &Jws<'_>) -> Result<(), TokenError> {
    let header = &jws.compact.header;
    let known = |name: &str| matches!(name, "alg" | "kid" | "typ");
    if let Some(name) = header.keys().find(|name| !known(name)) {
        return Err(TokenError::HeaderParameter {
            name: name.chars().take(SHOWN_NAME).collect(),
        });
    }
    if jws.algorithm == Algorithm::EdDsa {
        return Err(TokenError::Algorithm);
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Json::Text(kind)) if matches!(kind.as_str(), "JWT" | "JOSE") => Ok(()),
        Some(_) => Err(TokenError::Type),
    }
}

fn subject(claims: &Object) -> Result<SpiffeId, TokenError> {
    let subject = claims
        .get("sub")
        .and_then(Json::as_text)
        .ok_or(TokenError::Claim { name: "sub" })?;
    let id: SpiffeId = subject.parse().map_err(TokenError::Subject)?;
    if id.path().is_empty() {
        return Err(TokenError::RootPath);
    }
    Ok(id)
}

fn audiences(claims: &Object) -> Result<Vec<String>, TokenError> {
    let malformed = TokenError::Claim { name: "aud" };
    let list = match claims.get("aud") {
        Some(Json::Text(one)) => return Ok(vec![one.clone()]),
        Some(Json::List(list)) if !list.is_empty() => list,
        _ => return Err(malformed),
    };
    if list.len() > MAX_TOKEN_AUDIENCES {
        return Err(TokenError::TooManyAudiences);
    }
    list.iter()
        .map(|audience| audience.as_text().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or(malformed)
}

/// A moment in whole seconds: fractions, which RFC 7519 §2 permits, are in no SVID.
fn seconds(claims: &Object, name: &'static str) -> Result<Option<u64>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(moment) => moment.as_integer().map(Some).ok_or(TokenError::Claim { name }),
    }
}
