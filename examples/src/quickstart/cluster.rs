//! The nodes and the control plane: files, processes and addresses.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::objects::{self, Pod};
use super::patience::until;
use super::program::{Program, Role};
use super::undeclared::Undeclared;
use crate::topology::{Sources, get, post};

/// The nodes, with the tokens of their proxies.
pub(super) const NODE_1: (&str, &str) = ("node-1", "token-of-the-first-node");
pub(super) const NODE_2: (&str, &str) = ("node-2", "token-of-the-second-node");

/// Where tunnels are taken, if nobody else has that port.
const HBONE_PORT: u16 = 15008;

/// Ports that are tried instead.
const OTHER_PORTS: usize = 100;

/// Seconds that certificates live, so short that they are renewed while somebody watches.
const CERTIFICATE_SECONDS: u32 = 4;

/// A block of loopback addresses, one for each workload and service.
#[derive(Clone, Copy)]
pub(super) struct Block([u8; 2]);

impl Block {
    /// One that no other mesh on this machine is likely to have.
    pub(super) fn choose() -> Self {
        let [low, high, ..] = std::process::id().to_le_bytes();
        Self([high % 200 + 20, low])
    }

    pub(super) fn ip(self, number: u8) -> IpAddr {
        let Self([high, low]) = self;
        [127, high, low, number].into()
    }

    /// A port that can be bound at all of these addresses.
    fn free_port(ips: &[IpAddr]) -> Result<u16, Undeclared> {
        let is_free = |port: u16| ips.iter().all(|ip| TcpListener::bind((*ip, port)).is_ok());
        let mut port = HBONE_PORT;
        for _ in 0..OTHER_PORTS {
            if is_free(port) {
                return Ok(port);
            }
            port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        }
        Err(Undeclared::NoPort)
    }
}

/// Everything that is not an application.
pub(super) struct Cluster {
    dir: TempDir,
    pub(super) control_plane: Program,
    pub(super) node_1: Program,
    pub(super) node_2: Program,
    pub(super) waypoint: Program,
    pub(super) hbone_port: u16,
}

/// What is behind a waypoint, and where that is.
pub(super) struct Mediated {
    /// Of the waypoint and of its service.
    pub(super) waypoint: (IpAddr, IpAddr),
    /// The addresses of workloads of node 2.
    pub(super) ips: Vec<IpAddr>,
    /// The services as objects.
    pub(super) services: String,
}

impl Cluster {
    /// Writes the objects and starts everything. `exposed` is where node 2 takes connections without
    /// a tunnel for.
    pub(super) async fn start(pods: &[Pod], exposed: SocketAddr, mediated: &Mediated) -> Result<Self, Undeclared> {
        let dir = tempfile::Builder::new().prefix("quickstart-").tempdir()?;
        let objects = dir.path().join("objects");
        fs::create_dir(&objects)?;
        let of_node = |node: &str| {
            let pods = pods.iter().filter(|pod| pod.node == node);
            pods.map(|pod| pod.ip).collect::<Vec<_>>()
        };
        let (ips_1, ips_2) = (of_node(NODE_1.0), [of_node(NODE_2.0), mediated.ips.clone()].concat());
        let (own, service) = mediated.waypoint;
        let hbone_port = Block::free_port(&[&*ips_1, &*ips_2, &[own]].concat())?;
        for (name, text) in [
            ("namespace.yaml", objects::namespace(false)),
            ("workloads.yaml", &objects::pods(pods)),
            ("node-proxies.yaml", &objects::agents(&[NODE_1, NODE_2])),
            ("waypoint.yaml", &objects::waypoint::waypoint(own, service, hbone_port)),
            ("services.yaml", &mediated.services),
        ] {
            fs::write(objects.join(name), text)?;
        }
        let control_plane = Program::start(Role::ControlPlane, plane_args(&dir, "127.0.0.1:0", "127.0.0.1:0")).await?;
        let server = address(&control_plane, "addr")?;
        let inbound = |ips: &[IpAddr]| -> String {
            ips.iter()
                .map(|ip| format!("[[inbound]]\nbind = \"{ip}:{hbone_port}\"\n"))
                .collect()
        };
        let socks5 = "[[socks5]]\nbind = \"127.0.0.1:0\"\n".to_owned();
        let plaintext = format!("[[plaintext]]\nbind = \"127.0.0.1:0\"\ndestination = \"{exposed}\"\n");
        let common = (&dir, server, hbone_port);
        let node_1 = node(common, NODE_1, &(inbound(&ips_1) + &socks5)).await?;
        let node_2 = node(common, NODE_2, &(inbound(&ips_2) + &plaintext)).await?;
        let waypoint = waypoint((&dir, server, hbone_port), own).await?;
        for node in [&node_1, &node_2, &waypoint] {
            let admin = address(node, "admin")?;
            until("readiness of a node", async || {
                Ok(get(admin, "/healthz/ready").await.ok())
            })
            .await?;
        }
        Ok(Self {
            dir,
            control_plane,
            node_1,
            node_2,
            waypoint,
            hbone_port,
        })
    }

