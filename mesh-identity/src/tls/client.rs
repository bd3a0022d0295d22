use std::{net::Ipv4Addr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, client::Resumption, crypto::CryptoProvider, sign::SingleCertAndKey, version::TLS13,
};
use rustls_pki_types::ServerName;

use super::{
    builder::{TlsBuilder, WantsIdentity},
    end::{Configure, End, Parts, Side},
    handshake::HandshakeError,
    verifier::{ALPN, Anonymity},
};
use crate::{leaf::Role, verify::VerifiedPeer};

/// The opening side: one identity, and the servers it means to reach.
pub type ClientTls = End<Client>;

/// The opening side, as a type.
#[derive(Debug)]
pub enum Client {}

impl ClientTls {
    /// Starts with the cryptography to use.
    pub fn builder(provider: Arc<CryptoProvider>) -> TlsBuilder<Client, WantsIdentity> {
        TlsBuilder::new(provider)
    }

    /// The name to pass to rustls, which insists on one: an address, so that none goes out. Servers
    /// are known by their SPIFFE ID alone.
    pub fn server_name(&self) -> ServerName<'static> {
        ServerName::from(Ipv4Addr::UNSPECIFIED)
    }

    /// Who the server is, once the handshake is complete.
    ///
    /// A client's handshake completes before the server has judged the client, so the server may
    /// still refuse: that shows as an error of the first read.
    ///
    /// Signatures of the chain are not checked again: the verdict of the handshake is handed over.
    /// Verdicts that are not asked for are forgotten after some hundreds of later handshakes, or
    /// fewer if those present long chains, and then the chain is verified anew. Ask once per
    /// connection.
    ///
    /// # Errors
    ///
    /// A handshake that is not complete, resumes a session, did not settle on TLS 1.3 and `h2`, or
    /// whose server is not verified and permitted.
    pub fn verified_peer(&self, connection: &ClientConnection) -> Result<VerifiedPeer, HandshakeError> {
        self.verifier.finish(connection)
    }
}

impl Side for Client {
    type Config = ClientConfig;
}

impl Configure for Client {
    const NAME: &'static str = "ClientTls";
    const PEER: Role = Role::Server;
    const ANONYMITY: Anonymity = Anonymity::Refused;

    fn configure(parts: Parts) -> Result<ClientConfig, rustls::Error> {
        let resolver = SingleCertAndKey::from(Arc::clone(parts.svid.certified()));
        let mut config = ClientConfig::builder_with_details(parts.provider, parts.clock)
            .with_protocol_versions(&[&TLS13])?
            // rustls calls every verifier but its own dangerous.
            .dangerous()
            .with_custom_certificate_verifier(parts.verifier)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}
