//! The messages of the SPIFFE Workload API, as its Protocol Buffers definition numbers them.
//!
//! Maps are read as what they are on the wire, a list of entries: a map would keep the last of two
//! entries with one key, and nobody would know. No message implements `Debug`, because some hold
//! keys and tokens.

use prost::{Message, bytes::Bytes};

pub(super) const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
#[cfg(feature = "jwt")]
pub(super) const FETCH_JWT_SVID: &str = "/SpiffeWorkloadAPI/FetchJWTSVID";
#[cfg(feature = "jwt")]
pub(super) const FETCH_JWT_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchJWTBundles";
#[cfg(feature = "jwt")]
pub(super) const VALIDATE_JWT_SVID: &str = "/SpiffeWorkloadAPI/ValidateJWTSVID";

/// `X509SVIDRequest`, and `JWTBundlesRequest`, which has no fields either.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Empty {}

/// `X509SVIDResponse`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    /// DER.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) crl: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    pub(super) federated_bundles: Vec<Bundle>,
}

/// `X509SVID`.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// Certificates in DER, one after the other, the leaf first.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) x509_svid: Bytes,
    /// PKCS#8 in DER.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) x509_svid_key: Bytes,
    /// Certificates in DER, one after the other.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) bundle: Bytes,
    #[prost(string, tag = "5")]
    pub(super) hint: String,
}

/// An entry of a map from trust domains to bundles.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct Bundle {
    #[prost(string, tag = "1")]
    pub(super) trust_domain: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) contents: Bytes,
}

/// `JWTSVIDRequest`.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) audience: Vec<String>,
    #[prost(string, tag = "2")]
    pub(super) spiffe_id: String,
}

/// `JWTSVIDResponse`.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<JwtSvid>,
}

/// `JWTSVID`.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct JwtSvid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    #[prost(string, tag = "2")]
    pub(super) svid: String,
    #[prost(string, tag = "3")]
    pub(super) hint: String,
}

/// `JWTBundlesResponse`.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct JwtBundlesResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) bundles: Vec<Bundle>,
}

/// `ValidateJWTSVIDRequest`.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct ValidateJwtSvidRequest {
    #[prost(string, tag = "1")]
    pub(super) audience: String,
    #[prost(string, tag = "2")]
    pub(super) svid: String,
}

/// `ValidateJWTSVIDResponse`, without the claims: whoever asks has the token that they are in.
#[cfg(feature = "jwt")]
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct ValidateJwtSvidResponse {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
}
