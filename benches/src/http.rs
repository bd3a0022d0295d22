//! HTTP between callers and applications that say the same to everybody.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

/// What every request is answered with.
static ANSWER: [u8; 1024] = [b'.'; 1024];

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// One request at a time on a connection.
    #[value(name = "1")]
    Http1,
    /// As many as there are.
    #[value(name = "2")]
    Http2,
}

/// Answers the requests on a stream until it ends, in the version that they come in.
pub async fn answer(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let answer = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&ANSWER)))) });
    let http = auto::Builder::new(TokioExecutor::new());
    // Whoever called knows how it went.
    drop(http.serve_connection(TokioIo::new(stream), answer).await);
}

/// Asks for the same again and again.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    request: Request<Empty<Bytes>>,
}

/// A connection, which goes on for as long as it is polled, and why it has ended.
pub type Connection = Pin<Box<dyn Future<Output = io::Error> + Send>>;

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    /// Begins to speak on a stream, with `host`.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        version: Version,
        host: &str,
    ) -> io::Result<(Self, Connection)> {
        let stream = TokioIo::new(stream);
        let lost = |ended: hyper::Result<()>| io::Error::other(format!("connection lost: {ended:?}"));
        let (sender, request, connection): (_, _, Connection) = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
                let request = Request::get("/").header("host", host);
                (
                    Sender::Http1(sender),
                    request,
                    Box::pin(async move { lost(connection.await) }),
                )
            }
            Version::Http2 => {
                let opened = http2::handshake(TokioExecutor::new(), stream).await;
                let (sender, connection) = opened.map_err(io::Error::other)?;
                let request = Request::get(format!("http://{host}/"));
                (
                    Sender::Http2(sender),
                    request,
                    Box::pin(async move { lost(connection.await) }),
                )
            }
        };
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        Ok((Self { sender, request }, connection))
    }

    /// Another one on the same connection, where that carries several requests at a time.
    pub fn beside(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                request: self.request.clone(),
            }),
        }
    }

    /// Asks, and waits for the whole answer.
    pub async fn ask(&mut self) -> io::Result<()> {
        let request = self.request.clone();
        let answer = match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let answer = answer.map_err(io::Error::other)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        if status.is_success() && *body.to_bytes() == ANSWER {
            Ok(())
        } else {
            Err(io::Error::other(format!("the service answered {status}")))
        }
    }
}
