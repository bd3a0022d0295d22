//! Connections to the authority, each made for one call: calls are hours apart, and a new connection
//! meets the newest root.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, client::Resumption, crypto::CryptoProvider, time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::{
    address::{CaAddress, RootsFrom, Security},
    config::CaConfig,
};
use crate::{
    dial::Link,
    pem::{self, PemError},
    source::files::read_at_most,
};

/// The most tasks that hyper makes in one exchange: the connection's, and for its one request that of
/// the body and that of the answer. Nothing that the authority sends makes one.
const MAX_TASKS: usize = 3;

/// Runs `exchange` over a new connection, which ends with it.
pub(super) async fn exchange<T, E: From<ConnectError>>(
    config: &CaConfig,
    provider: &Arc<CryptoProvider>,
    exchange: impl AsyncFnOnce(Requests) -> Result<T, E>,
) -> Result<T, E> {
    let link = connect(&config.address, config, provider).await?;
    let (tasks, mut new_tasks) = mpsc::channel(MAX_TASKS);
    let (requests, connection) = http2::handshake(Tasks(tasks), TokioIo::new(link))
        .await
        .map_err(ConnectError::Http)?;
    let mut exchange = std::pin::pin!(exchange(Requests(requests)));
    let mut connection = std::pin::pin!(connection);
    let mut running = FuturesUnordered::new();
    let mut connected = true;
    loop {
        tokio::select! {
            biased;
            outcome = &mut exchange => return outcome,
            // What ends a connection shows in the exchange.
            _ = &mut connection, if connected => connected = false,
            Some(task) = new_tasks.recv() => running.push(task),
            Some(()) = running.next() => {}
        }
    }
}

async fn connect(
    address: &CaAddress,
    config: &CaConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Box<dyn Link>, ConnectError> {
    let security = match &address.security {
        Security::Plaintext => None,
        Security::Tls { name, roots } => {
            let tls = client_config(&read(&roots.0)?, provider, &config.clock)?;
            Some((TlsConnector::from(Arc::new(tls)), name.clone()))
        }
    };
    let link = config
        .dialer
        .dial(&address.host, address.port)
        .await
        .map_err(ConnectError::Dial)?;
    match security {
        None => Ok(link),
        Some((connector, name)) => shake_hands(connector, name, link).await,
    }
}

async fn shake_hands(
    connector: TlsConnector,
    name: ServerName<'static>,
    link: Box<dyn Link>,
) -> Result<Box<dyn Link>, ConnectError> {
    match connector.connect(name, link).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => Err(ConnectError::Tls(error.clone())),
            None => Err(ConnectError::Dial(error)),
        },
    }
}

fn client_config(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    clock: &Arc<dyn TimeProvider>,
) -> Result<ClientConfig, ConnectError> {
    let mut store = RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        store
            .add(root.clone())
            .map_err(|_| ConnectError::Root { number: index + 1 })?;
    }
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(clock))
        .with_protocol_versions(&[&TLS13])
        .map_err(ConnectError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn read(roots: &RootsFrom) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    match roots {
        RootsFrom::Text(roots) => Ok(roots.clone()),
        RootsFrom::File(path) => {
            let text = read_at_most(path, pem::MAX_PEM_BYTES).map_err(|error| ConnectError::RootsFile {
                path: path.clone(),
                kind: error.kind(),
            })?;
            pem::certificates(&text).map_err(|fault| ConnectError::RootsPem {
                path: path.clone(),
                fault,
            })
        }
    }
}

/// Where an exchange sends its requests.
#[derive(Clone)]
pub(super) struct Requests(http2::SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Requests {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Task<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What hyper would have spawned runs beside the exchange, and ends with it.
#[derive(Clone)]
struct Tasks(mpsc::Sender<Task<()>>);

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        // Without a receiver the exchange is over, and so is what belonged to it.
        drop(self.0.try_send(Box::pin(task)));
    }
}

/// Why there is no connection to the authority.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The file with the roots of the authority's own certificate cannot be read.
    #[error("{}: {kind}", path.display())]
    RootsFile {
        /// The file.
        path: PathBuf,
        /// What failed.
        kind: io::ErrorKind,
    },
    /// That file holds no certificates.
    #[error("{}: {fault}", path.display())]
    RootsPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: PemError,
    },
    /// One of these roots is no certificate.
    #[error("root {number} of the authority's own certificate is malformed")]
    Root {
        /// Which root, counting from one.
        number: usize,
    },
    /// The connection failed.
    #[error("no connection to the authority: {0}")]
    Dial(#[source] io::Error),
    /// The TLS handshake failed: the authority is not the one that is expected, say.
    #[error("the TLS handshake with the authority failed: {0}")]
    Tls(#[source] rustls::Error),
    /// The authority does not speak HTTP/2.
    #[error("no HTTP/2 connection to the authority: {0}")]
    Http(#[source] hyper::Error),
}
