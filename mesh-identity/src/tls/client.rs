use std::{fmt, net::Ipv4Addr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, client::Resumption, crypto::CryptoProvider, sign::SingleCertAndKey, version::TLS13,
};
use rustls_pki_types::ServerName;

use super::{
    builder::{Parts, Side, TlsBuilder, WantsIdentity},
    handshake::HandshakeError,
    verifier::{ALPN, PeerVerifier},
};
use crate::{authorize::PeerPolicy, leaf::Role, svid::Svid, verify::VerifiedPeer};

/// The opening side: one identity, and the servers it means to reach. Cloning is cheap.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    svid: Arc<Svid>,
    verifier: Arc<PeerVerifier>,
}

impl ClientTls {
    /// Starts with the cryptography to use.
    pub fn builder(provider: Arc<CryptoProvider>) -> TlsBuilder<Self, WantsIdentity> {
        TlsBuilder::new(provider)
    }

    /// The configuration for a [`ClientConnection`] or whatever drives one.
    ///
    /// A handshake under it is not the whole check: ask [`verified_peer`](Self::verified_peer)
    /// before anything else is done with the connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to pass to rustls, which insists on one: an address, so that none goes out. Servers
    /// are known by their SPIFFE ID alone.
    pub fn server_name(&self) -> ServerName<'static> {
        ServerName::from(Ipv4Addr::UNSPECIFIED)
    }

    /// The identity that is presented.
    pub fn identity(&self) -> &Arc<Svid> {
        &self.svid
    }

    /// Which servers may speak.
    pub fn policy(&self) -> &PeerPolicy {
        self.verifier.policy()
    }

    /// Who the server is, once the handshake is complete.
    ///
    /// A client's handshake completes before the server has judged the client, so the server may
    /// still refuse: that shows as an error of the first read.
    ///
    /// Signatures of the chain are not checked again: the verdict of the handshake is handed over.
    /// Verdicts that are not asked for are forgotten after some hundreds of later handshakes, and
    /// then the chain is verified anew. Ask once per connection.
    ///
    /// # Errors
    ///
    /// A handshake that is not complete, resumes a session, did not settle on TLS 1.3 and `h2`, or
    /// whose server is not verified and permitted.
    pub fn verified_peer(&self, connection: &ClientConnection) -> Result<VerifiedPeer, HandshakeError> {
        self.verifier.finish(connection)
    }
}

impl Side for ClientTls {
    const PEER: Role = Role::Server;

    fn assemble(parts: Parts) -> Result<Self, rustls::Error> {
        let Parts {
            provider,
            svid,
            verifier,
            clock,
        } = parts;
        let mut config = ClientConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&TLS13])?
            // rustls calls every verifier but its own dangerous.
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(svid.certified()))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Self {
            config: Arc::new(config),
            svid,
            verifier,
        })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("identity", &self.svid)
            .field("peers", &self.verifier)
            .finish_non_exhaustive()
    }
}
