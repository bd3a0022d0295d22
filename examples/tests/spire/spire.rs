//! A running SPIRE.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use mesh_identity::source::workload_api::{Config, Endpoint, WorkloadApi};
use mesh_identity::source::{Follower, Source};
use mesh_identity::tls::ClientTls;
use mesh_identity::{PeerPolicy, SpiffeId, TrustDomain, provider};
use rustix::process::getuid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::world::{Process, eventually, free_addr, peer};

/// The server of a trust domain. Killed when dropped; its log is shown if the test fails.
pub struct Server {
    pub trust_domain: TrustDomain,
    addr: SocketAddr,
    bundles: SocketAddr,
    folder: TempDir,
    _process: Process,
}

impl Server {
    pub async fn start(trust_domain: &str) -> Self {
        let (addr, bundles, folder) = (free_addr(), free_addr(), tempfile::tempdir().unwrap());
        let config = folder.path().join("server.conf");
        let text = include_str!("server.conf")
            .replace("@TRUST_DOMAIN@", trust_domain)
            .replace("@PORT@", &addr.port().to_string())
            .replace("@BUNDLE_PORT@", &bundles.port().to_string())
            .replace("@FOLDER@", folder.path().to_str().unwrap());
        fs::write(&config, text).unwrap();
        let mut command = logging_to_stderr("spire-server");
        let server = Self {
            trust_domain: trust_domain.parse().unwrap(),
            addr,
            bundles,
            _process: Process::start(command.args(["run", "-config"]).arg(config)),
            folder,
        };
        let healthy = async || {
            server
                .command("healthcheck")
                .output()
                .unwrap()
                .status
                .success()
                .then_some(())
        };
        eventually("SPIRE's server", healthy).await;
        server
    }

    /// An ID of the trust domain.
    pub fn id(&self, path: &str) -> SpiffeId {
        format!("spiffe://{}{path}", self.trust_domain).parse().unwrap()
    }

    /// Who serves the bundle of the trust domain, and where.
    pub fn bundle_endpoint(&self) -> (SpiffeId, String) {
        (self.id("/spire/server"), format!("https://{}", self.bundles))
    }

    /// Runs `spire-server COMMAND ARGUMENTS`; answers with what it prints.
    pub fn run(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.command(command).args(arguments).output().unwrap();
        let (printed, complaint) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command} {arguments:?}: {complaint}");
        String::from_utf8(printed).unwrap()
    }

    /// The same, as JSON.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Value {
        let printed = self.run(command, &[arguments, &["-output", "json"]].concat());
        serde_json::from_str(&printed).unwrap()
    }

    /// Has agents give `id` to whoever asks them, in SVIDs that are valid for `seconds`.
    pub fn register(&self, agent: &str, id: &SpiffeId, seconds: u32, further: &[&str]) {
        let (parent, id, seconds) = (self.id(agent).to_string(), id.to_string(), seconds.to_string());
        let uid = format!("unix:uid:{}", getuid().as_raw());
        let entry = [
            "-parentID",
            &parent,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
            "-x509SVIDTTL",
            &seconds,
        ];
        self.run("entry create", &[&entry, further].concat());
    }

    /// An agent with the name `name`, which is the path of an ID.
    pub async fn agent(&self, name: &str) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let token = self.ask("token generate", &["-spiffeID", &self.id(name).to_string()]);
        fs::write(folder.path().join("bundle.pem"), self.run("bundle show", &[])).unwrap();
        let config = folder.path().join("agent.conf");
        let text = include_str!("agent.conf")
            .replace("@TRUST_DOMAIN@", self.trust_domain.as_str())
            .replace("@PORT@", &self.addr.port().to_string())
            .replace("@FOLDER@", folder.path().to_str().unwrap());
        fs::write(&config, text).unwrap();
        let mut command = logging_to_stderr("spire-agent");
        command.args(["run", "-joinToken", token["value"].as_str().unwrap(), "-config"]);
        let agent = Agent {
            process: Process::start(command.arg(config)),
            socket: folder.path().join("agent.sock"),
            _folder: folder,
        };
        eventually("SPIRE's agent", async || agent.socket.exists().then_some(())).await;
        agent
    }

    fn command(&self, command: &str) -> Command {
        let mut program = Command::new(peer("spire-server"));
        program.args(command.split(' '));
        program.arg("-socketPath").arg(self.folder.path().join("server.sock"));
        program
    }
}

/// The agent of one workload. Killed when dropped; its log is shown if the test fails.
pub struct Agent {
    pub socket: PathBuf,
    process: Process,
    _folder: TempDir,
}

impl Agent {
    pub fn stop(&mut self) {
        self.process.kill();
    }
}

/// This process as the workload of an agent.
pub struct Workload {
    pub api: WorkloadApi,
    _driver: JoinSet<()>,
}

impl Workload {
    pub async fn of(agent: &Agent) -> Self {
        let mut config = Config::new(provider::aws_lc_rs());
        config.follow_jwt_bundles();
        let (api, driver) = WorkloadApi::new(&Endpoint::unix(&agent.socket).unwrap(), config);
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let workload = Self { api, _driver: tasks };
        let known = async || workload.follow().snapshot().default_svid().map(|_| ());
        eventually("an SVID", known).await;
        workload
    }

    pub fn follow(&self) -> Follower {
        self.api.follow()
    }

    /// A client with the identity and the trust of this moment.
    pub fn tls(&self, peers: PeerPolicy) -> ClientTls {
        let snapshot = self.follow().snapshot();
        ClientTls::builder(provider::aws_lc_rs())
            .identity(Arc::clone(snapshot.default_svid().unwrap()))
            .trust(Arc::clone(snapshot.trust()))
            .authorize(peers)
            .build()
            .unwrap()
    }
}

/// SPIRE logs to stdout, which nobody reads.
fn logging_to_stderr(name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" >&2"#]).arg(peer(name));
    command
}
