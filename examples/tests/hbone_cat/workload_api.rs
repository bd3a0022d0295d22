//! Identities from an agent instead of files, as they change.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mesh_identity::source::dev_ca::{DevCa, Template};
use mesh_identity::tls::ClientTls;
use mesh_identity::{PeerPolicy, SpiffeId, TrustBundles};
use mesh_testkit::ca::{Mesh, client, server, stranger, waypoint};
use mesh_testkit::workload_api::{FakeWorkloadApi, Reply, X509Entry, X509Message, code};
use rustls::pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::world::{App, Process, Tunnel, eventually, exchange, hbone_cat_by, listen_by, look, serve_by};

/// An agent for one workload.
struct Agent {
    api: FakeWorkloadApi,
    socket: PathBuf,
    _folder: TempDir,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let api = FakeWorkloadApi::new();
        api.listen(&socket);
        Self {
            api,
            socket,
            _folder: folder,
        }
    }

    /// An agent that gives `id`, of the mesh's authority.
    fn of(mesh: &Mesh, id: &SpiffeId) -> Self {
        let agent = Self::start();
        agent.api.say_x509(message(mesh, id));
        agent
    }

    fn command(&self, command: &str) -> Command {
        hbone_cat_by(command, &self.socket)
    }

    async fn serve(&self, allow: &SpiffeId) -> (Process, SocketAddr) {
        serve_by(&self.socket, allow).await
    }

    async fn listen(&self, peer: SocketAddr, target: SocketAddr) -> (Process, SocketAddr) {
        listen_by(&self.socket, peer, &server(), target).await
    }
}

fn message(mesh: &Mesh, id: &SpiffeId) -> X509Message {
    let authority = mesh.authority(id.trust_domain());
    entry(authority, id, [authority.root_certificate()])
}

/// A newly issued SVID with these roots.
fn entry<'r>(
    authority: &DevCa,
    id: &SpiffeId,
    roots: impl IntoIterator<Item = &'r CertificateDer<'static>>,
) -> X509Message {
    let issued = authority.issue(id, UnixTime::now()).unwrap();
    X509Message::new().with(X509Entry::new(id, &issued, roots))
}

/// How long the SVIDs are valid that are rotated, so that the test is soon over.
const LIFETIME: Duration = Duration::from_secs(8);

/// An SVID for as long, and its certificate.
fn short(authority: &DevCa, id: &SpiffeId) -> (X509Message, CertificateDer<'static>) {
    let now = UnixTime::now();
    let template = Template {
        not_after: UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + LIFETIME),
        ..Template::leaf(id, now)
    };
    let issued = authority.issue_with(template).unwrap();
    let message = X509Message::new().svid(id, &issued, authority);
    (message, issued.chain()[0].clone())
}

/// The tunnel outlives the SVIDs that it began with.
#[tokio::test]
async fn ten_rotations_reach_new_connections_and_leave_tunnels_alone() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let authority = mesh.authority(server().trust_domain());
    let (near, far) = (Agent::start(), Agent::start());
    near.api.say_x509(short(authority, &client()).0);
    far.api.say_x509(short(authority, &server()).0);
    let (serving, peer) = far.serve(&client()).await;
    let (dialing, addr) = near.listen(peer, echo.addr).await;
    let mut tunnel = Tunnel::open(addr).await;
    let tls = mesh.client_tls(&client(), PeerPolicy::exact(server()));
    for rotation in 1..=10 {
        tokio::time::sleep(LIFETIME / 4).await;
        let mut certificates = Vec::new();
        for (agent, id, process) in [(&near, client(), &dialing), (&far, server(), &serving)] {
            let (message, certificate) = short(authority, &id);
            agent.api.say_x509(message);
            certificates.push(certificate);
            let lines = process.says_times("svid rotated: ", rotation).await;
            let of_this = format!("svid rotated: {id}, expires in ");
            assert!(lines.iter().all(|line| line.contains(&of_this)), "{lines:?}");
        }
        tunnel.exchange().await;
        let answering = look(peer, &tls).await.unwrap();
        assert_eq!(answering.chain()[0], certificates[1], "{rotation}");
        exchange(TcpStream::connect(addr).await.unwrap(), 1, 1000).await;
    }
    tunnel.finish().await;
}

