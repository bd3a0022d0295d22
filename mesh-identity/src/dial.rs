use std::{fmt, io, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// How the connections of a source are made: to a host, which is a DNS name or an IP address, and a
/// port. What comes out is the bare connection; TLS is put over it afterwards.
///
/// The default is TCP with the system's name resolution.
#[derive(Clone)]
pub struct Dialer {
    dial: Arc<dyn Fn(String, u16) -> Dialing + Send + Sync>,
}

type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Link>>> + Send>>;

/// A connection of whatever kind.
pub(crate) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

impl Dialer {
    /// Makes connections by `dial`: through a proxy, over a Unix socket, in memory.
    pub fn new<F, D, C>(dial: F) -> Self
    where
        F: Fn(String, u16) -> D + Send + Sync + 'static,
        D: Future<Output = io::Result<C>> + Send + 'static,
        C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self {
            dial: Arc::new(move |host, port| {
                let dialing = dial(host, port);
                Box::pin(async move { Ok(Box::new(dialing.await?) as Box<dyn Link>) })
            }),
        }
    }

    pub(crate) async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Link>> {
        (self.dial)(host.to_owned(), port).await
    }
}

impl Default for Dialer {
    fn default() -> Self {
        Self::new(|host, port| async move { TcpStream::connect((host.as_str(), port)).await })
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}
