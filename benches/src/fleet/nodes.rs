//! Two node proxies, with the mesh in a file.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::world::{APP_PORT, NODES, SERVICE_PORT, Workload, World};
use crate::pki::TRUST_DOMAIN;
use crate::process::{Process, free_addr};

/// Where tunnels are taken.
pub const HBONE_PORT: u16 = 15008;

/// A proxy for each node.
#[derive(Debug)]
pub struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: &'static str,
    socks5: SocketAddr,
    process: Process,
}

impl Nodes {
    /// Starts both, and waits until they are ready.
    pub async fn start(world: &World, node_proxy: &Path) -> io::Result<Self> {
        world.write("mesh.yaml", &mesh(world))?;
        let mut nodes = Vec::new();
        for name in NODES {
            let (socks5, admin) = (free_addr()?, free_addr()?);
            let file = world.write(&format!("{name}.toml"), &config(world, name, socks5, admin))?;
            let process = Process::spawn(node_proxy, ["--config".into(), file.into()])?;
            nodes.push((admin, Node { name, socks5, process }));
        }
        for (admin, node) in &nodes {
            node.process.wait_until_ready(*admin, "/healthz/ready").await?;
        }
        Ok(Self {
            nodes: nodes.into_iter().map(|(_, node)| node).collect(),
        })
    }

    /// Where a workload asks for connections to others.
    pub fn socks5(&self, workload: Workload) -> io::Result<SocketAddr> {
        let node = self.nodes.iter().find(|node| node.name == workload.node());
        node.map(|node| node.socks5)
            .ok_or_else(|| io::Error::other(format!("no proxy on {}", workload.node())))
    }

    /// The proxies.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().map(|node| &node.process)
    }
}

fn mesh(world: &World) -> String {
    let mut text = "workloads:\n".to_owned();
    for workload in world.workloads() {
        let (name, host) = (workload.name(), workload.hostname());
        text += &format!(
            "- {{uid: c1//Pod/bench/{name}, name: {name}, namespace: bench, serviceAccount: {name}, trustDomain: {TRUST_DOMAIN}, \
             workloadIps: [{}], node: {}, protocol: HBONE, workloadName: {name}, canonicalName: {name}, \
             canonicalRevision: v1, clusterId: c1, services: {{bench/{host}: {{{SERVICE_PORT}: {APP_PORT}}}}}}}\n",
            workload.ip,
            workload.node(),
        );
    }
    text += "services:\n";
    for workload in world.workloads() {
        text += &format!(
            "- {{name: {}, namespace: bench, hostname: {}, vips: [/{}], ports: {{{SERVICE_PORT}: {APP_PORT}}}}}\n",
            workload.name(),
            workload.hostname(),
            workload.vip,
        );
    }
    text
}

fn config(world: &World, node: &'static str, socks5: SocketAddr, admin: SocketAddr) -> String {
    let mut text = format!("node = {node:?}\ntrust_domain = {TRUST_DOMAIN:?}\n[mesh]\nfile = \"mesh.yaml\"\n");
    for workload in world.workloads().iter().filter(|workload| workload.node() == node) {
        let ip: IpAddr = workload.ip;
        text += &format!(
            "[[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n[[inbound]]\nbind = \"{ip}:{HBONE_PORT}\"\n",
            world.cert(*workload),
            world.key(*workload),
            world.roots(),
        );
    }
    text + &format!(
        "[[socks5]]\nbind = \"{socks5}\"\n[admin]\nbind = \"{admin}\"\n\
         [settings]\nhbone_port = {HBONE_PORT}\naccess_log = \"off\"\n"
    )
}