/// Prepare, activate, taint, revoke: at each step new connections are made, and at the end none by
/// the old root. Those that are open then end if it vouches for their peer, and only those.
#[tokio::test]
async fn a_root_is_replaced_step_by_step() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let (near, far) = (Agent::of(&mesh, &client()), Agent::of(&mesh, &server()));
    let (serving, peer) = far.serve(&client()).await;
    let (_dialing, addr) = near.listen(peer, echo.addr).await;
    let mut tunnel = Tunnel::open(addr).await;

    let old = mesh.authority(server().trust_domain());
    let new = DevCa::new(server().trust_domain().clone(), UnixTime::now()).unwrap();
    let (old_root, new_root) = (old.root_certificate(), new.root_certificate());
    let by = |authority: &DevCa| {
        let bundles = TrustBundles::from(
            mesh_identity::TrustBundle::new(client().trust_domain().clone(), [old_root.clone(), new_root.clone()])
                .unwrap(),
        );
        let issued = authority.issue(&client(), UnixTime::now()).unwrap();
        ClientTls::builder(mesh.provider())
            .identity(Arc::new(issued.svid(&mesh.provider(), UnixTime::now()).unwrap()))
            .trust(Arc::new(bundles))
            .authorize(PeerPolicy::exact(server()))
            .build()
            .unwrap()
    };
    let (by_old, by_new) = (by(old), by(&new));
    assert!(look(peer, &by_old).await.is_some() && look(peer, &by_new).await.is_none());

    let steps: [(&DevCa, &[&CertificateDer<'static>], bool); 3] = [
        (old, &[old_root, new_root], true),
        (&new, &[old_root, new_root], true),
        (&new, &[new_root], false),
    ];
    let moved = Agent::start();
    let mut kept = None;
    for (step, (authority, roots, old_is_believed)) in steps.into_iter().enumerate() {
        far.api.say_x509(entry(authority, &server(), roots.iter().copied()));
        serving.says_times("svid rotated: ", step + 1).await;
        assert_eq!(look(peer, &by_old).await.is_some(), old_is_believed, "step {step}");
        assert!(look(peer, &by_new).await.is_some(), "step {step}");
        match old_is_believed {
            true => tunnel.exchange().await,
            false => tunnel.is_reset().await,
        }
        if step == 1 {
            // The old authority is tainted: whoever has an SVID of it gets one of the new.
            moved.api.say_x509(entry(&new, &client(), [old_root, new_root]));
            let (process, addr) = moved.listen(peer, echo.addr).await;
            kept = Some((Tunnel::open(addr).await, process));
        }
    }
    let (mut kept, _process) = kept.unwrap();
    kept.exchange().await;
    kept.finish().await;
}

#[tokio::test]
async fn two_trust_domains_federate_for_as_long_as_both_say_so() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let (near, far) = (Agent::start(), Agent::start());
    let root = |id: &SpiffeId| mesh.authority(id.trust_domain()).root_certificate();
    let federated =
        |own: &SpiffeId, other: &SpiffeId| message(&mesh, own).federated(other.trust_domain(), [root(other)]);
    near.api.say_x509(federated(&stranger(), &server()));
    far.api.say_x509(federated(&server(), &stranger()));
    let (serving, peer) = far.serve(&stranger()).await;
    let (_dialing, addr) = near.listen(peer, echo.addr).await;
    exchange(TcpStream::connect(addr).await.unwrap(), 1, 1000).await;

    let tls = mesh.client_tls(&stranger(), PeerPolicy::exact(server()));
    assert!(look(peer, &tls).await.is_some());
    far.api.say_x509(message(&mesh, &server()));
    serving.says("svid rotated: ").await;
    assert!(look(peer, &tls).await.is_none());
}

