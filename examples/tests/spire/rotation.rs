//! SVIDs and roots that are replaced under tunnels in use.

use std::net::SocketAddr;

use mesh_identity::{PeerPolicy, SpiffeId};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::spire::{Agent, Server, Workload};
use crate::world::{App, Process, Tunnel, eventually, exchange, listen_by, look, serve_by};

/// A server program and a client program, each with an agent of its own.
struct Pair {
    spire: Server,
    near: Agent,
    far: Agent,
    serving: Process,
    dialing: Process,
    peer: SocketAddr,
    addr: SocketAddr,
    echo: App,
}

impl Pair {
    async fn start(seconds: u32) -> Self {
        let (spire, echo) = (Server::start("mesh.example").await, App::echo().await);
        let (client, server) = (spire.id("/client"), spire.id("/server"));
        let (near, far) = (spire.agent("/near").await, spire.agent("/far").await);
        spire.register("/near", &client, seconds, &[]);
        spire.register("/far", &server, seconds, &[]);
        let (serving, peer) = serve_by(&far.socket, &client).await;
        let (dialing, addr) = listen_by(&near.socket, peer, &server, echo.addr).await;
        Self {
            spire,
            near,
            far,
            serving,
            dialing,
            peer,
            addr,
            echo,
        }
    }

    fn server(&self) -> SpiffeId {
        self.spire.id("/server")
    }

    /// Uses the tunnel until both programs have so many SVIDs behind them.
    async fn rotated(&self, times: usize, tunnel: &mut Tunnel) {
        let both = [&self.serving, &self.dialing];
        eventually("rotation", async || {
            tunnel.exchange().await;
            let done = |process: &&Process| {
                let lines = process.stderr();
                lines.iter().filter(|line| line.contains("svid rotated: ")).count() >= times
            };
            both.iter().all(done).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn svids_of_thirty_seconds_rotate_ten_times_under_a_tunnel() {
    let pair = Pair::start(30).await;
    let workload = Workload::of(&pair.near).await;
    let mut tunnel = Tunnel::open(pair.addr).await;
    let mut serials = Vec::new();
    for rotation in 1..=10 {
        pair.rotated(rotation, &mut tunnel).await;
        let tls = workload.tls(PeerPolicy::exact(pair.server()));
        let answering = look(pair.peer, &tls).await.unwrap();
        assert!(!serials.contains(&answering.chain()[0]), "{rotation}");
        serials.push(answering.chain()[0].clone());
        exchange(TcpStream::connect(pair.addr).await.unwrap(), 1, 1000).await;
    }
    tunnel.finish().await;
}

/// A new authority is prepared and activated, the old one tainted and revoked. Whoever has moved to
/// the new one by then keeps its tunnel.
#[tokio::test]
async fn a_revoked_root_takes_exactly_the_connections_that_it_vouches_for() {
    let pair = Pair::start(3600).await;
    let workload = Workload::of(&pair.near).await;
    let mut by_old = Tunnel::open(pair.addr).await;
    let roots = async |count: usize| {
        let snapshot = workload.follow().snapshot();
        let bundle = snapshot.trust().get(&pair.spire.trust_domain)?;
        (bundle.len() == count).then_some(())
    };

    let authorities = pair.spire.ask("localauthority x509 show", &[]);
    let old = authority(&authorities["active"]);
    let prepared = pair.spire.ask("localauthority x509 prepare", &[]);
    let new = authority(&prepared["prepared_authority"]);
    eventually("the new root", async || roots(2).await).await;
    by_old.exchange().await;

    pair.spire.run("localauthority x509 activate", &["-authorityID", &new]);
    pair.spire.run("localauthority x509 taint", &["-authorityID", &old]);
    pair.rotated(1, &mut by_old).await;
    let (_moved, addr) = listen_by(&pair.near.socket, pair.peer, &pair.server(), pair.echo.addr).await;
    let mut by_new = Tunnel::open(addr).await;
    by_old.exchange().await;

    pair.spire.run("localauthority x509 revoke", &["-authorityID", &old]);
    by_old.is_reset().await;
    eventually("the old root's end", async || roots(1).await).await;
    by_new.exchange().await;
    exchange(TcpStream::connect(pair.addr).await.unwrap(), 1, 1000).await;
    by_new.finish().await;
}

#[tokio::test]
async fn an_agent_that_stops_takes_nothing_away_and_is_reported() {
    let mut pair = Pair::start(3600).await;
    let workload = Workload::of(&pair.near).await;
    let mut tunnel = Tunnel::open(pair.addr).await;
    pair.far.stop();
    let line = pair.serving.says("no connection to the workload api").await;
    assert!(line.contains("identity=\"kept\""), "{line}");
    tunnel.exchange().await;
    let tls = workload.tls(PeerPolicy::exact(pair.server()));
    assert!(look(pair.peer, &tls).await.is_some());
    exchange(TcpStream::connect(pair.addr).await.unwrap(), 1, 1000).await;
    tunnel.finish().await;
}

fn authority(state: &Value) -> String {
    state["authority_id"].as_str().unwrap().to_owned()
}
