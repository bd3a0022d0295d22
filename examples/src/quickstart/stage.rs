//! Everything that runs.

use std::net::IpAddr;

use hyper::Method;
use mesh_identity::provider;
use rustls::crypto::hash::Hash;
use tokio::time::Instant;

use super::client::{Connection, Origin, Refusal};
use super::cluster::{Block, Cluster, Mediated, NODE_1, NODE_2, address};
use super::evidence::{Attempt, Evidence};
use super::objects::{self, Pod};
use super::services::{Service, Transfers, sha256};
use super::undeclared::Undeclared;
use super::web::{self, Heard, Web};

/// The namespace that is enrolled, and the one that never is.
pub(super) const SHOP: &str = "shop";
const OLD: &str = "old";

/// Ports of services: an echo, bulk data, and one behind which nobody listens.
pub(super) const ECHO: u16 = 80;
pub(super) const BULK: u16 = 90;
pub(super) const CLOSED: u16 = 99;

/// A workload that speaks or is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    Web,
    Cart,
    Spy,
    Till,
    Stock,
    /// Outside of the mesh.
    Legacy,
}

use Workload::{Cart, Legacy, Spy, Stock, Till};

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Cart => "cart",
            Spy => "spy",
            Till => "till",
            Stock => "stock",
            Legacy => "legacy",
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Legacy => OLD,
            _ => SHOP,
        }
    }

    pub(super) fn node(self) -> &'static str {
        match self {
            Self::Web | Cart | Spy => NODE_1.0,
            Till | Stock => NODE_2.0,
            Legacy => "node-0",
        }
    }

    pub(super) fn identity(self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace(), self.name())
    }

    /// The name of its service.
    pub(super) fn hostname(self) -> String {
        format!("{}.{}.svc.cluster.local", self.name(), self.namespace())
    }

    pub(super) fn ip(self, block: Block) -> IpAddr {
        block.ip(match self {
            Self::Web => 1,
            Cart => 2,
            Spy => 3,
            Till => 11,
            Stock => 12,
            Legacy => 21,
        })
    }
}

/// The mesh and its applications.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) block: Block,
    pub(super) hash: &'static dyn Hash,
    pub(super) transfers: Transfers,
    /// The replica of ratings that works.
    pub(super) ratings: Web,
    _reviews: [Web; 2],
    _services: Vec<Service>,
}

impl Stage {
    /// To be called by the thread that lives longest.
    pub(super) async fn build() -> Result<Self, Undeclared> {
        let block = Block::choose();
        let hash = sha256(&provider::aws_lc_rs()).ok_or(Undeclared::NoHash)?;
        let till = Service::echo(Till.ip(block)).await?;
        let (bulk, transfers) = Service::bulk(Till.ip(block), hash).await?;
        let stock = Service::echo(Stock.ip(block)).await?;
        let cart = Service::echo(Cart.ip(block)).await?;
        let legacy = Service::echo(Legacy.ip(block)).await?;
        let closed = std::net::TcpListener::bind((Till.ip(block), 0))?.local_addr()?;
        let pod = |workload: Workload, number: u8, ports: &[(u16, u16)]| Pod {
            name: workload.name(),
            namespace: workload.namespace(),
            node: workload.node(),
            ip: workload.ip(block),
            service: (!ports.is_empty()).then(|| (block.ip(number), ports.to_vec())),
        };
        let of_till = [
            (ECHO, till.addr.port()),
            (BULK, bulk.addr.port()),
            (CLOSED, closed.port()),
        ];
        let pods = [
            pod(Workload::Web, 0, &[]),
            pod(Cart, 102, &[(ECHO, cart.addr.port())]),
            pod(Spy, 0, &[]),
            pod(Till, 111, &of_till),
            pod(Stock, 112, &[(ECHO, stock.addr.port())]),
            pod(Legacy, 121, &[(ECHO, legacy.addr.port())]),
        ];
        let at = |number: u8| block.ip(number);
        let reviews = [Web::open(at(31), "v1").await?, Web::open(at(32), "v2").await?];
        let ratings = Web::open(at(33), "ratings").await?;
        // Nobody listens there.
        let broken = std::net::SocketAddr::new(at(34), closed.port());
        let [v1, v2] = reviews.each_ref().map(|web| web.addr);
        let service = |name: &str, number, pods: &[_]| objects::waypoint::service(name, at(number), NODE_2.0, pods);
        let services = [
            service("reviews-v1", 131, &[("reviews-v1", v1)]),
            service("reviews-v2", 132, &[("reviews-v2", v2)]),
            service("ratings", 133, &[("ratings-1", ratings.addr), ("ratings-2", broken)]),
            service("reviews", 134, &[]),
        ];
        let mediated = Mediated {
            waypoint: (at(41), at(141)),
            ips: [31, 32, 33, 34].map(at).to_vec(),
            services: services.concat(),
        };
        Ok(Self {
            cluster: Cluster::start(&pods, stock.addr, &mediated).await?,
            ratings,
            _reviews: reviews,
            block,
            hash,
            transfers,
            _services: vec![till, bulk, stock, cart, legacy],
        })
    }