#[tokio::test]
async fn an_agent_that_stops_takes_nothing_away() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let (near, far) = (Agent::of(&mesh, &client()), Agent::of(&mesh, &server()));
    let (serving, peer) = far.serve(&client()).await;
    let (_dialing, addr) = near.listen(peer, echo.addr).await;
    let mut tunnel = Tunnel::open(addr).await;
    far.api.stop();
    let line = serving.says("no connection to the workload api").await;
    assert!(line.contains("identity=\"kept\""), "{line}");
    tunnel.exchange().await;
    let tls = mesh.client_tls(&client(), PeerPolicy::exact(server()));
    assert!(look(peer, &tls).await.is_some());

    far.api.say_x509(message(&mesh, &server()));
    far.api.listen(&far.socket);
    serving.says("svid rotated: ").await;
    assert!(look(peer, &tls).await.is_some());
    tunnel.finish().await;
}

#[tokio::test]
async fn an_identity_that_is_withdrawn_makes_no_new_connections() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let (near, far) = (Agent::of(&mesh, &client()), Agent::of(&mesh, &server()));
    let (serving, peer) = far.serve(&client()).await;
    let (_dialing, addr) = near.listen(peer, echo.addr).await;
    let mut tunnel = Tunnel::open(addr).await;
    far.api
        .say_x509(Reply::Status(code::PERMISSION_DENIED, "no identity issued".into()));
    let line = serving.says("status 7: `no identity issued`").await;
    assert!(line.contains("identity=\"gone\""), "{line}");
    let line = serving.says("connection drained").await;
    assert!(line.contains("reason=this side's identity was withdrawn"), "{line}");
    tunnel.exchange().await;
    let tls = mesh.client_tls(&client(), PeerPolicy::exact(server()));
    assert!(look(peer, &tls).await.is_none());
    let line = serving.says("connection refused").await;
    assert!(line.contains("from=127.0.0.1:") && line.contains("reason="), "{line}");
    // Its drain has an end.
    tunnel.is_reset().await;

    far.api.say_x509(message(&mesh, &server()));
    serving.says("svid rotated: ").await;
    assert!(look(peer, &tls).await.is_some());
}

/// A program stays who it was when it started, and is nobody when it is no longer that.
#[tokio::test]
async fn the_identity_of_another_is_not_taken() {
    let mesh = Mesh::new();
    let far = Agent::of(&mesh, &server());
    let (_serving, peer) = far.serve(&client()).await;
    let anybody = PeerPolicy::exact(server()).or(PeerPolicy::exact(waypoint()));
    let tls = mesh.client_tls(&client(), anybody);
    assert_eq!(look(peer, &tls).await.unwrap().id(), &server());
    far.api.say_x509(message(&mesh, &waypoint()));
    let refused = async || look(peer, &tls).await.is_none().then_some(());
    eventually("refusal", refused).await;
}

#[tokio::test]
async fn stdin_goes_through_a_tunnel_under_an_agents_identity() {
    let (mesh, echo) = (Mesh::new(), App::echo().await);
    let (near, far) = (Agent::of(&mesh, &client()), Agent::of(&mesh, &server()));
    let (_serving, peer) = far.serve(&client()).await;
    let mut command = near.command("dial");
    command.args(["--peer", &peer.to_string(), "--target", &echo.addr.to_string()]);
    command.args(["--expect", &server().to_string()]);
    let mut process = Process::start(&mut command);
    assert_eq!(process.ready().await["identity"], client().to_string());
    assert_eq!(process.end().await.0, Some(0));
}

#[tokio::test]
async fn a_program_without_an_identity_says_why() {
    let agent = Agent::start();
    let mut command = agent.command("serve");
    command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string()]);
    let (code, lines) = Process::start(&mut command).end().await;
    assert_eq!(code, Some(2));
    assert_eq!(
        lines,
        [format!(
            "hbone-cat: --workload-api {}: no identity in 10 s: \
             the workload api answers with status 7: `no identity issued`",
            agent.socket.display()
        )]
    );
}

#[tokio::test]
async fn an_identity_comes_from_one_place() {
    let agent = Agent::start();
    for (flag, value) in [("--cert", "a"), ("--key", "a"), ("--roots", "a")] {
        let mut command = agent.command("serve");
        command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string(), flag, value]);
        let (code, lines) = Process::start(&mut command).end().await;
        assert_eq!((code, lines.len()), (Some(2), 1), "{lines:?}");
        assert!(
            lines[0].contains("'--workload-api <SOCKET>' cannot be used with"),
            "{lines:?}"
        );
    }
}
