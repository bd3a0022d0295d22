use std::sync::Arc;

use rustls::{
    ServerConfig, ServerConnection, crypto::CryptoProvider, server::NoServerSessionStorage, sign::SingleCertAndKey,
    version::TLS13,
};

use super::{
    builder::{Ready, TlsBuilder, WantsIdentity},
    end::{Configure, End, Parts, Side},
    handshake::HandshakeError,
    verifier::{ALPN, Anonymity},
};
use crate::{leaf::Role, verify::VerifiedPeer};

/// The accepting side: one identity, and the clients that may speak to it.
pub type ServerTls = End<Server>;

/// An accepting side that also serves clients without a certificate, as
/// [`or_anonymous`](TlsBuilder::or_anonymous) makes it. It is a type of its own, so that nobody
/// mistakes it for one whose clients are all known.
pub type PermissiveServerTls = End<PermissiveServer>;

/// The accepting side, as a type.
#[derive(Debug)]
pub enum Server {}

/// The permissive accepting side, as a type.
#[derive(Debug)]
pub enum PermissiveServer {}

impl ServerTls {
    /// Starts with the cryptography to use.
    pub fn builder(provider: Arc<CryptoProvider>) -> TlsBuilder<Server, WantsIdentity> {
        TlsBuilder::new(provider)
    }

    /// Who the client is, once the handshake is complete.
    ///
    /// Signatures of the chain are not checked again: the verdict of the handshake is handed over.
    /// Verdicts that are not asked for are forgotten after some hundreds of later handshakes, or
    /// fewer if those present long chains, and then the chain is verified anew. Ask once per
    /// connection.
    ///
    /// # Errors
    ///
    /// A handshake that is not complete, resumes a session, did not settle on TLS 1.3 and `h2`, or
    /// whose client is not verified and permitted.
    pub fn verified_peer(&self, connection: &ServerConnection) -> Result<VerifiedPeer, HandshakeError> {
        self.verifier.finish(connection)
    }
}

impl PermissiveServerTls {
    /// Who the client is, or that it did not say, once the handshake is complete.
    ///
    /// Ask once per connection, for the same reason as with [`ServerTls::verified_peer`].
    ///
    /// # Errors
    ///
    /// As [`ServerTls::verified_peer`]: a client that presents a certificate is held to it, and is
    /// refused rather than taken for an anonymous one.
    pub fn caller(&self, connection: &ServerConnection) -> Result<Caller, HandshakeError> {
        match self.verifier.finish(connection) {
            Ok(peer) => Ok(Caller::Verified(peer)),
            Err(HandshakeError::NoPeerCertificate) => Ok(Caller::Anonymous),
            Err(error) => Err(error),
        }
    }
}

/// Who calls a [`PermissiveServerTls`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A peer that is verified and permitted.
    Verified(VerifiedPeer),
    /// A client without a certificate. Nothing is known of it, and no policy was asked about it.
    Anonymous,
}

impl TlsBuilder<Server, Ready> {
    /// Serves clients without a certificate as well. Those with one have to be verified and
    /// permitted as before.
    ///
    /// This is for the time in which a mesh is being introduced. What an anonymous client may do is
    /// left to the program, which learns of it by [`Caller::Anonymous`].
    pub fn or_anonymous(self) -> TlsBuilder<PermissiveServer, Ready> {
        self.for_side()
    }
}

impl Side for Server {
    type Config = ServerConfig;
}

impl Configure for Server {
    const NAME: &'static str = "ServerTls";
    const PEER: Role = Role::Client;
    const ANONYMITY: Anonymity = Anonymity::Refused;

    fn configure(parts: Parts) -> Result<ServerConfig, rustls::Error> {
        configure(parts)
    }
}

impl Side for PermissiveServer {
    type Config = ServerConfig;
}

impl Configure for PermissiveServer {
    const NAME: &'static str = "PermissiveServerTls";
    const PEER: Role = Role::Client;
    const ANONYMITY: Anonymity = Anonymity::Admitted;

    fn configure(parts: Parts) -> Result<ServerConfig, rustls::Error> {
        configure(parts)
    }
}

fn configure(parts: Parts) -> Result<ServerConfig, rustls::Error> {
    let resolver = SingleCertAndKey::from(Arc::clone(parts.svid.certified()));
    let mut config = ServerConfig::builder_with_details(parts.provider, parts.clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(parts.verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
