//! A mesh that trusts: two trust domains with their authorities, named workloads, and TLS configurations in one call.
//!
//! Certificates are valid from now on for a day, by the system's clock, which tokio's paused time does not stop. For
//! certificates that break a rule, take the authority from [`Mesh::authority`] and a
//! [`Template`](mesh_identity::source::dev_ca::Template).

use std::sync::Arc;

use mesh_identity::source::dev_ca::DevCa;
use mesh_identity::tls::{ClientTls, ServerTls};
use mesh_identity::{PeerPolicy, SpiffeId, Svid, TrustBundles, TrustDomain, provider};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;

const HOME: &str = "cluster.local";
const ABROAD: &str = "other.example";

/// `spiffe://cluster.local/ns/default/sa/client`.
#[must_use]
pub fn client() -> SpiffeId {
    workload(HOME, "client")
}

/// `spiffe://cluster.local/ns/default/sa/server`.
#[must_use]
pub fn server() -> SpiffeId {
    workload(HOME, "server")
}

/// `spiffe://cluster.local/ns/default/sa/waypoint`.
#[must_use]
pub fn waypoint() -> SpiffeId {
    workload(HOME, "waypoint")
}

/// `spiffe://other.example/ns/default/sa/client`: the client's namesake of the other trust domain.
#[must_use]
pub fn stranger() -> SpiffeId {
    workload(ABROAD, "client")
}

/// The authorities of `cluster.local` and `other.example`, and the cryptography that everyone uses.
#[derive(Debug)]
pub struct Mesh {
    home: DevCa,
    abroad: DevCa,
    provider: Arc<CryptoProvider>,
}

impl Mesh {
    /// Two new authorities.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "each mesh has keys of its own: no two are equal"
    )]
    pub fn new() -> Self {
        let authority = |name| DevCa::new(trust_domain(name), UnixTime::now()).unwrap();
        Self {
            home: authority(HOME),
            abroad: authority(ABROAD),
            provider: provider::aws_lc_rs(),
        }
    }

    /// The authority of a trust domain.
    ///
    /// # Panics
    ///
    /// When the mesh does not have this trust domain.
    #[must_use]
    #[track_caller]
    pub fn authority(&self, trust_domain: &TrustDomain) -> &DevCa {
        [&self.home, &self.abroad]
            .into_iter()
            .find(|authority| authority.trust_domain() == trust_domain)
            .unwrap_or_else(|| panic!("the mesh has no trust domain `{trust_domain}`"))
    }

    /// The cryptography that the mesh uses: aws-lc-rs.
    #[must_use]
    pub fn provider(&self) -> Arc<CryptoProvider> {
        Arc::clone(&self.provider)
    }

    /// The bundles of both trust domains.
    #[must_use]
    pub fn trust(&self) -> Arc<TrustBundles> {
        let bundles = [&self.home, &self.abroad].map(|authority| authority.bundle().unwrap());
        Arc::new(TrustBundles::new(bundles).unwrap())
    }

    /// The bundle of `cluster.local` alone, with which strangers are not believed at all.
    #[must_use]
    pub fn home_trust(&self) -> Arc<TrustBundles> {
        Arc::new(TrustBundles::new([self.home.bundle().unwrap()]).unwrap())
    }

    /// A newly issued identity.
    ///
    /// # Panics
    ///
    /// When the mesh does not have the trust domain of `id`.
    #[must_use]
    #[track_caller]
    pub fn svid(&self, id: &SpiffeId) -> Arc<Svid> {
        let now = UnixTime::now();
        let issued = self.authority(id.trust_domain()).issue(id, now).unwrap();
        Arc::new(issued.svid(&self.provider, now).unwrap())
    }

    /// A server with a newly issued identity, that believes both trust domains and admits the clients that `clients`
    /// permits.
    ///
    /// # Panics
    ///
    /// When the mesh does not have the trust domain of `server`.
    #[must_use]
    #[track_caller]
    pub fn server_tls(&self, server: &SpiffeId, clients: PeerPolicy) -> ServerTls {
        let builder = ServerTls::builder(self.provider());
        builder
            .identity(self.svid(server))
            .trust(self.trust())
            .authorize(clients)
            .build()
            .unwrap()
    }

    /// A client with a newly issued identity, that believes both trust domains and means to reach the servers that
    /// `servers` permits.
    ///
    /// # Panics
    ///
    /// When the mesh does not have the trust domain of `client`.
    #[must_use]
    #[track_caller]
    pub fn client_tls(&self, client: &SpiffeId, servers: PeerPolicy) -> ClientTls {
        let builder = ClientTls::builder(self.provider());
        builder
            .identity(self.svid(client))
            .trust(self.trust())
            .authorize(servers)
            .build()
            .unwrap()
    }

    /// The [`client`] and the [`server`], each of which speaks to the other alone.
    #[must_use]
    pub fn tls_pair(&self) -> (ClientTls, ServerTls) {
        (
            self.client_tls(&client(), PeerPolicy::exact(server())),
            self.server_tls(&server(), PeerPolicy::exact(client())),
        )
    }
}

