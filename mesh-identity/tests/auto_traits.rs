//! Promises about threads that the compiler makes silently, and would take back silently.

#![allow(missing_docs, reason = "test code")]

use mesh_identity::{
    AliasError, BundleError, Denied, PatternError, PeerPattern, PeerPolicy, Profile, RevocationList,
    RevocationListError, SpiffeId, SpiffeIdError, TrustBundle, TrustBundles, TrustDomain, TrustDomainAliases,
    TrustDomainError, VerifiedPeer, VerifyError,
};

fn thread_safe<T: Send + Sync + Unpin + 'static>() {}

#[test]
fn values_may_go_to_any_thread() {
    thread_safe::<TrustDomain>();
    thread_safe::<SpiffeId>();
    thread_safe::<TrustBundle>();
    thread_safe::<TrustBundles>();
    thread_safe::<PeerPolicy>();
    thread_safe::<PeerPattern>();
    thread_safe::<VerifiedPeer>();
    thread_safe::<Profile>();
    thread_safe::<RevocationList>();
    thread_safe::<TrustDomainAliases>();
}

#[cfg(feature = "bundle-document")]
#[test]
fn documents_may_go_to_any_thread() {
    thread_safe::<mesh_identity::BundleDocument>();
    thread_safe::<mesh_identity::BundleMap>();
    thread_safe::<mesh_identity::DocumentError>();
    thread_safe::<mesh_identity::BundleMapError>();
}

#[cfg(feature = "jwt")]
#[test]
fn tokens_may_go_to_any_thread() {
    thread_safe::<mesh_identity::jwt::JwtBundles>();
    thread_safe::<mesh_identity::jwt::JwtValidator>();
    thread_safe::<mesh_identity::jwt::JwtSvid>();
    thread_safe::<mesh_identity::jwt::JwtError>();
}

#[test]
fn errors_may_go_to_any_thread() {
    thread_safe::<TrustDomainError>();
    thread_safe::<SpiffeIdError>();
    thread_safe::<BundleError>();
    thread_safe::<VerifyError>();
    thread_safe::<Denied>();
    thread_safe::<PatternError>();
    thread_safe::<AliasError>();
    thread_safe::<RevocationListError>();
    thread_safe::<mesh_identity::source::files::FileError>();
}

#[cfg(feature = "tls")]
#[test]
fn tls_sides_may_go_to_any_thread() {
    thread_safe::<mesh_identity::Svid>();
    thread_safe::<mesh_identity::SvidError>();
    thread_safe::<mesh_identity::tls::ServerTls>();
    thread_safe::<mesh_identity::tls::ClientTls>();
    thread_safe::<mesh_identity::tls::HandshakeError>();
    thread_safe::<mesh_identity::tls::BuildError>();
}

#[cfg(feature = "dev-ca")]
#[test]
fn authorities_may_go_to_any_thread() {
    thread_safe::<mesh_identity::source::dev_ca::DevCa>();
    thread_safe::<mesh_identity::source::dev_ca::Issued>();
}

#[cfg(feature = "source")]
#[test]
fn sources_may_go_to_any_thread() {
    thread_safe::<mesh_identity::source::FixedSource>();
    thread_safe::<mesh_identity::source::MergedSource>();
    thread_safe::<mesh_identity::source::Follower>();
    thread_safe::<mesh_identity::source::Publisher>();
    thread_safe::<mesh_identity::source::Problem>();
    thread_safe::<mesh_identity::source::Snapshot>();
    thread_safe::<mesh_identity::tls::Identities>();
    thread_safe::<mesh_identity::tls::IdentityUnavailable>();
}

#[cfg(feature = "source")]
#[test]
fn live_connections_may_go_to_any_thread() {
    thread_safe::<mesh_identity::live::Live>();
    thread_safe::<mesh_identity::live::Scope>();
    thread_safe::<mesh_identity::live::Guard>();
    thread_safe::<mesh_identity::live::Closing>();
    thread_safe::<mesh_identity::live::CloseReason>();
}

#[cfg(all(feature = "dev-ca", feature = "source"))]
#[test]
fn rotating_authorities_may_go_to_any_thread() {
    thread_safe::<mesh_identity::source::dev_ca::DevCaSource>();
    thread_safe::<mesh_identity::source::dev_ca::RotationError>();
}

#[cfg(feature = "istio-ca")]
#[test]
fn certificates_may_be_obtained_on_any_thread() {
    use mesh_identity::source::istio_ca::{CaConfig, CaDriver, CaError, IstioCa, Lease, LeaseError, RequestError};

    thread_safe::<IstioCa>();
    thread_safe::<Lease>();
    thread_safe::<CaConfig>();
    thread_safe::<CaError>();
    thread_safe::<LeaseError>();
    thread_safe::<RequestError>();
    fn sendable<F: Future + Send>(_run: fn(CaDriver) -> F) {}
    sendable(CaDriver::run);
}

#[cfg(feature = "federation")]
#[test]
fn bundles_may_be_fetched_and_served_on_any_thread() {
    use mesh_identity::federation::{
        BundleEndpoint, Federation, FederationConfig, FederationDriver, FederationError, FetchError, Relationship,
    };

    thread_safe::<Federation>();
    thread_safe::<BundleEndpoint>();
    thread_safe::<FederationConfig>();
    thread_safe::<Relationship>();
    thread_safe::<FederationError>();
    thread_safe::<FetchError>();
    fn sendable<F: Future + Send>(_run: fn(FederationDriver) -> F) {}
    sendable(FederationDriver::run);
}

#[cfg(feature = "workload-api")]
#[test]
fn workload_apis_may_go_to_any_thread() {
    use mesh_identity::source::workload_api;

    thread_safe::<workload_api::WorkloadApi>();
    thread_safe::<workload_api::Config>();
    thread_safe::<workload_api::EndpointError>();
    thread_safe::<workload_api::StreamError>();
    fn sendable<T: Send + 'static>() {}
    sendable::<workload_api::Driver>();
}
