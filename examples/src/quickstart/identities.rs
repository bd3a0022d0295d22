//! Who is who: two authorities, and everybody's certificates.

use std::sync::Arc;
use std::time::Duration;

use mesh_identity::live::Live;
use mesh_identity::source::Source;
use mesh_identity::source::dev_ca::{DevCa, DevCaError, DevCaSource, RotationError};
use mesh_identity::tls::{self, BuildError, ClientTls, IdentityUnavailable, ServerTls};
use mesh_identity::{PeerPolicy, SpiffeId, SpiffeIdError, SvidError, TrustDomainError, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

const HOME: &str = "cluster.local";
const ABROAD: &str = "other.example";

/// How long a certificate is valid.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The identities of the demonstration, and what they need to speak.
pub(super) struct Identities {
    pub(super) server: SpiffeId,
    pub(super) client: SpiffeId,
    /// Of the same trust domain, but not on the server's list.
    pub(super) intruder: SpiffeId,
    /// Of a trust domain that the server has no roots of.
    pub(super) stranger: SpiffeId,
    home: DevCaSource,
    abroad: DevCa,
    tls: Arc<tls::Identities>,
    /// What open connections are held to.
    pub(super) live: Live,
    provider: Arc<CryptoProvider>,
}

impl Identities {
    /// Issues all certificates. The future closes connections that are not trusted any more, and
    /// has to be polled.
    pub(super) fn issue() -> Result<(Self, impl Future<Output = ()> + Send + 'static), IdentitiesError> {
        let now = UnixTime::now();
        let (home, abroad) = (DevCa::new(HOME.parse()?, now)?, DevCa::new(ABROAD.parse()?, now)?);
        let id = |ca: &DevCa, name| SpiffeId::for_service_account(ca.trust_domain(), "demo", name);
        let (server, client, intruder) = (id(&home, "server")?, id(&home, "client")?, id(&home, "intruder")?);
        let ids = [&server, &client, &intruder].map(Clone::clone);
        let provider = provider::aws_lc_rs();
        let home = DevCaSource::new(home, ids, LIFETIME, Arc::clone(&provider), now, 0)?;
        let (live, driver) = Live::builder(home.follow(), Arc::clone(&provider)).build();
        let identities = Self {
            stranger: id(&abroad, "client")?,
            tls: Arc::new(tls::Identities::new(home.follow(), Arc::clone(&provider))),
            server,
            client,
            intruder,
            home,
            abroad,
            live,
            provider,
        };
        Ok((identities, driver))
    }

    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// The server's TLS of the moment: lets every member of its trust domain speak, and leaves the
    /// rest to its policy for tunnels.
    pub(super) fn server_tls(&self) -> impl Fn() -> Result<ServerTls, IdentityUnavailable> + Send + Sync + use<> {
        let (tls, server, members) = (Arc::clone(&self.tls), self.server.clone(), self.members());
        move || tls.server(Some(&server), &members)
    }

    /// Every member of the server's trust domain.
    pub(super) fn members(&self) -> PeerPolicy {
        PeerPolicy::member_of(self.server.trust_domain().clone())
    }

    /// Whom everybody means to reach.
    pub(super) fn servers(&self) -> PeerPolicy {
        PeerPolicy::exact(self.server.clone())
    }

    /// The client's TLS of the moment.
    pub(super) fn client_tls(&self) -> impl Fn() -> Option<ClientTls> + Send + Sync + use<> {
        let (tls, client, servers) = (Arc::clone(&self.tls), self.client.clone(), self.servers());
        move || tls.client(Some(&client), &servers).ok()
    }

    /// The TLS of somebody who means to reach the server now.
    pub(super) fn tls_of(&self, who: &SpiffeId) -> Result<ClientTls, IdentitiesError> {
        if who.trust_domain() == self.server.trust_domain() {
            return Ok(self.tls.client(Some(who), &self.servers())?);
        }
        let now = UnixTime::now();
        let svid = self.abroad.issue(who, now)?.svid(&self.provider, now)?;
        Ok(ClientTls::builder(Arc::clone(&self.provider))
            .identity(Arc::new(svid))
            .trust(Arc::clone(self.home.follow().snapshot().trust()))
            .authorize(self.servers())
            .build()?)
    }

    /// Has a new root sign everybody's certificates. The old one is believed for now.
    pub(super) fn rotate(&self) -> Result<(), IdentitiesError> {
        let now = UnixTime::now();
        self.home.prepare(DevCa::new(HOME.parse()?, now)?)?;
        Ok(self.home.activate(now, 0)?)
    }

    /// Has the old root believed no longer.
    pub(super) fn revoke(&self) -> Result<(), IdentitiesError> {
        Ok(self.home.revoke()?)
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
    Rotation(#[from] RotationError),
    #[error(transparent)]
    Unavailable(#[from] IdentityUnavailable),
    #[error(transparent)]
    Svid(#[from] SvidError),
    #[error(transparent)]
    Tls(#[from] BuildError),
}
