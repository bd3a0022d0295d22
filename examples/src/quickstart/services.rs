//! The applications: an echo, and one that exchanges bulk data.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustls::crypto::CryptoProvider;
use rustls::crypto::hash::Hash;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::patience::soon;
use super::undeclared::Undeclared;

/// Bytes of a bulk transfer, each way.
pub(super) const BULK: u64 = 32 * 1024 * 1024;

/// Bytes of one write.
const CHUNK: usize = 64 * 1024;

/// An application, until dropped.
pub(super) struct Service {
    pub(super) addr: SocketAddr,
    _tasks: JoinSet<io::Result<()>>,
}

impl Service {
    /// Says what it hears.
    pub(super) async fn echo(ip: IpAddr) -> io::Result<Self> {
        Self::start(ip, async |mut tcp: TcpStream| {
            let (mut read, mut write) = tcp.split();
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        })
        .await
    }

    /// Exchanges bulk data, and tells how that went.
    pub(super) async fn bulk(ip: IpAddr, hash: &'static dyn Hash) -> io::Result<(Self, Transfers)> {
        let (tell, told) = mpsc::channel(1);
        let service = Self::start(ip, move |tcp| {
            let tell = tell.clone();
            async move {
                let transfer = exchange(tcp, Seed::Service, hash).await?;
                // Nobody may ask any more.
                drop(tell.try_send(transfer));
                Ok(())
            }
        })
        .await?;
        Ok((service, Transfers(told)))
    }

    async fn start<Fut>(ip: IpAddr, serve: impl Fn(TcpStream) -> Fut + Send + 'static) -> io::Result<Self>
    where
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((ip, 0)).await?;
        let addr = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await?;
                tcp.set_nodelay(true)?;
                connections.spawn(serve(tcp));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, _tasks: tasks })
    }
}

/// What a bulk service made of each transfer.
pub(super) struct Transfers(mpsc::Receiver<Transfer>);

impl Transfers {
    pub(super) async fn next(&mut self) -> Result<Transfer, Undeclared> {
        let transfer = soon("the service's side of a transfer", self.0.recv()).await?;
        transfer.ok_or(Undeclared::Late("the service's side of a transfer"))
    }
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
pub(super) fn fill(chunk: &mut [u8], state: &mut u64) {
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
