//! One fetch of a bundle.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tokio_rustls::TlsConnector;

use super::{
    record::StaleBundle,
    url::{EndpointUrl, EndpointUrlError},
};
use crate::{
    bundle::document::{DocumentError, MAX_DOCUMENT_BYTES},
    dial::Dialer,
    tls::HandshakeError,
    trust_domain::TrustDomain,
};

/// The most redirects that are followed in one fetch.
const MAX_REDIRECTS: usize = 3;
/// The most header fields of a response, and the most bytes of them.
const MAX_HEADERS: (usize, usize) = (64, 16 * 1024);

/// Fetches the text at `url`, or where that leads to. Every server on the way has to satisfy the
/// same `tls` (SPIFFE Federation §5.2.3), and where it led is forgotten.
pub(super) async fn fetch(
    url: &EndpointUrl,
    tls: ClientConfig,
    dialer: &Dialer,
    deadline: Duration,
) -> Result<Bytes, FetchError> {
    let connector = TlsConnector::from(Arc::new(tls));
    match tokio::time::timeout(deadline, follow(url, &connector, dialer)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(FetchError::Deadline { deadline }),
    }
}

async fn follow(url: &EndpointUrl, connector: &TlsConnector, dialer: &Dialer) -> Result<Bytes, FetchError> {
    let mut url = url.clone();
    for _ in 0..=MAX_REDIRECTS {
        match get(&url, connector, dialer).await? {
            Answer::Text(text) => return Ok(text),
            Answer::Elsewhere(next) => url = next,
        }
    }
    Err(FetchError::TooManyRedirects)
}

enum Answer {
    Text(Bytes),
    Elsewhere(EndpointUrl),
}

async fn get(url: &EndpointUrl, connector: &TlsConnector, dialer: &Dialer) -> Result<Answer, FetchError> {
    let name = url.server_name().map_err(FetchError::Redirect)?;
    let link = dialer
        .dial(url.host(), url.port())
        .await
        .map_err(|error| FetchError::Dial(error.kind()))?;
    let stream = connector
        .connect(name, link)
        .await
        .map_err(|error| FetchError::Handshake(HandshakeError::from_io(&error)))?;
    let (mut requests, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS.0)
        .max_header_size(MAX_HEADERS.1)
        .handshake(TokioIo::new(stream))
        .await?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(url.target())
        .header(header::HOST, url.authority())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Redirect(EndpointUrlError::Malformed))?;
    let mut exchange = pin!(async { read(url, requests.send_request(request).await?).await });
    let mut connection = pin!(connection);
    let mut connected = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            // How it ended shows in the exchange.
            _ = &mut connection, if connected => connected = false,
        }
    }
}

async fn read(url: &EndpointUrl, response: Response<Incoming>) -> Result<Answer, FetchError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => return Ok(Answer::Elsewhere(location(url, response.headers())?)),
        status => {
            return Err(FetchError::Status {
                status: status.as_u16(),
            });
        }
    }
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(FetchError::Encoded);
    }
    let declared = response.body().size_hint().lower();
    if usize::try_from(declared).map_or(true, |bytes| bytes > MAX_DOCUMENT_BYTES) {
        return Err(FetchError::TooLarge);
    }
    match Limited::new(response.into_body(), MAX_DOCUMENT_BYTES).collect().await {
        Ok(body) => Ok(Answer::Text(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => FetchError::Http(*error),
            Err(_) => FetchError::TooLarge,
        }),
    }
}

fn location(url: &EndpointUrl, headers: &HeaderMap) -> Result<EndpointUrl, FetchError> {
    let location = headers
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .ok_or(FetchError::Redirect(EndpointUrlError::Malformed))?;
    url.redirect(location).map_err(FetchError::Redirect)
}

/// Why there is no newer bundle of a trust domain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is no bundle to verify the endpoint with: none was configured or stored, and none of
    /// the endpoint's own trust domain was fetched.
    #[error("there is no bundle of trust domain `{trust_domain}` to verify the endpoint with")]
    NoBundle {
        /// The endpoint's trust domain.
        trust_domain: TrustDomain,
    },
    /// The crypto provider cannot be used for TLS 1.3.
    #[error("the crypto provider is not usable: {0}")]
    Provider(#[source] rustls::Error),
    /// No connection was made.
    #[error("no connection to the endpoint: {0}")]
    Dial(io::ErrorKind),
    /// The TLS handshake failed: the endpoint is not the one that is expected, say.
    #[error("the TLS handshake with the endpoint failed: {0}")]
    Handshake(#[source] HandshakeError),
    /// The endpoint does not speak HTTP, or the connection failed meanwhile.
    #[error("the exchange with the endpoint failed: {0}")]
    Http(#[from] hyper::Error),
    /// The response has another status than 200.
    #[error("the endpoint answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// A redirect leads where no bundle endpoint may be.
    #[error("the endpoint redirects: {0}")]
    Redirect(#[source] EndpointUrlError),
    /// One redirect led to another too often.
    #[error("the endpoint redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    /// The response is encoded, which was not asked for.
    #[error("the response has a content encoding")]
    Encoded,
    /// The response is larger than [`MAX_DOCUMENT_BYTES`].
    #[error("the bundle has more than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// The fetch took too long.
    #[error("the endpoint did not answer within {deadline:?}")]
    Deadline {
        /// The time that a fetch may take.
        deadline: Duration,
    },
    /// The response is no bundle.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The bundle is older than the one that is held.
    #[error(transparent)]
    Stale(#[from] StaleBundle),
    /// The bundle is in use, but was not saved, or the one that had been saved cannot be read.
    #[error("the bundle store failed: {0}")]
    Store(#[source] io::Error),
    /// What the store held is no bundle.
    #[error("the bundle store holds no bundle: {0}")]
    Stored(#[source] DocumentError),
}
