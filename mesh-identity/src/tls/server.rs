use std::{fmt, sync::Arc};

use rustls::{
    ServerConfig, ServerConnection, crypto::CryptoProvider, server::NoServerSessionStorage, sign::SingleCertAndKey,
    version::TLS13,
};

use super::{
    builder::{Parts, Side, TlsBuilder, WantsIdentity},
    handshake::HandshakeError,
    verifier::{ALPN, PeerVerifier},
};
use crate::{authorize::PeerPolicy, leaf::Role, svid::Svid, verify::VerifiedPeer};

/// The accepting side: one identity, and the clients that may speak to it. Cloning is cheap.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    svid: Arc<Svid>,
    verifier: Arc<PeerVerifier>,
}

impl ServerTls {
    /// Starts with the cryptography to use.
    pub fn builder(provider: Arc<CryptoProvider>) -> TlsBuilder<Self, WantsIdentity> {
        TlsBuilder::new(provider)
    }

    /// The configuration for a [`ServerConnection`] or whatever drives one.
    ///
    /// A handshake under it is not the whole check: ask [`verified_peer`](Self::verified_peer)
    /// before anything else is done with the connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// The identity that is presented.
    pub fn identity(&self) -> &Arc<Svid> {
        &self.svid
    }

    /// Which clients may speak.
    pub fn policy(&self) -> &PeerPolicy {
        self.verifier.policy()
    }

    /// Who the client is, once the handshake is complete.
    ///
    /// Signatures of the chain are not checked again: the verdict of the handshake is handed over.
    /// Verdicts that are not asked for are forgotten after some hundreds of later handshakes, and
    /// then the chain is verified anew. Ask once per connection.
    ///
    /// # Errors
    ///
    /// A handshake that is not complete, resumes a session, did not settle on TLS 1.3 and `h2`, or
    /// whose client is not verified and permitted.
    pub fn verified_peer(&self, connection: &ServerConnection) -> Result<VerifiedPeer, HandshakeError> {
        self.verifier.finish(connection)
    }
}

impl Side for ServerTls {
    const PEER: Role = Role::Client;

    fn assemble(parts: Parts) -> Result<Self, rustls::Error> {
        let Parts {
            provider,
            svid,
            verifier,
            clock,
        } = parts;
        let mut config = ServerConfig::builder_with_details(provider, clock)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(svid.certified()))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            svid,
            verifier,
        })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("identity", &self.svid)
            .field("peers", &self.verifier)
            .finish_non_exhaustive()
    }
}
