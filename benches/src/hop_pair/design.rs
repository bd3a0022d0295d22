//! The hop pairs that are compared.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::pki::{CLIENT, Pki, SERVER};
use crate::process::{Process, free_addr};

/// A kind of hop pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Design {
    /// Two plain TCP relays: what the copies and sockets alone cost.
    Tcp,
    /// Two TLS relays, a TLS connection for each TCP connection: the baseline.
    Tls,
    /// Two `hbone-cat`, with frames of 16 KiB as Envoy and Go peers take them.
    #[value(name = "hbone-16k")]
    Hbone16k,
    /// Two `hbone-cat` with their own frame size.
    Hbone,
}

impl Design {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Hbone16k => "hbone-16k",
            Self::Hbone => "hbone",
        }
    }
}

/// Two relay processes in a row.
pub struct HopPair {
    entry: SocketAddr,
    processes: [Process; 2],
}

impl HopPair {
    /// Starts the pair in front of `app`.
    pub async fn start(design: Design, app: SocketAddr, pki: &Pki, hbone_cat: &Path) -> io::Result<Self> {
        let (entry, middle) = (free_addr()?, free_addr()?);
        let this = std::env::current_exe()?;
        let processes = match design {
            Design::Tcp => [
                Process::start(&this, relay("tcp", middle, app, pki), middle).await?,
                Process::start(&this, relay("tcp", entry, middle, pki), entry).await?,
            ],
            Design::Tls => [
                Process::start(&this, relay("tls-serve", middle, app, pki), middle).await?,
                Process::start(&this, relay("tls-dial", entry, middle, pki), entry).await?,
            ],
            Design::Hbone16k | Design::Hbone => {
                let frame = if design == Design::Hbone16k { "16384" } else { "65536" };
                [
                    Process::start(hbone_cat, serve(middle, app, pki, frame), middle).await?,
                    Process::start(hbone_cat, dial(entry, middle, app, pki, frame), entry).await?,
                ]
            }
        };
        Ok(Self { entry, processes })
    }

    /// Where applications connect.
    pub fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// CPU time of both processes so far.
    pub fn cpu(&self) -> io::Result<Duration> {
        self.processes.iter().map(Process::cpu).sum()
    }

    /// Resident memory of both processes in bytes.
    pub fn resident(&self) -> io::Result<u64> {
        self.processes.iter().map(Process::resident).sum()
    }
}

fn relay(kind: &str, bind: SocketAddr, to: SocketAddr, pki: &Pki) -> Vec<OsString> {
    let mut args = words(&[
        "relay",
        "--kind",
        kind,
        "--bind",
        &bind.to_string(),
        "--to",
        &to.to_string(),
        "--pki",
    ]);
    args.push(pki.folder().into());
    args
}

fn serve(bind: SocketAddr, to: SocketAddr, pki: &Pki, frame: &str) -> Vec<OsString> {
    let mut args = words(&[
        "serve",
        "--bind",
        &bind.to_string(),
        "--forward",
        &to.to_string(),
        "--allow",
        CLIENT,
    ]);
    args.extend(words(&["--max-frame-size", frame]));
    args.extend(certificates(pki, "server"));
    args
}

fn dial(listen: SocketAddr, peer: SocketAddr, target: SocketAddr, pki: &Pki, frame: &str) -> Vec<OsString> {
    let mut args = words(&["dial", "--listen", &listen.to_string(), "--peer", &peer.to_string()]);
    args.extend(words(&["--target", &target.to_string(), "--expect", SERVER]));
    args.extend(words(&["--max-frame-size", frame]));
    args.extend(certificates(pki, "client"));
    args
}

fn certificates(pki: &Pki, name: &str) -> Vec<OsString> {
    vec![
        "--cert".into(),
        pki.cert(name).into(),
        "--key".into(),
        pki.key(name).into(),
        "--roots".into(),
        pki.roots().into(),
    ]
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
