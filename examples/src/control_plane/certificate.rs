//! The certificate that the control plane itself is known by.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_identity::provider;
use mesh_identity::source::dev_ca::{Extension, Name, Template};
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::{Authority, OwnError};

/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// After this time another certificate is made; each is valid for a day.
const RENEWAL: Duration = Duration::from_secs(3600);

/// A TLS server's certificate by the own authority, which is made anew when it is time.
pub(super) struct Certificate {
    authority: Authority,
    name: String,
    /// What is spoken over TLS, as ALPN has it.
    protocol: &'static [u8],
    made: Mutex<Option<Made>>,
}

struct Made {
    at: UnixTime,
    /// The authority's roots then: a certificate by a root that is not handed out is of no use.
    roots: String,
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// For a DNS name or an IP address, to speak a protocol by.
    pub(super) fn new(authority: Authority, name: &str, protocol: &'static [u8]) -> Self {
        Self {
            authority,
            name: name.to_owned(),
            protocol,
            made: Mutex::new(None),
        }
    }

    /// Takes a connection, if there is a certificate to do so with and the client knows how.
    pub(super) async fn accept(&self, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = self.config().inspect_err(|error| {
            tracing::error!(reason = %error, "no certificate to serve with");
        });
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config.ok()?).accept(tcp)).await {
            Ok(Ok(tls)) => return Some(tls),
            Ok(Err(error)) => tracing::debug!(reason = %error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake not in time"),
        }
        None
    }

    /// What to take the next connection with.
    pub(super) fn config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let (now, roots) = (UnixTime::now(), self.authority.roots().to_pem());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh =
            |made: &&Made| made.roots == roots && now.as_secs().saturating_sub(made.at.as_secs()) < RENEWAL.as_secs();
        if let Some(made) = made.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&made.config));
        }
        let config = Arc::new(self.make(now)?);
        *made = Some(Made {
            at: now,
            roots,
            config: Arc::clone(&config),
        });
        Ok(config)
    }

    fn make(&self, now: UnixTime) -> Result<ServerConfig, CertificateError> {
        let name = match self.name.parse::<IpAddr>() {
            Ok(ip) => Name::Ip(ip),
            Err(_) => Name::Dns(self.name.clone()),
        };
        let issued = self.authority.issue_own(|id| Template {
            names: Some(Extension::names(&[Name::Uri(id.to_string()), name])),
            ..Template::leaf(id, now)
        })?;
        let mut config = ServerConfig::builder_with_provider(provider::aws_lc_rs())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(issued.chain().to_vec(), issued.key())?;
        config.alpn_protocols = vec![self.protocol.to_vec()];
        Ok(config)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error(transparent)]
    Authority(#[from] OwnError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}
