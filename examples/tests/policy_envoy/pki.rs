//! Certificates with names of all sorts, and TLS on both sides.

use std::sync::Arc;

use mesh_testkit::policy::wire::{CERTIFICATES, Certificate, Connection};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::batch::Layer;

/// An authority, the server's credentials, and a client for each of the certificates and for none.
pub struct Pki {
    roots: String,
    certificate: String,
    key: String,
    clients: Vec<Arc<ClientConfig>>,
    anonymous: Arc<ClientConfig>,
}

/// What Envoy answers to, besides its address.
const SERVER_NAMES: [&str; 3] = ["a.example", "b.example", "other.test"];

type Issuer = CertifiedIssuer<'static, KeyPair>;

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(SERVER_NAMES.map(str::to_owned)).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress("127.0.0.1".parse().unwrap()));
        let server = params.signed_by(&key, &authority).unwrap();
        let mut store = RootCertStore::empty();
        store.add(authority.der().clone()).unwrap();
        let identities = CERTIFICATES.iter().map(|names| Some(issue(names, &authority)));
        let mut clients: Vec<_> = identities
            .chain([None])
            .map(|identity| client(&store, identity))
            .collect();
        Self {
            roots: authority.pem(),
            certificate: server.pem(),
            key: key.serialize_pem(),
            anonymous: clients.pop().unwrap(),
            clients,
        }
    }

    /// Envoy's side: it asks for a certificate and does without one.
    pub fn transport_socket(&self, layer: Layer) -> Value {
        let protocols: &[&str] = match layer {
            Layer::Http => &["h2"],
            Layer::Tcp => &[],
        };
        json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": false,
            "common_tls_context": {
                "alpn_protocols": protocols,
                "tls_certificates": [{
                    "certificate_chain": { "inline_string": self.certificate },
                    "private_key": { "inline_string": self.key },
                }],
                "validation_context": { "trusted_ca": { "inline_string": self.roots } },
            },
        } })
    }

    pub async fn handshake(&self, connection: &Connection, stream: TcpStream) -> TlsStream<TcpStream> {
        let config = match connection.certificate {
            Some(index) => &self.clients[index],
            None => &self.anonymous,
        };
        // Of an address no server name is sent.
        let name = connection.sni.unwrap_or("127.0.0.1");
        let name = ServerName::try_from(name).unwrap();
        TlsConnector::from(Arc::clone(config))
            .connect(name, stream)
            .await
            .unwrap()
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn issue(names: &Certificate, authority: &Issuer) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = names.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    let uris = names.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
    let dns = names
        .dns
        .iter()
        .map(|name| SanType::DnsName((*name).try_into().unwrap()));
    params.subject_alt_names = uris.chain(dns).collect();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (certificate.der().clone(), key.into())
}

fn client(roots: &RootCertStore, identity: Option<Identity>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    // Each connection shows its certificate anew.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