    /// Connects a workload to a service by way of its node's proxy.
    pub(super) async fn connect(&self, from: Workload, to: Workload, port: u16) -> Result<Connection, Undeclared> {
        let connected = self.try_connect(from, to, port).await?;
        connected.map_err(|refusal| Undeclared::Refused(refusal.text()))
    }

    pub(super) async fn try_connect(
        &self,
        from: Workload,
        to: Workload,
        port: u16,
    ) -> Result<Result<Connection, Refusal>, Undeclared> {
        let proxy = address(&self.cluster.node_1, "socks5")?;
        Connection::by_proxy(proxy, from.ip(self.block), (&to.hostname(), port)).await
    }

    /// Connects, says something, and ends the connection; answers with what the nodes make of it.
    pub(super) async fn ask(&self, from: Workload, to: Workload, port: u16) -> Result<Evidence, Undeclared> {
        let mut attempt = self.attempt(from, to);
        match self.try_connect(from, to, port).await? {
            Ok(mut connection) => {
                connection.echo().await?;
                attempt.took(connection.local, None);
                connection.finish().await?;
            }
            Err(refusal) => attempt.took(refusal.local, Some(refusal.text())),
        }
        attempt.evidence(self).await
    }

    /// Asks a service behind the waypoint, as web.
    pub(super) async fn request(
        &self,
        service: &str,
        method: Method,
        header: Option<(&str, &str)>,
    ) -> Result<Heard, Undeclared> {
        let host = format!("{service}.{SHOP}.svc.cluster.local");
        let proxy = address(&self.cluster.node_1, "socks5")?;
        let connected = Connection::by_proxy(proxy, Workload::Web.ip(self.block), (&host, ECHO)).await?;
        let connection = connected.map_err(|refusal| Undeclared::Refused(refusal.text()))?;
        web::ask(connection, method, &host, header).await
    }

    /// Connects past all proxies to where node 2 takes connections without a tunnel.
    pub(super) async fn ask_directly(&self, from: Workload) -> Result<Evidence, Undeclared> {
        let mut attempt = self.attempt(from, Stock);
        let (origin, node_2) = (
            Origin::at(from.ip(self.block))?,
            address(&self.cluster.node_2, "plaintext")?,
        );
        let local = origin.local;
        let spoken = async {
            let mut connection = origin.connect(node_2).await?;
            connection.echo().await?;
            Ok(connection)
        };
        match spoken.await {
            Ok(connection) => {
                attempt.took(local, None);
                connection.finish().await?;
            }
            Err(Undeclared::System(_)) => attempt.took(local, Some("connection reset")),
            Err(other) => return Err(other),
        }
        attempt.evidence_of_plaintext(self).await
    }

    pub(super) fn attempt(&self, from: Workload, to: Workload) -> Attempt {
        let logs = [&self.cluster.node_1, &self.cluster.node_2].map(|node| node.log.count());
        Attempt::new(from, to, Instant::now(), logs)
    }

    /// Ends all processes.
    pub(super) async fn stop(self) {
        self.cluster.stop().await;
    }
}
