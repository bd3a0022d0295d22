//! One fetch of an issuer's keys.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_identity::jws::{Json, JsonError};
use mesh_identity::pem;
use mesh_policy::Cidr;
use mesh_policy::jwt::{KeySet, KeySetError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::config;
use super::PlaceName;
use super::address::is_callable;
use super::url::{NoUrl, Url};
use crate::proxy::control_plane::client_tls;

/// The most bytes of an answer.
const MAX_BYTES: usize = 1 << 20;
/// The most header fields of an answer, and the most bytes of them.
const MAX_HEADERS: (usize, usize) = (64, 16 * 1024);
/// No place is waited for longer, whatever a policy says.
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What places are called with.
pub(super) struct Fetcher {
    /// Read for each call, so that a rotation is followed.
    roots: Option<PathBuf>,
    allowed: Vec<Cidr>,
}

impl Fetcher {
    pub(super) fn new(config: &config::Keys) -> Self {
        let config::Keys { roots, allowed } = config.clone();
        Self { roots, allowed }
    }

    /// Fetches keys, from where the policy says, or else the issuer (OpenID Connect Discovery §4).
    pub(super) async fn fetch(&self, place: &PlaceName, time: Duration) -> Result<KeySet, FetchError> {
        let after = time.min(MAX_TIMEOUT);
        match timeout(after, self.keys(place)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Deadline { after }),
        }
    }

    async fn keys(&self, PlaceName { issuer, uri }: &PlaceName) -> Result<KeySet, FetchError> {
        let url = match uri {
            Some(uri) => uri.parse()?,
            None => {
                let document = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
                discovered(&self.get(&document.parse()?).await?, issuer)?
            }
        };
        Ok(KeySet::parse(&self.get(&url).await?)?)
    }

    async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        let tcp = self.dial(url).await?;
        match url.is_secure {
            false => get(url, tcp).await,
            true => {
                let tls = TlsConnector::from(Arc::new(self.tls()?));
                let name = ServerName::try_from(url.host.clone()).map_err(|_| NoUrl)?;
                get(url, tls.connect(name, tcp).await.map_err(FetchError::Handshake)?).await
            }
        }
    }

    /// Connects to an address that may be called. Judged is what a name resolves to, and that is what
    /// is called.
    async fn dial(&self, url: &Url) -> Result<TcpStream, FetchError> {
        let addresses = lookup_host((url.host.as_str(), url.port))
            .await
            .map_err(FetchError::Dial)?;
        let callable = addresses.filter(|address: &SocketAddr| is_callable(address.ip(), &self.allowed));
        let mut failure = FetchError::NotCallable;
        for address in callable {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failure = FetchError::Dial(error),
            }
        }
        Err(failure)
    }

    fn tls(&self) -> Result<ClientConfig, FetchError> {
        let file = self.roots.as_ref().ok_or(FetchError::NoRoots)?;
        let certificates = std::fs::read(file).and_then(|text| pem::certificates(&text).map_err(io::Error::other));
        let mut roots = RootCertStore::empty();
        for root in certificates.map_err(FetchError::Roots)? {
            // Bundles of a system hold some that no verifier takes.
            roots.add_parsable_certificates([root]);
        }
        client_tls(roots, b"http/1.1").map_err(FetchError::Provider)
    }
}

async fn get(url: &Url, link: impl AsyncRead + AsyncWrite + Unpin) -> Result<Bytes, FetchError> {
    let (mut requests, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS.0)
        .max_header_size(MAX_HEADERS.1)
        .handshake(TokioIo::new(link))
        .await?;
    let request = Request::get(&url.target)
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| NoUrl)?;
    let mut exchange = pin!(async { read(requests.send_request(request).await?).await });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // How it ended shows in the exchange.
        _ = &mut connection => exchange.await,
    }
}

/// The body of an answer that needs nothing further: a redirect is none, for where it led the policy's
/// author would not have had a say.
async fn read(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    let status = response.status();
    if status != StatusCode::OK {
        return Err(FetchError::Status { status });
    }
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(FetchError::Encoded);
    }
    match Limited::new(response.into_body(), MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http(*error),
            Err(_) => FetchError::TooLarge,
        }),
    }
}

/// Where the issuer says that its keys are. The document has to be its own (OpenID Connect Discovery
/// §4.3).
fn discovered(document: &[u8], issuer: &str) -> Result<Url, FetchError> {
    let document = Json::parse(document)?;
    let field = |name| document.as_object()?.get(name)?.as_text();
    if field("issuer") != Some(issuer) {
        return Err(FetchError::Issuer);
    }
    Ok(field("jwks_uri").ok_or(FetchError::NoAddress)?.parse()?)
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Url(#[from] NoUrl),
    #[error("no connection: {0}")]
    Dial(#[source] io::Error),
    #[error("the address is this machine's or its link's, which `external.keys.allowed` does not have")]
    NotCallable,
    #[error("an address of https takes `external.keys.roots`")]
    NoRoots,
    #[error("external.keys.roots: {0}")]
    Roots(#[source] io::Error),
    #[error("tls: {0}")]
    Provider(#[source] rustls::Error),
    #[error("the tls handshake failed: {0}")]
    Handshake(#[source] io::Error),
    #[error("the exchange failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has status {status}")]
    Status { status: StatusCode },
    #[error("the answer has a content encoding")]
    Encoded,
    #[error("the answer has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("no answer within {after:?}")]
    Deadline { after: Duration },
    #[error("the issuer's document: {0}")]
    Document(#[from] JsonError),
    #[error("the issuer's document is another issuer's")]
    Issuer,
    #[error("the issuer's document does not say where its keys are")]
    NoAddress,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}
