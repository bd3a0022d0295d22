use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::json::{Json, JsonError, Object};

/// The longest token that is read, in bytes: twice what HTTP servers commonly take as a header.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// The parts of a token in compact serialisation, of which only the header has been read.
pub(crate) struct Compact<'t> {
    pub(crate) header: Object,
    pub(crate) payload: Vec<u8>,
    pub(crate) encoded_payload: &'t str,
    /// What the signature is over.
    pub(crate) signed: &'t [u8],
    pub(crate) signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    /// Reads the compact serialisation of RFC 7515 §3.1: three parts in base64url, without padding
    /// and with no bits to spare, so that no token is spelled in two ways.
    pub(crate) fn parse(text: &'t str) -> Result<Self, JwsError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(JwsError::TooLarge { bytes: text.len() });
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::NotCompact)?;
        let (header, encoded_payload) = signed.split_once('.').ok_or(JwsError::NotCompact)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::NotCompact);
        let (header, payload, signature) = (decode(header)?, decode(encoded_payload)?, decode(signature)?);
        match Json::parse(&header).map_err(JwsError::Header)? {
            Json::Object(header) => Ok(Self {
                header,
                payload,
                encoded_payload,
                signed: signed.as_bytes(),
                signature,
            }),
            _ => Err(JwsError::HeaderNotAnObject),
        }
    }
}

/// Why a text is no token, whoever signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwsError {
    /// The token is longer than [`MAX_TOKEN_BYTES`].
    #[error("the token has {bytes} bytes, more than {MAX_TOKEN_BYTES}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The token is not three parts in base64url.
    #[error("the token is not in compact serialisation")]
    NotCompact,
    /// The header is no JSON, or has a name twice.
    #[error("the token's header: {0}")]
    Header(#[source] JsonError),
    /// The header is no JSON object.
    #[error("the token's header is no json object")]
    HeaderNotAnObject,
    /// The header has extensions that have to be understood (RFC 7515 §4.1.11), of which none are.
    #[error("the token's header has critical extensions")]
    Critical,
    /// `alg` is missing, or is none of the asymmetric algorithms.
    #[error("the token's algorithm is not permitted")]
    Algorithm,
    /// `kid` is no text.
    #[error("the token's key id is no text")]
    KeyId,
}

impl JwsError {
    /// A short name of the rule, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "jwt_too_large",
            Self::NotCompact => "jwt_not_compact",
            Self::Header(_) => "jwt_header",
            Self::HeaderNotAnObject => "jwt_not_an_object",
            Self::Critical => "jwt_critical",
            Self::Algorithm => "jwt_algorithm",
            Self::KeyId => "jwt_key_id",
        }
    }
}
