//! The baselines: a plain TCP relay, and each end of a TLS relay pair.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mesh_identity::tls::{ClientTls, ServerTls};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::pki::Pki;

/// Bytes of each copy buffer, as large as a relay that is measured on bulk would choose.
const BUFFER: usize = 256 * 1024;

/// What a relay speaks on its two sides.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Kind {
    /// TCP in, TCP out.
    Tcp,
    /// TCP in, TLS out.
    TlsDial,
    /// TLS in, TCP out.
    TlsServe,
}

/// A relay process.
#[derive(Clone, Debug, clap::Args)]
pub struct Relay {
    /// What the relay speaks
    #[arg(long)]
    kind: Kind,
    /// Where it listens
    #[arg(long)]
    bind: SocketAddr,
    /// Where it connects to
    #[arg(long)]
    to: SocketAddr,
    /// Folder with the certificates
    #[arg(long)]
    pki: PathBuf,
}

impl Relay {
    /// Relays until killed.
    pub async fn run(self) -> io::Result<()> {
        let (client, server) = Pki::open(&self.pki).tls()?;
        let listener = TcpListener::bind(self.bind).await?;
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (tcp, _) = accepted?;
                    tasks.spawn(relay(self.kind, tcp, self.to, client.clone(), server.clone()));
                }
                Some(ended) = tasks.join_next() => drop(ended),
            }
        }
    }
}

async fn relay(
    kind: Kind,
    mut near: TcpStream,
    to: SocketAddr,
    client: ClientTls,
    server: ServerTls,
) -> io::Result<()> {
    near.set_nodelay(true)?;
    match kind {
        Kind::Tcp => {
            let mut far = dial(to).await?;
            copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
        }
        Kind::TlsDial => {
            let connector = TlsConnector::from(client.config());
            let mut far = connector.connect(client.server_name(), dial(to).await?).await?;
            copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
        }
        Kind::TlsServe => {
            let mut near = TlsAcceptor::from(server.config()).accept(near).await?;
            let mut far = dial(to).await?;
            copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
        }
    }
    Ok(())
}

async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(to).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