fn workload(trust_domain_name: &str, service_account: &str) -> SpiffeId {
    SpiffeId::for_service_account(&trust_domain(trust_domain_name), "default", service_account).unwrap()
}

fn trust_domain(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConnection};

    /// Shakes hands and says whom each side saw, or that one of them refused.
    fn handshake(client: &ClientTls, server: &ServerTls) -> Option<(SpiffeId, SpiffeId)> {
        let mut near = ClientConnection::new(client.config(), client.server_name()).unwrap();
        let mut far = ServerConnection::new(server.config()).unwrap();
        while near.wants_write() || far.wants_write() {
            let mut wire = Vec::new();
            near.write_tls(&mut wire).unwrap();
            far.read_tls(&mut wire.as_slice()).unwrap();
            far.process_new_packets().ok()?;
            let mut wire = Vec::new();
            far.write_tls(&mut wire).unwrap();
            near.read_tls(&mut wire.as_slice()).unwrap();
            near.process_new_packets().ok()?;
        }
        let seen_by_client = client.verified_peer(&near).ok()?;
        let seen_by_server = server.verified_peer(&far).ok()?;
        Some((seen_by_client.id().clone(), seen_by_server.id().clone()))
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        assert_eq!(client().to_string(), "spiffe://cluster.local/ns/default/sa/client");
        assert_eq!(stranger().to_string(), "spiffe://other.example/ns/default/sa/client");
        assert_eq!(waypoint().service_account(), Some("waypoint"));
    }

    #[test]
    fn the_pair_shakes_hands() {
        let (client_tls, server_tls) = Mesh::new().tls_pair();
        assert_eq!(handshake(&client_tls, &server_tls), Some((server(), client())));
    }

    #[test]
    fn a_stranger_is_believed_but_speaks_only_where_permitted() {
        let mesh = Mesh::new();
        let stranger_tls = mesh.client_tls(&stranger(), PeerPolicy::exact(server()));
        let open = mesh.server_tls(&server(), PeerPolicy::any_authenticated());
        assert_eq!(handshake(&stranger_tls, &open), Some((server(), stranger())));
        let closed = mesh.server_tls(&server(), PeerPolicy::exact(client()));
        assert_eq!(handshake(&stranger_tls, &closed), None);
    }

    #[test]
    fn another_mesh_of_the_same_names_is_not_believed() {
        let (client_tls, _) = Mesh::new().tls_pair();
        let (_, server_tls) = Mesh::new().tls_pair();
        assert_eq!(handshake(&client_tls, &server_tls), None);
    }

    #[test]
    fn home_trust_leaves_the_other_domain_out() {
        let mesh = Mesh::new();
        let trust = mesh.home_trust();
        assert!(trust.get(client().trust_domain()).is_some());
        assert!(trust.get(stranger().trust_domain()).is_none());
        assert_eq!(mesh.trust().iter().count(), 2);
    }
}
