//! SPIRE as the source of the certificates of two nodes' proxies, with several workloads on each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpStream;

use crate::nodes::{Node, World, ask, identity};
use crate::socks;
use crate::spire::{Agent, Server};
use crate::world::{App, Tunnel, eventually, exchange};

/// `cart` and `spy` on the near node, `till` and `bank` on the far one, each node with an agent.
struct Nodes {
    _spire: Server,
    world: World,
    near: Node,
    far: Node,
    _agents: [Agent; 2],
    till: App,
    bank: App,
}

impl Nodes {
    /// With SVIDs that are valid for so many seconds.
    async fn start(seconds: u32) -> Self {
        let spire = Server::start("cluster.local").await;
        let agents = [spire.agent("/near").await, spire.agent("/far").await];
        for (agent, account) in [("/near", "cart"), ("/near", "spy"), ("/far", "till"), ("/far", "bank")] {
            spire.register(agent, &identity(account), seconds, &[]);
        }
        let world = World::new();
        let (till, bank) = (App::echo_at(world.till()).await, App::echo_at(world.ip(4)).await);
        let workload = world.workload("bank", 4, "far", "");
        let mesh = world
            .mesh(till.addr, "")
            .replace("services:\n-", &(workload + "services:\n-"));
        world.write(&mesh);
        let by = |agent: &Agent| format!("[identity]\nworkload_api = \"unix://{}\"\n", agent.socket.display());
        let inbounds = world.inbound(world.till()) + &world.inbound(world.ip(4));
        let far = world.head("far", &[]) + &by(&agents[1]) + &inbounds;
        let far = world.start("far", &far).await;
        let near = world.head("near", &[]) + &by(&agents[0]) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
        let near = world.start("near", &near).await;
        Self {
            _spire: spire,
            world,
            near,
            far,
            _agents: agents,
            till,
            bank,
        }
    }

    /// Connects a workload of the near node, as soon as the agents know both ends.
    async fn connect(&self, from: u8, to: SocketAddr) -> TcpStream {
        let target = (&*to.ip().to_string(), to.port());
        let socks5 = self.near.socks5.unwrap();
        eventually("tunnel", async || {
            socks::connect(socks5, self.world.ip(from), target).await.ok()
        })
        .await
    }

    /// Until when the certificates of both nodes are valid, by their identities.
    async fn certificates(&self) -> BTreeMap<String, u64> {
        let mut ends = BTreeMap::new();
        for node in [&self.near, &self.far] {
            let (status, dump) = ask(node.admin, "GET", "/config_dump").await;
            assert_eq!(status, 200);
            let dump: Value = serde_json::from_str(&dump).unwrap();
            for certificate in dump["certificates"].as_array().unwrap() {
                let identity = certificate["identity"].as_str().unwrap();
                ends.insert(identity.to_owned(), certificate["notAfter"].as_u64().unwrap());
            }
        }
        ends
    }
}

#[tokio::test]
async fn workloads_of_a_node_have_identities_of_their_own() {
    let nodes = Nodes::start(3600).await;
    let (cart, spy) = (1, 3);
    for (from, from_account) in [(cart, "cart"), (spy, "spy")] {
        for (to, to_account) in [(&nodes.till, "till"), (&nodes.bank, "bank")] {
            exchange(nodes.connect(from, to.addr).await, 1, 10_000).await;
            let [source, destination] = [from_account, to_account].map(|account| identity(account).to_string());
            let arrived = |record: &Value| {
                record["src.identity"] == source.as_str() && record["dst.identity"] == destination.as_str()
            };
            nodes.far.tells(to_account, arrived).await;
        }
    }
    let shown: Vec<_> = nodes.certificates().await.into_keys().collect();
    let expected = ["bank", "cart", "spy", "till"].map(|account| identity(account).to_string());
    assert_eq!(shown, expected);
}

/// New certificates are for new connections; a tunnel that is open stays, whatever it began with.
#[tokio::test]
async fn svids_rotate_under_an_open_tunnel() {
    let nodes = Nodes::start(30).await;
    let mut tunnel = Tunnel::on(nodes.connect(1, nodes.till.addr).await).await;
    for rotation in 1..=3 {
        let before = nodes.certificates().await;
        eventually("rotation", async || {
            tunnel.exchange().await;
            let now = nodes.certificates().await;
            before.iter().all(|(identity, end)| now[identity] > *end).then_some(())
        })
        .await;
        for (from, to) in [(3, &nodes.till), (1, &nodes.bank)] {
            exchange(nodes.connect(from, to.addr).await, rotation, 10_000).await;
        }
    }
    tunnel.finish().await;
    nodes.near.tells("the tunnel", |record| record["level"] == "info").await;
}
