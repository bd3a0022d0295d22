//! A running control plane and its directory.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mesh_identity::provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{Process, eventually, soon};

/// What the node agent of `near` and of `far` brings.
pub const NEAR: &str = "token-of-the-near-node";
pub const FAR: &str = "token-of-the-far-node-";

pub struct Plane {
    pub dir: TempDir,
    flags: Vec<String>,
    pub process: Process,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
}

impl Plane {
    /// Starts with the node agents of two nodes, and these objects.
    pub async fn start(objects: &str) -> Self {
        Self::start_with(objects, |_| Vec::new()).await
    }

    pub async fn start_with(objects: &str, more: impl Fn(&TempDir) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("agents.yaml"), agents()).unwrap();
        fs::write(dir.path().join("objects.yaml"), objects).unwrap();
        let flags = more(&dir);
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut process = Process::start(&mut command(&dir, any, &flags));
        let (addr, admin) = addresses(&mut process).await;
        Self {
            dir,
            flags,
            process,
            addr,
            admin,
        }
    }

    /// Starts it again at its address, after `meanwhile`.
    pub async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&Self)) {
        self.process.kill();
        self.process.end().await;
        meanwhile(self).await;
        self.process = Process::start(&mut command(&self.dir, self.addr, &self.flags));
        self.admin = addresses(&mut self.process).await.1;
    }

    /// Changes a file, and waits until it is in force.
    pub async fn change(&self, objects: &str) {
        let before = self.in_force();
        self.write(objects);
        eventually("change", async || (self.in_force() > before).then_some(())).await;
    }

    /// Takes a token out of the directory, and waits until that is in force.
    pub async fn withdraw(&self, token: &str) {
        let (before, file) = (self.in_force(), self.dir.path().join("agents.yaml"));
        let rest = agents().replace(token, "another-token-altogether");
        fs::write(file, rest).unwrap();
        eventually("change", async || (self.in_force() > before).then_some(())).await;
    }

    pub fn write(&self, objects: &str) {
        fs::write(self.dir.path().join("objects.yaml"), objects).unwrap();
    }

    fn in_force(&self) -> usize {
        let lines = self.process.stderr();
        lines.iter().filter(|line| line.contains("mesh in force")).count()
    }

    /// Asks the admin address; answers with status and body.
    pub async fn ask(&self, request: &str) -> (u16, String) {
        ask(self.admin, request).await
    }

    /// Speaks TLS with it, as somebody who has read its roots.
    pub async fn connect_tls(&self, tcp: TcpStream, name: &'static str) -> TlsStream<TcpStream> {
        let roots = CertificateDer::pem_file_iter(self.dir.path().join("roots.pem")).unwrap();
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(provider::aws_lc_rs())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let connected = connector.connect(ServerName::try_from(name).unwrap(), tcp);
        soon("handshake", connected).await.unwrap()
    }

    pub async fn dump(&self) -> Value {
        let (status, body) = self.ask("GET /config_dump HTTP/1.1\r\nhost: 127.0.0.1").await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    }

    /// A file with a token.
    pub fn token(&self, token: &str) -> PathBuf {
        let path = self.dir.path().join(token);
        fs::write(&path, token).unwrap();
        path
    }
}

fn command(dir: &TempDir, bind: SocketAddr, flags: &[String]) -> Command {
    let mut command = control_plane();
    command
        .arg("--dir")
        .arg(dir.path())
        .args(["--bind", &bind.to_string(), "--json"])
        .args(flags)
        .env("RUST_LOG", "info");
    if !flags.iter().any(|flag| flag == "--admin") {
        command.args(["--admin", "127.0.0.1:0"]);
    }
    command
}

/// Where it listens, and where for operators.
async fn addresses(process: &mut Process) -> (SocketAddr, SocketAddr) {
    let ready = process.ready().await;
    assert_eq!(ready["ready"], "control_plane");
    let addr = |field: &str| ready[field].as_str().unwrap().parse().unwrap();
    (addr("addr"), addr("admin"))
}

/// Asks an admin address; answers with status and body.
pub async fn ask(admin: SocketAddr, request: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(admin).await.unwrap();
    let request = format!("{request}\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("answer", tcp.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

pub fn control_plane() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command.env_remove("RUST_LOG");
    command
}

/// A Pod of the namespace `shop` with a service account of its name.
pub fn pod(name: &str, ip: &str, node: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop}}\n\
         ---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{app: {name}}}}}\n\
         spec: {{serviceAccountName: {name}, nodeName: {node}}}\nstatus: {{podIP: {ip}}}\n"
    )
}

/// A Service of the namespace `shop` in front of Pods of its name.
pub fn service(name: &str, ip: &str, target: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{selector: {{app: {name}}}, clusterIP: {ip}, ports: [{{port: 80, targetPort: {target}}}]}}\n"
    )
}

pub fn namespace(labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{{labels}}}}}\n")
}

fn agents() -> String {
    let agent = |node: &str, ip: &str, token: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: ztunnel-{node}, namespace: istio-system}}\n\
             spec: {{serviceAccountName: ztunnel, nodeName: {node}, hostNetwork: true}}\nstatus: {{podIP: {ip}}}\n\
             ---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
             metadata:\n  name: ztunnel-{node}\n  namespace: istio-system\n  annotations:\n    \
             kubernetes.io/service-account.name: ztunnel\n    kubernetes.io/pod.name: ztunnel-{node}\n\
             stringData: {{token: {token}}}\n"
        )
    };
    format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: ztunnel, namespace: istio-system}}\n{}{}",
        agent("near", "192.168.0.1", NEAR),
        agent("far", "192.168.0.2", FAR)
    )
}
