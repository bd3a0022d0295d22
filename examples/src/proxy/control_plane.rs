//! Connections to the control plane, and to others that a configuration names.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hbone::{Authority, Host};
use http::uri::InvalidUri;
use hyper_util::rt::TokioIo;
use mesh_identity::{pem, provider};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower_service::Service;

use super::config::Server;

/// Time for a connection with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials one server, whatever the URI.
#[derive(Clone)]
pub(crate) struct Dial {
    address: Authority,
    tls: Option<Tls>,
}

/// How a server is authenticated. Its roots are read for each connection, so that a rotation is
/// followed.
#[derive(Clone)]
struct Tls {
    roots: PathBuf,
    name: ServerName<'static>,
}

/// A connection of whatever kind.
pub(crate) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

impl Dial {
    pub(crate) fn new(server: &Server) -> Result<Self, DialSetupError> {
        let tls = match &server.roots {
            Some(roots) => {
                let name = server_name(server)?;
                let tls = Tls {
                    roots: roots.clone(),
                    name,
                };
                tls.config().map_err(|error| DialSetupError::Roots {
                    file: roots.clone(),
                    error,
                })?;
                Some(tls)
            }
            None => None,
        };
        Ok(Self {
            address: server.address.clone(),
            tls,
        })
    }

    async fn connect(self) -> io::Result<TokioIo<Box<dyn Link>>> {
        let port = self.address.port();
        let tcp = match self.address.host() {
            Host::Ip(ip) => TcpStream::connect((ip, port)).await?,
            Host::Name(name) => TcpStream::connect((name, port)).await?,
        };
        hbone::tls::prepare(&tcp)?;
        let link: Box<dyn Link> = match self.tls {
            Some(tls) => {
                let connector = TlsConnector::from(Arc::new(tls.config()?));
                Box::new(connector.connect(tls.name, tcp).await?)
            }
            None => Box::new(tcp),
        };
        Ok(TokioIo::new(link))
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Link>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.clone().connect();
        Box::pin(async move {
            timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        })
    }
}

impl Tls {
    fn config(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.roots)? {
            roots.add(root).map_err(io::Error::other)?;
        }
        client_tls(roots, b"h2").map_err(io::Error::other)
    }
}

/// TLS to a server that these roots vouch for, and that is not told who asks.
pub(crate) fn client_tls(roots: RootCertStore, protocol: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider::aws_lc_rs()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn certificates(file: &Path) -> io::Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    pem::certificates(&std::fs::read(file)?).map_err(io::Error::other)
}

fn server_name(server: &Server) -> Result<ServerName<'static>, DialSetupError> {
    match (&server.server_name, server.address.host()) {
        (Some(name), _) => Ok(ServerName::try_from(name.clone())?),
        (None, Host::Name(name)) => Ok(ServerName::try_from(name.to_owned())?),
        (None, Host::Ip(ip)) => Ok(ip.into()),
    }
}

/// What is wrong with what the configuration says about a server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialSetupError {
    #[error("address: {0}")]
    Address(#[from] InvalidUri),
    #[error("server_name: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("roots: {}: {error}", file.display())]
    Roots {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
}
