//! Two nodes with a proxy each, and what lives on them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use mesh_identity::SpiffeId;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::net::{FAR, Host, NEAR, Net};
use crate::world::{App, Pki, Process, eventually, node_proxy, soon};

/// Where the echo of each pod listens.
pub const PORT: u16 = 8080;

/// Who lives where. `old` is in no mesh.
const PODS: [(Host, &str, u8, bool); 5] = [
    (NEAR, "cart", 1, true),
    (NEAR, "spy", 2, true),
    (FAR, "till", 1, true),
    (FAR, "bank", 2, true),
    (FAR, "old", 9, false),
];

pub struct Cluster {
    pub net: Net,
    pub near: Node,
    pub far: Node,
    mesh_file: PathBuf,
    _echoes: Vec<App>,
    _pki: Pki,
}

/// A running proxy.
pub struct Node {
    pub process: Process,
    log: Arc<Mutex<Vec<String>>>,
}

pub fn identity(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

pub async fn is_reset(mut tcp: TcpStream) {
    soon("reset", tcp.read(&mut [0])).await.unwrap_err();
}

/// The address of a pod's echo.
pub fn echo(pod: &str) -> SocketAddr {
    let (host, _, number, _) = PODS.iter().find(|(_, name, ..)| *name == pod).unwrap();
    SocketAddr::new(host.pod(*number), PORT)
}

impl Cluster {
    pub async fn start(policies: &str) -> Self {
        let mut net = Net::new();
        let mut echoes = Vec::new();
        for (host, pod, number, is_captured) in PODS {
            net.pod(host, pod, number, is_captured);
            echoes.push(App::echo_on(net.listen(pod, echo(pod))));
        }
        let pki = Pki::new();
        let mesh_file = pki.path().join("mesh.yaml");
        fs::write(&mesh_file, mesh(policies)).unwrap();
        let near = start(&net, &pki, NEAR).await;
        let far = start(&net, &pki, FAR).await;
        Self {
            net,
            near,
            far,
            mesh_file,
            _echoes: echoes,
            _pki: pki,
        }
    }

    pub fn connect(&self, from: &str, to: SocketAddr) -> TcpStream {
        self.net.connect(from, to).unwrap()
    }

    /// Finds a connection reset, as soon as it is made or before.
    pub async fn refuses(&self, from: &str, to: SocketAddr) {
        if let Ok(tcp) = self.net.connect(from, to) {
            is_reset(tcp).await;
        }
    }

    /// Has both nodes know other policies.
    pub async fn change(&self, policies: &str) {
        fs::write(&self.mesh_file, mesh(policies)).unwrap();
        for node in [&self.near, &self.far] {
            node.process.says("mesh changed").await;
        }
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

fn mesh(policies: &str) -> String {
    let workloads = PODS.iter().map(|(host, name, number, is_captured)| {
        let protocol = if *is_captured { "HBONE" } else { "TCP" };
        let services = if matches!(*name, "till" | "bank") {
            "shop/counter.shop.svc: {80: 8080}"
        } else {
            ""
        };
        format!(
            "- {{uid: {name}, name: {name}, namespace: shop, serviceAccount: {name}, workloadIps: [{}], \
             node: {}, protocol: {protocol}, services: {{{services}}}}}\n",
            host.pod(*number),
            if *is_captured { host.name } else { "nowhere" },
        )
    });
    format!(
        "workloads:\n{}services:\n- {{name: counter, namespace: shop, hostname: counter.shop.svc, \
         vips: [/10.96.0.1], ports: {{80: {PORT}}}}}\npolicies:\n{policies}",
        workloads.collect::<String>()
    )
}

async fn start(net: &Net, pki: &Pki, host: Host) -> Node {
    let residents = PODS
        .iter()
        .filter(|(at, _, _, is_captured)| at.name == host.name && *is_captured);
    let files: String = residents
        .map(|(_, name, ..)| {
            let files = pki.issue(&identity(name));
            format!(
                "[[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n",
                files.cert, files.key, files.roots
            )
        })
        .collect();
    let config = pki.path().join(format!("{}.toml", host.name));
    let text = format!(
        "node = {:?}\ntrust_domain = \"cluster.local\"\n[mesh]\nfile = \"mesh.yaml\"\n{files}\
         [[inbound]]\nbind = \"0.0.0.0:15008\"\n[[plaintext]]\nbind = \"0.0.0.0:15006\"\n\
         [[outbound]]\nbind = \"0.0.0.0:15001\"\n[settings]\naccess_log = \"json\"\ndrain_seconds = 2\n",
        host.name
    );
    fs::write(&config, text).unwrap();
    let mut process = Process::start(&mut net.program(host.name, &node_proxy(&config)));
    process.ready().await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let (stdout, lines) = (process.take_stdout(), Arc::clone(&log));
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            lines.lock().unwrap().push(line.unwrap());
        }
    });
    Node { process, log }
}
