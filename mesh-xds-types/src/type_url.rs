/// The type URL of [`workload::Address`](crate::workload::Address) resources.
pub const ADDRESS_TYPE_URL: &str = "type.googleapis.com/istio.workload.Address";

/// The type URL of [`security::Authorization`](crate::security::Authorization) resources.
pub const AUTHORIZATION_TYPE_URL: &str = "type.googleapis.com/istio.security.Authorization";

/// The type URL of [`traffic::Manifest`](crate::traffic::Manifest) resources.
pub const MANIFEST_TYPE_URL: &str = "type.googleapis.com/mesh.traffic.v1.Manifest";