    /// Where the objects are.
    pub(super) fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Where the authority's roots are.
    pub(super) fn roots(&self) -> PathBuf {
        self.dir.path().join("roots.pem")
    }

    pub(super) fn token(&self, node: &str) -> PathBuf {
        self.dir.path().join(format!("{node}.token"))
    }

    /// Puts a file of objects in place of another, in one step.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Undeclared> {
        let partial = self.dir.path().join("partial");
        fs::write(&partial, text)?;
        Ok(fs::rename(&partial, self.objects().join(name))?)
    }

    /// Starts the control plane again, where it was.
    pub(super) async fn restart_control_plane(&mut self) -> Result<(), Undeclared> {
        let addr = |field| address(&self.control_plane, field).map(|addr| addr.to_string());
        let args = plane_args(&self.dir, &addr("addr")?, &addr("admin")?);
        self.control_plane = Program::start(Role::ControlPlane, args).await?;
        Ok(())
    }

    /// Takes a step of replacing the authority's root.
    pub(super) async fn replace_root(&self, step: &str) -> Result<(), Undeclared> {
        let admin = address(&self.control_plane, "admin")?;
        post(admin, &format!("/authority?step={step}")).await?;
        Ok(())
    }

    /// The names of the policies that a workload's node holds connections to it to.
    pub(super) async fn policies_of(&self, workload: &str) -> Result<Vec<String>, Undeclared> {
        let dumps = [
            dump(address(&self.node_1, "admin")?).await?,
            dump(address(&self.node_2, "admin")?).await?,
        ];
        let mut residents = dumps
            .iter()
            .filter_map(|dump| dump.get("residents")?.as_array())
            .flatten();
        let is_it = |resident: &&Value| {
            let uid = resident.get("uid").and_then(Value::as_str).unwrap_or_default();
            uid.rsplit('/').next() == Some(workload)
        };
        let found = residents.find(is_it);
        let policies = found.and_then(|resident| resident.get("policies")?.as_array());
        let names = policies.into_iter().flatten().filter_map(Value::as_str);
        Ok(names.map(str::to_owned).collect())
    }

    /// When each certificate of the nodes ends.
    pub(super) async fn certificates(&self) -> Result<Vec<(String, u64)>, Undeclared> {
        let mut ends = Vec::new();
        for node in [&self.node_1, &self.node_2] {
            let dump = dump(address(node, "admin")?).await?;
            let listed = dump.get("certificates").and_then(Value::as_array);
            for certificate in listed.into_iter().flatten() {
                let identity = certificate.get("identity").and_then(Value::as_str);
                let end = certificate.get("notAfter").and_then(Value::as_u64);
                ends.extend(identity.map(str::to_owned).zip(end));
            }
        }
        ends.sort();
        Ok(ends)
    }

    /// Waits until every certificate has been replaced; answers how many.
    pub(super) async fn renewed(&self) -> Result<usize, Undeclared> {
        let before = self.certificates().await?;
        until("new certificates", async || {
            let now = self.certificates().await?;
            let is_new =
                |(identity, end): &(String, u64)| now.iter().any(|(own, later)| own == identity && later > end);
            Ok(before.iter().all(is_new).then_some(now.len()))
        })
        .await
    }

    /// The node proxies are the processes that were started.
    pub(super) fn still_run(&mut self) -> Result<(), Undeclared> {
        self.node_1.still_runs()?;
        self.node_2.still_runs()?;
        self.waypoint.still_runs()
    }

    pub(super) fn sources(&self) -> Result<Sources, Undeclared> {
        Ok(Sources {
            control_plane: address(&self.control_plane, "admin")?,
            node_proxies: vec![
                (NODE_1.0.to_owned(), address(&self.node_1, "admin")?),
                (NODE_2.0.to_owned(), address(&self.node_2, "admin")?),
                ("waypoint".to_owned(), address(&self.waypoint, "admin")?),
            ],
        })
    }

    pub(super) async fn stop(self) {
        tokio::join!(
            self.node_1.stop(),
            self.node_2.stop(),
            self.waypoint.stop(),
            self.control_plane.stop()
        );
    }
}

