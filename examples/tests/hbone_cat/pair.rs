//! A client and a server of one mesh.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

use mesh_testkit::ca::{client, server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::world::{Files, Pki, Process, exchange, hbone_cat, soon};

/// A server, and what it takes to reach it.
pub struct Served {
    pub pki: Pki,
    pub server: Process,
    pub addr: SocketAddr,
    pub server_files: Files,
    pub client_files: Files,
}

impl Served {
    /// A server that accepts the client and connects it wherever it wants.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(Pki::new(), adjust).await
    }

    pub async fn start_in(pki: Pki, adjust: impl FnOnce(&mut Command)) -> Self {
        let server_files = pki.issue(&server());
        let mut command = hbone_cat("serve", &server_files);
        command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string()]);
        adjust(&mut command);
        let mut process = Process::start(&mut command);
        Self {
            addr: process.ready_at("bind").await,
            server_files,
            client_files: pki.issue(&client()),
            server: process,
            pki,
        }
    }

    /// The command of a client that asks for `target`.
    pub fn dial(&self, target: SocketAddr) -> Command {
        self.dial_as(&self.client_files, target)
    }

    pub fn dial_as(&self, files: &Files, target: SocketAddr) -> Command {
        let mut command = hbone_cat("dial", files);
        command.args(["--peer", &self.addr.to_string(), "--target", &target.to_string()]);
        command.args(["--expect", &server().to_string()]);
        command
    }

    /// A client that listens.
    pub async fn listen(&self, target: SocketAddr) -> Listening {
        self.listen_with(target, |_| {}).await
    }

    pub async fn listen_with(&self, target: SocketAddr, adjust: impl FnOnce(&mut Command)) -> Listening {
        let mut command = self.dial(target);
        command.args(["--listen", "127.0.0.1:0"]);
        adjust(&mut command);
        let mut process = Process::start(&mut command);
        let addr = process.ready_at("listen").await;
        Listening { process, addr }
    }
}

/// A client that takes connections.
pub struct Listening {
    pub process: Process,
    pub addr: SocketAddr,
}

impl Listening {
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// A connection for which there is no tunnel. It may be reset before it is known to be made.
    pub async fn is_reset(&self) {
        let reset = async { TcpStream::connect(self.addr).await?.read_u8().await };
        let error = soon("reset", reset).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    /// Sends bytes through a tunnel of their own to an echo.
    pub async fn exchange(&self, len: usize) {
        exchange(self.connect().await, len as u64, len).await;
    }
}
