//! Who is who: two authorities, and everybody's certificates.

use std::sync::Arc;

use mesh_identity::source::dev_ca::{DevCa, DevCaError};
use mesh_identity::tls::{BuildError, ClientTls, ServerTls};
use mesh_identity::{
    BundleError, PeerPolicy, SpiffeId, SpiffeIdError, Svid, SvidError, TrustBundles, TrustDomainError, provider,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

const HOME: &str = "cluster.local";
const ABROAD: &str = "other.example";

/// The identities of the demonstration, and what they need to speak.
pub(super) struct Identities {
    pub(super) server: SpiffeId,
    pub(super) client: SpiffeId,
    /// Of the same trust domain, but not on the server's list.
    pub(super) intruder: SpiffeId,
    /// Of a trust domain that the server has no roots of.
    pub(super) stranger: SpiffeId,
    home: DevCa,
    abroad: DevCa,
    provider: Arc<CryptoProvider>,
}

impl Identities {
    pub(super) fn issue() -> Result<Self, IdentitiesError> {
        let now = UnixTime::now();
        let (home, abroad) = (DevCa::new(HOME.parse()?, now)?, DevCa::new(ABROAD.parse()?, now)?);
        let id = |ca: &DevCa, name| SpiffeId::for_service_account(ca.trust_domain(), "demo", name);
        Ok(Self {
            server: id(&home, "server")?,
            client: id(&home, "client")?,
            intruder: id(&home, "intruder")?,
            stranger: id(&abroad, "client")?,
            home,
            abroad,
            provider: provider::aws_lc_rs(),
        })
    }

    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// The server's TLS: lets every member of its trust domain speak, and leaves the rest to its
    /// policy for tunnels.
    pub(super) fn server_tls(&self) -> Result<ServerTls, IdentitiesError> {
        Ok(ServerTls::builder(Arc::clone(&self.provider))
            .identity(self.svid(&self.server)?)
            .trust(self.trust()?)
            .authorize(PeerPolicy::member_of(self.server.trust_domain().clone()))
            .build()?)
    }

    /// The TLS of somebody who means to reach the server.
    pub(super) fn client_tls(&self, client: &SpiffeId) -> Result<ClientTls, IdentitiesError> {
        Ok(ClientTls::builder(Arc::clone(&self.provider))
            .identity(self.svid(client)?)
            .trust(self.trust()?)
            .authorize(PeerPolicy::exact(self.server.clone()))
            .build()?)
    }

    fn svid(&self, id: &SpiffeId) -> Result<Arc<Svid>, IdentitiesError> {
        let now = UnixTime::now();
        let ca = match id.trust_domain() == self.home.trust_domain() {
            true => &self.home,
            false => &self.abroad,
        };
        Ok(Arc::new(ca.issue(id, now)?.svid(&self.provider, now)?))
    }

    fn trust(&self) -> Result<Arc<TrustBundles>, IdentitiesError> {
        Ok(Arc::new(self.home.bundle()?.into()))
    }
}

/// Why there are no identities.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentitiesError {
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    #[error(transparent)]
    SpiffeId(#[from] SpiffeIdError),
    #[error(transparent)]
    Authority(#[from] DevCaError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Svid(#[from] SvidError),
    #[error(transparent)]
    Tls(#[from] BuildError),
}