/// An address, or the first of several, that a ready line tells.
pub(super) fn address(program: &Program, field: &str) -> Result<SocketAddr, Undeclared> {
    let told = program.ready.get(field);
    let told = told.map(|told| told.as_array().and_then(|all| all.first()).unwrap_or(told));
    let addr = told.and_then(Value::as_str).and_then(|text| text.parse().ok());
    addr.ok_or_else(|| Undeclared::Other {
        wanted: "a ready line has addresses",
        seen: program.ready.to_string(),
    })
}

async fn dump(admin: SocketAddr) -> Result<Value, Undeclared> {
    Ok(serde_json::from_str(&get(admin, "/config_dump").await?)?)
}

fn plane_args(dir: &TempDir, bind: &str, admin: &str) -> Vec<OsString> {
    let [objects, roots, state] = ["objects", "roots.pem", "authority"].map(|name| dir.path().join(name));
    let words = ["--bind", bind, "--admin", admin, "--tls", "127.0.0.1", "--dir"];
    let mut args: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    args.extend([objects.into(), "--roots".into(), roots.into()]);
    args.extend(["--state".into(), state.into()]);
    args
}

async fn waypoint((dir, server, hbone_port): (&TempDir, SocketAddr, u16), ip: IpAddr) -> Result<Program, Undeclared> {
    let config = dir.path().join("waypoint.toml");
    fs::write(dir.path().join("waypoint.token"), objects::waypoint::TOKEN)?;
    let server = format!("{{address = \"{server}\", roots = \"roots.pem\", token = \"waypoint.token\"}}");
    let text = format!(
        "name = \"waypoint\"\nnamespace = \"shop\"\nservice_account = \"waypoint\"\ntrust_domain = \"cluster.local\"\n\
         mesh.xds = {server}\nidentity.istio_ca = {server}\n[[inbound]]\nbind = \"{ip}:{hbone_port}\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n[settings]\nhbone_port = {hbone_port}\ndrain_seconds = 1\n\
         certificate_seconds = {CERTIFICATE_SECONDS}\naccess_log = \"json\"\n"
    );
    fs::write(&config, text)?;
    Program::start(Role::Waypoint, ["--config".into(), config.into()]).await
}

async fn node(
    (dir, server, hbone_port): (&TempDir, SocketAddr, u16),
    (name, token): (&str, &str),
    listeners: &str,
) -> Result<Program, Undeclared> {
    let config = dir.path().join(format!("{name}.toml"));
    fs::write(dir.path().join(format!("{name}.token")), token)?;
    let server = format!("{{address = \"{server}\", roots = \"roots.pem\", token = \"{name}.token\"}}");
    let text = format!(
        "node = \"{name}\"\ntrust_domain = \"cluster.local\"\nmesh.xds = {server}\nidentity.istio_ca = {server}\n\
         {listeners}[admin]\nbind = \"127.0.0.1:0\"\n[settings]\nhbone_port = {hbone_port}\ndrain_seconds = 1\n\
         certificate_seconds = {CERTIFICATE_SECONDS}\naccess_log = \"json\"\n"
    );
    fs::write(&config, text)?;
    Program::start(Role::NodeProxy, ["--config".into(), config.into()]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_others_have_no_free_port() {
        // For documentation (RFC 5737): no machine has it.
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        assert!(matches!(Block::free_port(&[elsewhere]), Err(Undeclared::NoPort)));
        assert!(Block::free_port(&[Block::choose().ip(200)]).is_ok());
    }
}
