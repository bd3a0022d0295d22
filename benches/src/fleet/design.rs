//! What is between the applications.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::app::Entry;
use super::nodes::{self, Nodes};
use super::sidecars::{self, Layer, Sidecars};
use super::world::{SERVICE_PORT, Workload, World};
use crate::process::Process;

/// A way to have calls between workloads encrypted and authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Design {
    /// A `node-proxy` for each of the two nodes.
    NodeProxy,
    /// An Envoy for each workload, which carries bytes.
    SidecarTcp,
    /// An Envoy for each workload, which reads HTTP: what Istio does with HTTP by default.
    SidecarHttp,
}

/// The programs, and how they are run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `node-proxy`.
    pub node_proxy: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Worker threads of each Envoy.
    pub concurrency: u16,
}

/// A design that runs.
#[derive(Debug)]
pub enum Running {
    /// See [`Design::NodeProxy`].
    Nodes(Nodes),
    /// See [`Design::SidecarTcp`] and [`Design::SidecarHttp`].
    Sidecars(Sidecars),
}

impl Design {
    /// The column's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NodeProxy => "node-proxy",
            Self::SidecarTcp => "sidecar-tcp",
            Self::SidecarHttp => "sidecar-http",
        }
    }

    /// Starts it for workloads of which each calls so many services.
    pub async fn start(self, world: &World, calls: usize, programs: &Programs) -> io::Result<Running> {
        let sidecars = async |layer| {
            let started = Sidecars::start(world, layer, calls, &programs.envoy, programs.concurrency);
            started.await.map(Running::Sidecars)
        };
        match self {
            Self::NodeProxy => Nodes::start(world, &programs.node_proxy).await.map(Running::Nodes),
            Self::SidecarTcp => sidecars(Layer::Tcp).await,
            Self::SidecarHttp => sidecars(Layer::Http).await,
        }
    }
}

impl Running {
    /// How a workload reaches `called`, the `call`th service that it calls.
    pub fn entry(&self, workload: Workload, call: u16, called: Workload) -> io::Result<Entry> {
        match self {
            Self::Nodes(nodes) => Ok(Entry::Socks5 {
                proxy: nodes.socks5(workload)?,
                target: SocketAddr::new(called.vip, SERVICE_PORT),
            }),
            Self::Sidecars(sidecars) => Ok(Entry::Listener(sidecars.entry(workload, call))),
        }
    }

    /// Where its proxies take TLS from one another.
    pub fn tls_port(&self) -> u16 {
        match self {
            Self::Nodes(_) => nodes::HBONE_PORT,
            Self::Sidecars(_) => sidecars::INBOUND_PORT,
        }
    }

    /// Adds something up over all proxies.
    pub fn sum<T: std::iter::Sum>(&self, of: impl Fn(&Process) -> io::Result<T>) -> io::Result<T> {
        match self {
            Self::Nodes(nodes) => nodes.processes().map(of).sum(),
            Self::Sidecars(sidecars) => sidecars.processes().map(of).sum(),
        }
    }
}
