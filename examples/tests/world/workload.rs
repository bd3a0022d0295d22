//! `hbone-cat` with an identity from an agent.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use mesh_identity::SpiffeId;

use super::{Process, hbone_cat_of};

/// The command `hbone-cat COMMAND` with whatever identity the agent at `socket` gives it.
pub fn hbone_cat_by(command: &str, socket: &Path) -> Command {
    let mut program = hbone_cat_of(command);
    program.arg("--workload-api").arg(socket);
    program
}

/// A server that lets `allow` in, and where it listens.
pub async fn serve_by(socket: &Path, allow: &SpiffeId) -> (Process, SocketAddr) {
    let mut command = hbone_cat_by("serve", socket);
    command.args(["--bind", "127.0.0.1:0", "--allow", &allow.to_string()]);
    let mut process = Process::start(&mut command);
    let addr = process.ready_at("bind").await;
    (process, addr)
}

/// A client with tunnels through `peer`, which has to be `expect`, to `target`, and where it takes
/// connections for them.
pub async fn listen_by(
    socket: &Path,
    peer: SocketAddr,
    expect: &SpiffeId,
    target: SocketAddr,
) -> (Process, SocketAddr) {
    let mut command = hbone_cat_by("dial", socket);
    command.args(["--peer", &peer.to_string(), "--target", &target.to_string()]);
    command.args(["--expect", &expect.to_string(), "--listen", "127.0.0.1:0"]);
    let mut process = Process::start(&mut command);
    let addr = process.ready_at("listen").await;
    (process, addr)
}
