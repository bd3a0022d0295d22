//! The applications: an HTTP server, and one that exchanges bulk data.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::Hash;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Bytes of a bulk transfer, each way.
pub(super) const BULK: u64 = 32 * 1024 * 1024;

/// Bytes of one write.
const CHUNK: usize = 64 * 1024;

/// Time for the service's side of a transfer to end after the other one.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the HTTP service to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

const EXPECT: &str = "expect: 100-continue";

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const QUESTION: &[u8] = b"hello?\n";

const GREETING: &str = "hello from the other side of the tunnel\n";

/// The services, until dropped.
pub(super) struct Services {
    pub(super) http: SocketAddr,
    pub(super) bulk: SocketAddr,
    transfers: mpsc::Receiver<Transfer>,
    _tasks: JoinSet<io::Result<()>>,
}

impl Services {
    pub(super) async fn start(hash: &'static dyn Hash) -> io::Result<Self> {
        let http = TcpListener::bind("127.0.0.1:0").await?;
        let bulk = TcpListener::bind("127.0.0.1:0").await?;
        let (tell, transfers) = mpsc::channel(1);
        let (http_addr, bulk_addr) = (http.local_addr()?, bulk.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(http, greet));
        tasks.spawn(accept(bulk, move |tcp| {
            let tell = tell.clone();
            async move {
                let transfer = exchange(tcp, Seed::Service, hash).await?;
                // Only the first is reported.
                drop(tell.try_send(transfer));
                Ok(())
            }
        }));
        Ok(Self {
            http: http_addr,
            bulk: bulk_addr,
            transfers,
            _tasks: tasks,
        })
    }

    /// What the bulk service made of its first transfer.
    pub(super) async fn transfer(&mut self) -> Option<Transfer> {
        timeout(TRANSFER_TIMEOUT, self.transfers.recv()).await.ok().flatten()
    }
}

async fn accept<F, Fut>(listener: TcpListener, serve: F) -> io::Result<()>
where
    F: Fn(TcpStream) -> Fut,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        connections.spawn(serve(tcp));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers one HTTP/1.1 request, and asks for its content if that waits to be asked for.
async fn greet(tcp: TcpStream) -> io::Result<()> {
    let mut tcp = BufReader::new(tcp);
    let (mut line, mut waits) = (String::new(), false);
    while tcp.read_line(&mut line).await? > 2 {
        waits |= line.trim_end() == EXPECT;
        line.clear();
    }
    if waits {
        tcp.write_all(CONTINUE).await?;
        tcp.read_exact(&mut [0; QUESTION.len()]).await?;
    }
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{GREETING}",
        GREETING.len()
    );
    tcp.write_all(response.as_bytes()).await?;
    tcp.shutdown().await
}

/// Asks for the greeting; answers with the bytes sent and received if it came.
pub(super) async fn get(addr: SocketAddr) -> io::Result<Option<(u64, u64)>> {
    Request::begin(addr).await?.finish().await
}

/// A request that the service waits for the content of.
pub(super) struct Request {
    tcp: TcpStream,
    sent: usize,
}

impl Request {
    pub(super) async fn begin(addr: SocketAddr) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n{EXPECT}\r\ncontent-length: {}\r\n\r\n",
            QUESTION.len()
        );
        tcp.write_all(head.as_bytes()).await?;
        soon(tcp.read_exact(&mut [0; CONTINUE.len()])).await?;
        Ok(Self { tcp, sent: head.len() })
    }

    /// Sends the content; answers as [`get`].
    pub(super) async fn finish(mut self) -> io::Result<Option<(u64, u64)>> {
        self.tcp.write_all(QUESTION).await?;
        let mut response = String::new();
        soon(self.tcp.read_to_string(&mut response)).await?;
        let (sent, received) = (self.sent + QUESTION.len(), CONTINUE.len() + response.len());
        let greeted = response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(GREETING);
        Ok(greeted.then_some((sent as u64, received as u64)))
    }

    /// Waits until the connection fails.
    pub(super) async fn lost(mut self) -> io::Result<io::ErrorKind> {
        match soon(self.tcp.read(&mut [0])).await {
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Ok(error.kind()),
        }
    }
}

/// What a peer does by and by.
async fn soon<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(REQUEST_TIMEOUT, io).await?
}

/// The hash of a TLS 1.3 cipher suite with SHA-256.
pub(super) fn sha256(provider: &CryptoProvider) -> Option<&'static dyn Hash> {
    let mut suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
    let suite = suites.find(|suite| suite.common.hash_provider.output_len() == 32)?;
    Some(suite.common.hash_provider)
}

/// Whose bulk data it is.
#[derive(Clone, Copy)]
pub(super) enum Seed {
    App = 1,
    Service = 2,
}

/// One side of a bulk transfer: how much went each way, and its checksums.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) sent_sha256: String,
    pub(super) received_sha256: String,
}

/// Sends bulk data and its end, and takes the other side's at the same time.
pub(super) async fn exchange(tcp: TcpStream, seed: Seed, hash: &'static dyn Hash) -> io::Result<Transfer> {
    let (mut read, mut write) = tcp.into_split();
    let send = async {
        let (mut state, mut sent, mut digest) = (seed as u64, 0, hash.start());
        let mut chunk = vec![0; CHUNK];
        while sent < BULK {
            fill(&mut chunk, &mut state);
            digest.update(&chunk);
            write.write_all(&chunk).await?;
            sent += chunk.len() as u64;
        }
        write.shutdown().await?;
        io::Result::Ok((sent, hex(digest.finish().as_ref())))
    };
    let receive = async {
        let (mut received, mut digest) = (0, hash.start());
        let mut chunk = vec![0; CHUNK];
        loop {
            let bytes = read.read(&mut chunk).await?;
            if bytes == 0 {
                return io::Result::Ok((received, hex(digest.finish().as_ref())));
            }
            digest.update(chunk.get(..bytes).unwrap_or_default());
            received += bytes as u64;
        }
    };
    let ((sent, sent_sha256), (received, received_sha256)) = tokio::try_join!(send, receive)?;
    Ok(Transfer {
        sent,
        received,
        sent_sha256,
        received_sha256,
    })
}

/// The next numbers of the SplitMix64 sequence.
fn fill(chunk: &mut [u8], state: &mut u64) {
    for word in chunk.chunks_exact_mut(8) {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
