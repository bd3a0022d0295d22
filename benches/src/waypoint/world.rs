//! The services of a waypoint, who is who, and where.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::pki::{CLIENT, Pki, SERVER, TRUST_DOMAIN};

/// The waypoint's identity, whose certificate is called `waypoint`.
pub const WAYPOINT: &str = "spiffe://bench.test/ns/bench/sa/waypoint";

/// Where tunnels are taken.
pub const HBONE_PORT: u16 = 15008;

/// The port of every service, and that of the applications behind it.
pub const SERVICE_PORT: u16 = 80;
/// See [`SERVICE_PORT`].
pub const APP_PORT: u16 = 8080;

/// A service with one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    number: u16,
    /// Its address, where nobody listens.
    pub vip: IpAddr,
    /// The address of its endpoint.
    pub endpoint: IpAddr,
}

impl Service {
    /// Its name.
    pub fn name(self) -> String {
        format!("service-{}", self.number)
    }

    /// Its host name.
    pub fn hostname(self) -> String {
        format!("{}.bench.svc.cluster.local", self.name())
    }
}

/// Certificates, and addresses on loopback.
#[derive(Debug)]
pub struct World {
    /// The certificates of `client`, `waypoint` and `server`, the endpoint.
    pub pki: Pki,
    block: u8,
}

impl World {
    /// Issues certificates into `folder`.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let identities = [("client", CLIENT), ("waypoint", WAYPOINT), ("server", SERVER)];
        let [low, high, ..] = std::process::id().to_le_bytes();
        Ok(Self {
            pki: Pki::issue(folder, identities)?,
            block: low ^ high,
        })
    }

    /// Where the waypoint takes tunnels.
    pub fn waypoint(&self) -> SocketAddr {
        (self.ip(2), HBONE_PORT).into()
    }

    /// Where the endpoint of the first service takes tunnels. The others have none.
    pub fn endpoint(&self) -> SocketAddr {
        (self.ip(3), HBONE_PORT).into()
    }

    /// The first so many services.
    pub fn services(&self, count: u16) -> impl Iterator<Item = Service> {
        (0..count).map(|number| {
            let [high, low] = number.to_be_bytes();
            Service {
                number,
                vip: [10, 200, high, low].into(),
                endpoint: match number {
                    0 => self.ip(3),
                    _ => [10, 201, high, low].into(),
                },
            }
        })
    }

    /// What the identity of everybody begins with.
    pub fn anybody() -> String {
        format!("spiffe://{TRUST_DOMAIN}/")
    }

    fn ip(&self, number: u8) -> IpAddr {
        [127, 110, self.block, number].into()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Files in the system's temporary folder that nobody reads any more.
        drop(fs::remove_dir_all(self.pki.folder()));
    }
}
