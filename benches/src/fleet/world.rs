//! The workloads: where they are, who they are, and whom they call.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::pki::{Pki, TRUST_DOMAIN};

/// The nodes that workloads are on.
pub const NODES: [&str; 2] = ["node-1", "node-2"];

/// The port of every service, and that of the applications behind it.
pub const SERVICE_PORT: u16 = 80;
/// See [`SERVICE_PORT`].
pub const APP_PORT: u16 = 8080;

/// The most workloads that there are addresses for.
pub const MOST: u16 = 250;

/// Workloads, with their certificates in a folder that goes with them.
#[derive(Debug)]
pub struct World {
    pki: Pki,
    block: u8,
    workloads: Vec<Workload>,
}

/// A workload, and the service of which it is all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    number: u16,
    /// Where its application listens, and connects from.
    pub ip: IpAddr,
    /// The address of its service, where nobody listens.
    pub vip: IpAddr,
}

impl Workload {
    /// The name of the workload, of its account and of its service.
    pub fn name(self) -> String {
        format!("app-{}", self.number)
    }

    /// The host name of its service.
    pub fn hostname(self) -> String {
        format!("{}.bench.svc.cluster.local", self.name())
    }

    /// Its identity.
    pub fn identity(self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/bench/sa/{}", self.name())
    }

    /// The node that it is on.
    pub fn node(self) -> &'static str {
        NODES[usize::from(self.number) % NODES.len()]
    }

    /// Where its application listens.
    pub fn app(self) -> SocketAddr {
        (self.ip, APP_PORT).into()
    }
}

impl World {
    /// Gives `count` workloads addresses, and issues their certificates into `folder`.
    pub fn create(folder: &Path, count: u16) -> io::Result<Self> {
        if !usize::from(count).is_multiple_of(NODES.len()) {
            return Err(io::Error::other("an odd number of workloads"));
        }
        let [low, high, ..] = std::process::id().to_le_bytes();
        // Of addresses that no other benchmark on this machine is likely to have.
        let block = low ^ high;
        let ip = |part: u8, number: u16| -> io::Result<IpAddr> {
            let last = u8::try_from(number + 1).map_err(io::Error::other)?;
            Ok([127, 100 + part, block, last].into())
        };
        let workloads: Vec<_> = (0..count)
            .map(|number| {
                Ok(Workload {
                    number,
                    ip: ip(0, number)?,
                    vip: ip(1, number)?,
                })
            })
            .collect::<io::Result<_>>()?;
        let identities = workloads
            .iter()
            .map(|workload: &Workload| (workload.name(), workload.identity()));
        Ok(Self {
            pki: Pki::issue(folder, identities)?,
            block,
            workloads,
        })
    }

    /// All workloads.
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// The workloads whose services a workload calls: the next ones on the other node.
    pub fn called_by(&self, workload: Workload, calls: usize) -> impl Iterator<Item = Workload> {
        let others = self.workloads.iter().cycle().skip(usize::from(workload.number) + 1);
        others.step_by(NODES.len()).take(calls).copied()
    }

    /// Whether an address is one of this world's.
    pub fn has(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => matches!(ip.octets(), [127, 100, block, _] if block == self.block),
            IpAddr::V6(_) => false,
        }
    }

    /// The certificate chain of a workload.
    pub fn cert(&self, workload: Workload) -> PathBuf {
        self.pki.cert(&workload.name())
    }

    /// The key of a workload.
    pub fn key(&self, workload: Workload) -> PathBuf {
        self.pki.key(&workload.name())
    }

    /// The trust anchors.
    pub fn roots(&self) -> PathBuf {
        self.pki.roots()
    }

    /// Writes a file beside the certificates.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        self.pki.write(name, text)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Files in the system's temporary folder that nobody reads any more.
        drop(fs::remove_dir_all(self.pki.folder()));
    }
}
