//! One exchange over HTTP with an admin address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, http};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{error::Elapsed, timeout};

/// Time for a whole exchange.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer: the state of some ten thousand workloads.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// What an admin address answers to GET.
pub(crate) async fn get(admin: SocketAddr, path: &str) -> Result<String, ScrapeError> {
    timeout(TIMEOUT, exchange(admin, Method::GET, path)).await?
}

/// What an admin address answers to POST.
pub(crate) async fn post(admin: SocketAddr, path: &str) -> Result<String, ScrapeError> {
    timeout(TIMEOUT, exchange(admin, Method::POST, path)).await?
}

async fn exchange(admin: SocketAddr, method: Method, path: &str) -> Result<String, ScrapeError> {
    let tcp = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, admin.to_string());
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    let collected = Limited::new(response.into_body(), MAX_BODY).collect().await;
    let body = collected.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => ScrapeError::Http(*error),
        Err(other) if other.is::<LengthLimitError>() => ScrapeError::Long,
        Err(_) => ScrapeError::Connect(io::ErrorKind::Other.into()),
    })?;
    let text = String::from_utf8(body.to_bytes().to_vec()).map_err(|_| ScrapeError::Text)?;
    match status {
        StatusCode::OK => Ok(text),
        status => Err(ScrapeError::Status(status)),
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Timeout(#[from] Elapsed),
    #[error("answered with status {0}")]
    Status(StatusCode),
    #[error("an answer of more than {MAX_BODY} bytes")]
    Long,
    #[error("an answer that is no text")]
    Text,
}
