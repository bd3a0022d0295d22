//! The messages of `istio.v1.auth`, as a client writes and reads them.

use std::collections::BTreeMap;

/// Where the one method lies.
pub(super) const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateRequest {
    /// A certificate signing request as PEM text.
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    /// How long the certificate should live, in seconds.
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Struct>,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateResponse {
    /// PEM texts: the leaf, its intermediates, and last the roots.
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, of which a request has texts only.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(super) string_value: Option<String>,
}
