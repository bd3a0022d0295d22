//! The messages of `istio.v1.auth`, as a server reads and writes them.

use std::collections::BTreeMap;

/// Where the one method lies.
pub(super) const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateRequest {
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    /// In seconds.
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
    #[prost(message, optional, tag = "4")]
    pub(super) metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, of which only texts are read.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Value {
    #[prost(string, optional, tag = "3")]
    pub(super) string_value: Option<String>,
}
