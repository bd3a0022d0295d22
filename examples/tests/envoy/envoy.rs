//! A running Envoy.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use mesh_identity::SpiffeId;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{Files, eventually, free_addr, peer};

/// A running Envoy. Killed when dropped; its log is shown if the test fails.
pub struct Envoy {
    child: Child,
    admin: SocketAddr,
    /// Where its one listener listens.
    pub addr: SocketAddr,
    folder: TempDir,
}

impl Envoy {
    /// An HBONE server that connects tunnels for `app` to it, and lets a waypoint of `default` not in.
    pub async fn server(files: &Files, app: SocketAddr, closed: SocketAddr) -> Self {
        let waypoint = "spiffe://cluster.local/ns/default/sa/waypoint".parse().unwrap();
        Self::server_at(([127, 0, 0, 1], 0).into(), files, app, closed, &waypoint).await
    }

    /// As [`server`](Self::server), at another address, and with another one whom it does not let in.
    pub async fn server_at(
        inbound: SocketAddr,
        files: &Files,
        app: SocketAddr,
        closed: SocketAddr,
        denied: &SpiffeId,
    ) -> Self {
        let config = include_str!("server.yaml")
            .replace("@IP@", &inbound.ip().to_string())
            .replace("@PORT@", &inbound.port().to_string())
            .replace("@APP@", &app.to_string())
            .replace("@APP_IP@", &app.ip().to_string())
            .replace("@APP_PORT@", &app.port().to_string())
            .replace("@CLOSED@", &closed.to_string())
            .replace("@CLOSED_IP@", &closed.ip().to_string())
            .replace("@CLOSED_PORT@", &closed.port().to_string())
            .replace("@DENIED@", &denied.to_string())
            .replace("@CERT@", files.cert.to_str().unwrap())
            .replace("@KEY@", files.key.to_str().unwrap())
            .replace("@ROOTS@", files.roots.to_str().unwrap());
        Self::start(&config).await
    }

    /// An HBONE client that takes connections, and asks `server` for tunnels to `target`.
    pub async fn client(identity: Option<&Files>, roots: &Path, server: SocketAddr, target: &str) -> Self {
        let certificates = match identity {
            Some(files) => format!(
                "[ {{ certificate_chain: {{ filename: \"{}\" }}, private_key: {{ filename: \"{}\" }} }} ]",
                files.cert.display(),
                files.key.display()
            ),
            None => "[]".to_owned(),
        };
        let config = include_str!("client.yaml")
            .replace("@TARGET@", target)
            .replace("@CERTIFICATES@", &certificates)
            .replace("@ROOTS@", roots.to_str().unwrap())
            .replace("@SERVER_PORT@", &server.port().to_string());
        Self::start(&config).await
    }

    /// An Envoy with a configuration in YAML, or in JSON, which it reads faster.
    pub async fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let format = if config.starts_with('{') { "json" } else { "yaml" };
        let (file, admin) = (
            folder.path().join("envoy").with_extension(format),
            folder.path().join("admin"),
        );
        fs::write(&file, config).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(peer("envoy"))
            .arg("-c")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "--file-flush-interval-msec",
                "10",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut envoy = Self {
            child,
            admin: free_addr(),
            addr: free_addr(),
            folder,
        };
        envoy.admin = eventually("Envoy's admin address", async || {
            assert_eq!(envoy.child.try_wait().unwrap(), None, "Envoy ended");
            fs::read_to_string(&admin).ok()?.parse().ok()
        })
        .await;
        let ready = async || envoy.ask("/ready").await.filter(|answer| answer.contains("LIVE"));
        eventually("Envoy", ready).await;
        let listeners = envoy.ask("/listeners").await.unwrap();
        let addr = listeners
            .lines()
            .find_map(|line| line.split_once("::")?.1.trim().parse().ok());
        envoy.addr = addr.unwrap();
        envoy
    }

    /// The value of a counter or gauge.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.ask(&format!("/stats?filter=^{name}$")).await.unwrap();
        let value = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value
            .unwrap_or_else(|| panic!("no `{name}` in: {stats}"))
            .parse()
            .unwrap()
    }

    /// Waits for a line of its log that contains `text`.
    pub async fn says(&self, text: &str) -> String {
        eventually(text, async || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The admin interface's answer, if there is one.
    async fn ask(&self, path: &str) -> Option<String> {
        let mut tcp = TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("--- log of Envoy {}:\n{}", self.child.id(), self.log());
        }
    }
}
