//! Two nodes with a proxy each, and what lives on them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use hbone::{Client, Config, Lost};
use mesh_identity::{PeerPolicy, SpiffeId};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::mesh::{ADMIN_PORT, Kind, PODS, echo, identity, mesh, named, node};
use crate::net::{FAR, Host, NEAR, Net};
use crate::world::{App, Files, Pki, Process, eventually, hbone_cat, node_proxy, soon};

pub struct Cluster {
    pub net: Net,
    pub near: Node,
    pub far: Node,
    pub pki: Pki,
    echoes: Vec<(&'static str, App)>,
}

/// What is special about a cluster.
pub struct Setup<'a> {
    pub policies: &'a str,
    /// Where a node's identities come from; files if nothing is said.
    pub identities: &'a dyn Fn(&Net, &Pki, Host) -> String,
    /// Lines in the section for settings.
    pub settings: &'a str,
    /// What runs the program of a proxy.
    pub runner: &'a [&'a str],
}

/// A running proxy.
pub struct Node {
    pub process: Process,
    log: Arc<Mutex<Vec<String>>>,
}

pub async fn is_reset(mut tcp: TcpStream) {
    soon("reset", tcp.read(&mut [0])).await.unwrap_err();
}

/// The identities of who lives on a node, in files.
pub fn in_files(_: &Net, pki: &Pki, host: Host) -> String {
    residents(host)
        .map(|account| section(&pki.issue(&identity(&account)), ""))
        .collect()
}

/// The accounts of who lives on a node.
pub fn residents(host: Host) -> impl Iterator<Item = String> {
    let pods = PODS
        .iter()
        .filter(move |pod| pod.host.name == host.name && pod.is_captured());
    pods.map(|pod| pod.name.to_owned()).chain([node(host)])
}

/// An identity in files, as the configuration names it.
pub fn section(files: &Files, more: &str) -> String {
    format!(
        "[[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n{more}",
        files.cert, files.key, files.roots
    )
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            policies: "",
            identities: &in_files,
            settings: "",
            runner: &[],
        }
    }
}

impl Cluster {
    pub async fn start(policies: &str) -> Self {
        let setup = Setup {
            policies,
            ..Setup::default()
        };
        Self::with(&setup).await
    }

    pub async fn with(setup: &Setup<'_>) -> Self {
        let mut net = Net::new();
        let mut echoes = Vec::new();
        for pod in &PODS {
            net.pod(pod.host, pod.name, pod.ip(), pod.is_captured());
            if pod.kind != Kind::Native {
                echoes.push((pod.name, App::echo_on(net.listen(pod.name, echo(pod.name)))));
            }
        }
        let pki = Pki::new();
        let near = start(&net, &pki, NEAR, setup).await;
        let far = start(&net, &pki, FAR, setup).await;
        Self {
            net,
            near,
            far,
            pki,
            echoes,
        }
    }

    pub fn connect(&self, from: &str, to: SocketAddr) -> TcpStream {
        self.net.connect(from, to).unwrap()
    }

    /// A connection to a pod's echo, which has answered once.
    pub async fn open(&self, from: &str, to: &str) -> TcpStream {
        let mut tcp = self.connect(from, echo(to));
        tcp.write_all(b"1").await.unwrap();
        soon("echo", tcp.read_exact(&mut [0])).await.unwrap();
        tcp
    }

    /// Finds a connection reset, as soon as it is made or before.
    pub async fn refuses(&self, from: &str, to: SocketAddr) {
        if let Ok(tcp) = self.net.connect(from, to) {
            is_reset(tcp).await;
        }
    }

    /// Has both nodes know other policies.
    pub async fn change(&self, policies: &str) {
        for host in [NEAR, FAR] {
            fs::write(
                self.pki.path().join(format!("{}.yaml", host.name)),
                mesh(host, policies),
            )
            .unwrap();
        }
        for node in [&self.near, &self.far] {
            node.process.says("mesh changed").await;
        }
    }

    /// Ends the echo of a pod, with its connections.
    pub fn end_echo(&mut self, pod: &str) {
        self.echoes.retain(|(name, _)| *name != pod);
    }

    /// Who takes tunnels in a pod, and connects them to `forward`.
    pub async fn terminator(&self, pod: &str, forward: SocketAddr) -> Process {
        let mut command = hbone_cat("serve", &self.pki.issue(&identity(pod)));
        command.args(["--bind", "0.0.0.0:15008", "--forward", &forward.to_string()]);
        command.args(["--allow", "spiffe://cluster.local/*"]);
        let mut process = Process::start(self.net.program(pod, &command).env("RUST_LOG", "info"));
        process.ready().await;
        process
    }

    /// A connection for tunnels to a pod, of somebody in `from` who is `as_whom`.
    pub async fn dial(
        &self,
        from: &str,
        as_whom: &SpiffeId,
        to: &str,
    ) -> Result<(Client, JoinSet<Result<(), Lost>>), String> {
        let tls = self.pki.mesh.client_tls(as_whom, PeerPolicy::exact(identity(to)));
        let addr = SocketAddr::new(named(to).ip(), 15008);
        let tcp = self.net.connect(from, addr).map_err(|error| error.to_string())?;
        let dialled = async {
            let (stream, peer) = hbone::tls::connect(tcp, &tls, &Config::default())
                .await
                .map_err(|error| error.to_string())?;
            hbone::client::handshake(stream, peer, &Config::default())
                .await
                .map_err(|error| error.to_string())
        };
        let (client, connection) = soon("connection", dialled).await?;
        let mut task = JoinSet::new();
        task.spawn(connection);
        Ok((client, task))
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

/// The program of a node's proxy, with its configuration and its mesh.
pub fn program(net: &Net, pki: &Pki, host: Host, setup: &Setup<'_>) -> Command {
    let file = |format: &str| pki.path().join(format!("{}.{format}", host.name));
    fs::write(file("yaml"), mesh(host, setup.policies)).unwrap();
    let text = format!(
        "node = {name:?}\ntrust_domain = \"cluster.local\"\n[mesh]\nfile = \"{name}.yaml\"\n{identities}\
         [[inbound]]\nbind = \"0.0.0.0:15008\"\n[[plaintext]]\nbind = \"0.0.0.0:15006\"\n\
         [[outbound]]\nbind = \"0.0.0.0:15001\"\n[admin]\nbind = \"{admin}\"\n\
         [settings]\naccess_log = \"json\"\ndrain_seconds = 2\n{settings}",
        name = host.name,
        identities = (setup.identities)(net, pki, host),
        admin = SocketAddr::new(host.ip.into(), ADMIN_PORT),
        settings = setup.settings,
    );
    fs::write(file("toml"), text).unwrap();
    let proxy = node_proxy(&file("toml"));
    let Some((runner, flags)) = setup.runner.split_first() else {
        return net.program(host.name, &proxy);
    };
    let mut run = Command::new(runner);
    run.args(flags).arg(proxy.get_program()).args(proxy.get_args());
    net.program(host.name, &run)
}

async fn start(net: &Net, pki: &Pki, host: Host, setup: &Setup<'_>) -> Node {
    let mut process = Process::start(&mut program(net, pki, host, setup));
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
