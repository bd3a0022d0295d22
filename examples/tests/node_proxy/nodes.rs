//! Two nodes of one mesh, and the workloads on them.
//!
//! Every workload has an address of its own on loopback, and each set of nodes a block of addresses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use mesh_identity::SpiffeId;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::socks;
use crate::world::{App, Files, Pki, Process, eventually, exchange, node_proxy, soon};

/// A number for each set of nodes in this process.
static SETS: AtomicU32 = AtomicU32::new(0);

/// How many sets of nodes a process can have.
const MOST_SETS: u32 = 128;

/// What both nodes know, and where.
pub struct World {
    pub pki: Pki,
    block: [u8; 2],
    /// Where tunnels are taken, at the addresses of workloads.
    pub hbone_port: u16,
    pub mesh_file: PathBuf,
}

/// `cart` and `spy` live on the near node; `till` lives on the far one, in the service
/// `till.shop.svc`, port 80, with an echo.
pub struct Nodes {
    pub world: World,
    pub near: Node,
    pub far: Node,
    pub echo: App,
}

/// A running node.
pub struct Node {
    pub process: Process,
    pub socks5: Option<SocketAddr>,
    pub plaintext: Option<SocketAddr>,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

pub fn identity(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

impl World {
    pub fn new() -> Self {
        let pki = Pki::new();
        let set = SETS.fetch_add(1, Ordering::Relaxed);
        assert!(set < MOST_SETS, "would get the addresses of another process");
        // From 127.20 on: 400 processes, each with addresses of its own.
        let block = (20 << 8) + std::process::id() % 400 * MOST_SETS + set;
        Self {
            mesh_file: pki.path().join("mesh.yaml"),
            pki,
            block: u16::try_from(block).unwrap().to_be_bytes(),
            // Not one that the kernel would give to somebody else; the address is the world's own.
            hbone_port: 15008,
        }
    }

    /// The address of a workload, or of a service that nobody listens at.
    pub fn ip(&self, number: u8) -> IpAddr {
        [127, self.block[0], self.block[1], number].into()
    }

    pub fn cart(&self) -> IpAddr {
        self.ip(1)
    }

    pub fn till(&self) -> IpAddr {
        self.ip(2)
    }

    pub fn spy(&self) -> IpAddr {
        self.ip(3)
    }

    pub fn vip(&self) -> IpAddr {
        self.ip(100)
    }

    pub fn workload(&self, name: &str, number: u8, node: &str, more: &str) -> String {
        format!(
            "- {{uid: c1//Pod/shop/{name}, name: {name}, namespace: shop, serviceAccount: {name}, \
             workloadIps: [{ip}], node: {node}, protocol: HBONE, workloadName: {name}, \
             canonicalName: {name}, canonicalRevision: v1, clusterId: c1, {more}}}\n",
            ip = self.ip(number),
        )
    }

    /// The usual mesh, with these policies.
    pub fn mesh(&self, echo: SocketAddr, policies: &str) -> String {
        let member = format!("services: {{shop/till.shop.svc: {{80: {}}}}}", echo.port());
        format!(
            "workloads:\n{}{}{}services:\n- {{name: till, namespace: shop, hostname: till.shop.svc, \
             vips: [/{}], ports: {{80: {}}}}}\npolicies:\n{policies}",
            self.workload("cart", 1, "near", ""),
            self.workload("spy", 3, "near", ""),
            self.workload("till", 2, "far", &member),
            self.vip(),
            echo.port(),
        )
    }

    pub fn write(&self, mesh: &str) {
        fs::write(&self.mesh_file, mesh).unwrap();
    }

    /// The head of a node's configuration, with its mesh from the file and certificates for these.
    pub fn head(&self, node: &str, accounts: &[&str]) -> String {
        let files: String = accounts
            .iter()
            .map(|account| files(&self.pki.issue(&identity(account))))
            .collect();
        format!(
            "node = {node:?}\ntrust_domain = \"cluster.local\"\n[mesh]\nfile = {:?}\n{files}",
            self.mesh_file
        )
    }

    pub fn inbound(&self, ip: IpAddr) -> String {
        format!("[[inbound]]\nbind = \"{ip}:{}\"\n", self.hbone_port)
    }

    /// Starts a node whose configuration begins so.
    pub async fn start(&self, node: &str, head: &str) -> Node {
        let config = self.pki.path().join(format!("{node}.toml"));
        let tail = format!(
            "[admin]\nbind = \"127.0.0.1:0\"\n[settings]\nhbone_port = {}\naccess_log = \"json\"\n\
             drain_seconds = 2\ndemand_seconds = 2\ncluster = \"c1\"\n",
            self.hbone_port
        );
        let tail = if head.contains("[settings]") {
            tail.split("[settings]").next().unwrap()
        } else {
            &tail
        };
        fs::write(&config, format!("{head}{tail}")).unwrap();
        let mut process = Process::start(&mut node_proxy(&config));
        let ready = process.ready().await;
        let addr = |field: &str| {
            let addrs = ready[field].as_array();
            let addr = addrs.map_or(&ready[field], |addrs| addrs.first().unwrap_or(&Value::Null));
            addr.as_str().map(|addr| addr.parse().unwrap())
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stdout, lines) = (process.take_stdout(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        });
        Node {
            socks5: addr("socks5"),
            plaintext: addr("plaintext"),
            admin: addr("admin").unwrap(),
            process,
            log,
        }
    }
}

pub fn files(files: &Files) -> String {
    format!(
        "[[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n",
        files.cert, files.key, files.roots
    )
}

/// The status and body of an operator's answer.
pub async fn ask(admin: SocketAddr, method: &str, path: &str) -> (u16, String) {
    ask_with(admin, method, path, "host: 127.0.0.1").await
}

pub async fn ask_with(admin: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(admin).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("answer", tcp.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Lets only these accounts of the namespace in.
pub fn allow(accounts: &[&str]) -> String {
    let accounts: Vec<_> = accounts
        .iter()
        .map(|account| format!("{{namespace: shop, serviceAccount: {account}}}"))
        .collect();
    format!(
        "- {{name: allow, namespace: shop, scope: Namespace, action: Allow, dryRun: false, \
         rules: [[[{{serviceAccounts: [{}]}}]]]}}\n",
        accounts.join(", ")
    )
}

impl Nodes {
    pub async fn start(policies: &str) -> Self {
        let world = World::new();
        let echo = App::echo_at(world.till()).await;
        world.write(&world.mesh(echo.addr, policies));
        let far = world.head("far", &["till"]) + &world.inbound(world.till());
        let far = world.start("far", &far).await;
        let near = world.head("near", &["cart", "spy"])
            + &world.inbound(world.cart())
            + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
        let near = world.start("near", &near).await;
        Self { world, near, far, echo }
    }

    /// Has both nodes know another mesh.
    pub async fn change(&self, policies: &str, times: usize) {
        self.world.write(&self.world.mesh(self.echo.addr, policies));
        for node in [&self.near, &self.far] {
            node.process.says_times("mesh changed", times).await;
        }
    }

    /// Connects a workload of the near node.
    pub async fn connect(&self, from: IpAddr, host: &str, port: u16) -> Result<TcpStream, u8> {
        socks::connect(self.near.socks5.unwrap(), from, (host, port)).await
    }

    pub async fn till(&self, from: IpAddr) -> Result<TcpStream, u8> {
        self.connect(from, &self.world.till().to_string(), self.echo.addr.port())
            .await
    }

    pub async fn exchange(&self, from: IpAddr, host: &str, port: u16, len: usize) {
        exchange(self.connect(from, host, port).await.unwrap(), 1, len).await;
    }
}

impl Node {
    /// Waits for the access log to tell a connection of which `is` holds.
    pub async fn tells(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let lines = self.log.lock().unwrap().clone();
            let records = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            records.into_iter().find(|record| is(record))
        })
        .await
    }
}
