//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};
use hbone::{Authority, Config};
use mesh_identity::source::workload_api::{Endpoint, EndpointError};
use mesh_identity::{PeerPattern, SpiffeId, TrustDomain, TrustDomainError};

/// Netcat for HBONE: TCP through HTTP/2 CONNECT over mutual TLS.
///
/// Prints one line on stderr when it is ready, one for each failure, and one whenever the
/// certificate has been renewed, by an agent or in its file; RUST_LOG=info shows more.
/// Exit code 0: all went in order. 1: a tunnel was refused or aborted. 2: a flag, file or
/// certificate is bad.
#[derive(Debug, Parser)]
#[command(name = "hbone-cat", version, subcommand_required = true, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Accept tunnels and connect each to the destination that it asks for.
    ///
    /// Whoever is allowed in reaches every address that this host reaches, unless --forward names
    /// the only one.
    Serve(Serve),
    /// Open a tunnel for stdin and stdout, or one for each connection to --listen.
    ///
    /// The end of stdin ends this side of the tunnel only; what the destination still sends goes to
    /// stdout, and the end of that closes stdout. A tunnel that is aborted is exit code 1.
    Dial(Dial),
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Address to accept tunnels on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub(super) bind: SocketAddr,
    /// Peers to accept: a SPIFFE ID, or a prefix such as `spiffe://cluster.local/ns/shop/*`
    /// (repeatable).
    #[arg(long, value_name = "PATTERN", required = true)]
    pub(super) allow: Vec<PeerPattern>,
    /// Which tunnels to open for those peers: a file with AuthorizationPolicy of Istio's, YAML
    /// (repeatable). All of them apply, of whatever namespace. Destination and port are those that
    /// tunnels are connected to: with --forward, its. A change closes the tunnels that are not
    /// admitted any more; a file with a mistake changes nothing.
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Vec<PathBuf>,
    /// Connect every tunnel to this address, whatever it asks for.
    #[arg(long, value_name = "ADDR")]
    pub(super) forward: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) identity: Identity,
    #[command(flatten)]
    pub(super) process: Process,
}

#[derive(Debug, clap::Args)]
pub(super) struct Dial {
    /// HBONE server to open tunnels at.
    #[arg(long, value_name = "ADDR")]
    pub(super) peer: SocketAddr,
    /// Destination to ask the server for: an IP address or a host name, with a port.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) target: Authority,
    /// Who the server has to be.
    #[arg(long, value_name = "SPIFFE_ID")]
    pub(super) expect: SpiffeId,
    /// Address to accept connections on, each for a tunnel of its own; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) identity: Identity,
    #[command(flatten)]
    pub(super) process: Process,
}

/// Who this side is, and whom it believes: from files, or from an agent.
#[derive(Debug, clap::Args)]
pub(super) struct Identity {
    #[command(flatten)]
    pub(super) files: Option<Files>,
    /// SPIFFE Workload API to take certificate, key and roots from, and their changes: a socket's
    /// path, or a URI such as `unix:///run/spire/agent.sock`.
    #[arg(long, value_name = "SOCKET", conflicts_with = "Files")]
    pub(super) workload_api: Option<Socket>,
}

/// An identity in files, which are read again when they change.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// Own certificate chain, PEM, the leaf first. It has to lead to the --roots of its trust domain.
    #[arg(
        long,
        value_name = "FILE",
        required = false,
        required_unless_present = "workload_api"
    )]
    pub(super) cert: PathBuf,
    /// Private key of the certificate, PEM: PKCS#8, PKCS#1 or SEC1.
    #[arg(
        long,
        value_name = "FILE",
        required = false,
        required_unless_present = "workload_api"
    )]
    pub(super) key: PathBuf,
    /// Root certificates of the own trust domain, PEM; `TRUST_DOMAIN=FILE` for another one
    /// (repeatable).
    #[arg(long, value_name = "FILE", required_unless_present = "workload_api")]
    pub(super) roots: Vec<Roots>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Process {
    /// Worker threads, each with a listener and connections of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) threads: u16,
    /// Largest HTTP/2 frame that the peer may send, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(16_384..=1_048_576))]
    max_frame_size: u32,
    /// Print the ready line as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Process {
    pub(super) fn config(&self) -> Config {
        let mut config = Config::default();
        config.set_max_frame_size(self.max_frame_size);
        config
    }
}

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket(pub(super) Endpoint);

impl FromStr for Socket {
    type Err = EndpointError;

    /// A path whose first part ends in a `:` is written with a `/` before it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_uri = text.split('/').next().is_some_and(|first| first.contains(':'));
        let endpoint = if is_uri { text.parse() } else { Endpoint::unix(text) };
        endpoint.map(Self)
    }
}

/// A file with the roots of a trust domain, the own one if none is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    pub(super) trust_domain: Option<TrustDomain>,
    pub(super) file: PathBuf,
}

impl FromStr for Roots {
    type Err = TrustDomainError;

    /// A file whose own path has a `=` is written with a `/` before it, as in `./a=b`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split_once('=').filter(|(name, _)| !name.contains('/'));
        Ok(match named {
            Some((name, file)) => Self {
                trust_domain: Some(name.parse()?),
                file: file.into(),
            },
            None => Self {
                trust_domain: None,
                file: text.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_socket_is_a_path_or_a_uri() {
        for (text, place) in [
            ("/run/a.sock", "/run/a.sock"),
            ("a.sock", "a.sock"),
            ("./a:b", "./a:b"),
            ("unix:/run/a.sock", "/run/a.sock"),
            ("unix:///run/a.sock", "/run/a.sock"),
            ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
        ] {
            assert_eq!(text.parse::<Socket>().unwrap().0.to_string(), place);
        }
        for text in ["", "unix:a.sock", "http://127.0.0.1:80"] {
            assert!(text.parse::<Socket>().is_err(), "{text}");
        }
    }

    #[test]
    fn roots_may_name_a_trust_domain() {
        let named: Roots = "other.example=/etc/roots.pem".parse().unwrap();
        assert_eq!(named.trust_domain, Some("other.example".parse().unwrap()));
        assert_eq!(named.file, PathBuf::from("/etc/roots.pem"));
        for plain in ["roots.pem", "./a=b", "/etc/a=b/roots.pem"] {
            let roots: Roots = plain.parse().unwrap();
            assert_eq!((roots.trust_domain, roots.file), (None, PathBuf::from(plain)));
        }
        assert!("Other.Example=roots.pem".parse::<Roots>().is_err());
    }
}
