//! A waypoint with a service behind it, whose endpoints are workloads of a node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use hbone::metadata::{Baggage, Metadata};
use hbone::{Client, Config, Lost, OpenError, TunnelRequest, TunnelStream};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_identity::PeerPolicy;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::nodes::{Node, World, ask, files, identity};
use crate::shop::Shop;
use crate::world::{Process, eventually, soon};

/// The service `till.shop.svc`, port 80, has the endpoint `one`; `two.shop.svc` has `two`. Both pass
/// the waypoint.
pub struct Cluster {
    pub world: World,
    pub one: Shop,
    pub two: Shop,
    /// Takes tunnels for the endpoints while it is there.
    pub node: Option<Node>,
    pub waypoint: Process,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    objects: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

/// A client's connection to the waypoint.
pub struct Caller {
    pub client: Client,
    _connection: JoinSet<Result<(), Lost>>,
    authority: String,
}

impl Cluster {
    /// With these objects.
    pub async fn start(objects: &str) -> Self {
        Self::start_with(objects, "").await
    }

    /// With more in the configuration.
    pub async fn start_with(objects: &str, more: &str) -> Self {
        let world = World::new();
        let one = Shop::open(world.till(), "one").await;
        Self::start_in(world, one, objects, more).await
    }

    /// With another application behind `till`.
    pub async fn start_before(open: impl AsyncFnOnce(IpAddr) -> Shop) -> Self {
        let world = World::new();
        let one = open(world.till()).await;
        Self::start_in(world, one, "", "").await
    }

    /// With this application behind `till`, and no node before it.
    pub async fn start_without_node(world: World, one: Shop, objects: &str, more: &str) -> Self {
        let two = Shop::open(world.ip(4), "two").await;
        world.write(&mesh(&world, &one, &two));
        Self::start_among(world, (one, two), None, objects, more).await
    }

    async fn start_in(world: World, one: Shop, objects: &str, more: &str) -> Self {
        let two = Shop::open(world.ip(4), "two").await;
        world.write(&mesh(&world, &one, &two));
        let head = world.head("far", &["till"]) + &world.inbound(world.till()) + &world.inbound(world.ip(4));
        let node = world.start("far", &head).await;
        Self::start_among(world, (one, two), Some(node), objects, more).await
    }

    async fn start_among(
        world: World,
        (one, two): (Shop, Shop),
        node: Option<Node>,
        objects: &str,
        more: &str,
    ) -> Self {
        let folder = world.pki.path().join("objects");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("objects.yaml");
        fs::write(&file, NAMESPACE.to_owned() + objects).unwrap();
        let config = world.pki.path().join("waypoint.toml");
        fs::write(&config, configuration(&world, &folder.display().to_string(), more)).unwrap();
        let mut waypoint = Process::start(&mut waypoint(&config));
        let ready = waypoint.ready().await;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stdout, lines) = (waypoint.take_stdout(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                lines.lock().unwrap().push(line.unwrap());
            }
        });
        Self {
            addr: ready["inbound"][0].as_str().unwrap().parse().unwrap(),
            admin: ready["admin"].as_str().unwrap().parse().unwrap(),
            world,
            one,
            two,
            node,
            waypoint,
            objects: file,
            log,
        }
    }

    /// Has the waypoint know other objects.
    pub async fn change(&self, objects: &str, times: usize) {
        fs::write(&self.objects, NAMESPACE.to_owned() + objects).unwrap();
        self.waypoint.says_times("routes and policies changed", times).await;
    }

    /// Connects as somebody, to use the service.
    pub async fn call(&self, account: &str) -> Caller {
        self.call_at(account, &format!("{}:80", self.world.vip())).await
    }

    pub async fn call_at(&self, account: &str, authority: &str) -> Caller {
        let waypoint = PeerPolicy::exact(identity("waypoint"));
        let tls = self.world.pki.mesh.client_tls(&identity(account), waypoint);
        let dialled = soon("connection", hbone::tls::dial(self.addr, &tls, &Config::default())).await;
        let (client, connection) = dialled.unwrap();
        let mut task = JoinSet::new();
        task.spawn(connection);
        Caller {
            client,
            _connection: task,
            authority: authority.to_owned(),
        }
    }

    /// The counters that begin so, without those that are 0.
    pub async fn counters(&self, name: &str) -> Vec<String> {
        let (_, text) = ask(self.admin, "GET", "/metrics").await;
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && !line.ends_with(" 0"));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    /// What the access log has told so far.
    pub fn told(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for the access log to tell something of which `is` holds.
    pub async fn tells(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || {
            let lines = self.told();
            let records = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            records.into_iter().find(|record| is(record))
        })
        .await
    }
}

impl Caller {
    pub async fn open(&self) -> Result<TunnelStream, OpenError> {
        let request = TunnelRequest::new(self.authority.parse().unwrap());
        soon("tunnel", self.client.open(request)).await
    }

    /// A tunnel of who calls itself so.
    pub async fn open_as(&self, baggage: Baggage) -> TunnelStream {
        let metadata = Metadata::new().with_baggage(baggage);
        let request = TunnelRequest::new(self.authority.parse().unwrap()).with_metadata(metadata);
        soon("tunnel", self.client.open(request)).await.unwrap()
    }

    /// What bytes are answered, after which the client ends its side, until the waypoint does.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut tunnel = self.open().await.unwrap();
        tunnel.write_all(bytes).await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It may end in a reset.
        drop(soon("answer", tunnel.read_to_end(&mut answer)).await);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A request by HTTP/1.1 on a tunnel of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        send(self.open().await.unwrap(), request).await
    }

    /// A tunnel for many requests by HTTP/2.
    pub async fn http2(&self) -> (http2::SendRequest<Full<Bytes>>, JoinSet<hyper::Result<()>>) {
        http2(self.open().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Response<Bytes> {
        self.send(get(path, &[])).await
    }
}

/// A request by HTTP/1.1 on a connection of its own.
pub async fn send(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let (mut send, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    whole(soon("answer", send.send_request(request)).await.unwrap()).await
}

/// A connection for many requests by HTTP/2.
pub async fn http2(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> (http2::SendRequest<Full<Bytes>>, JoinSet<hyper::Result<()>>) {
    let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    (send, tasks)
}

/// A request to the service.
pub fn get(path: &str, lines: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::get(path).header("host", "till.shop.svc");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

pub async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, soon("content", body.collect()).await.unwrap().to_bytes())
}

/// What the application tells.
pub fn told(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap_or_else(|_| panic!("{response:?}"))
}

/// The command `waypoint` with this configuration.
pub fn waypoint(config: &std::path::Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_waypoint"));
    program.arg("--config").arg(config).arg("--json").env_remove("RUST_LOG");
    program
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";

fn mesh(world: &World, one: &Shop, two: &Shop) -> String {
    let waypoint = "waypoint: {destination: {namespace: shop, hostname: waypoint.shop.svc}, hboneMtlsPort: 15008}";
    let of = |service: &str, shop: &Shop| {
        format!(
            "services: {{shop/{service}.shop.svc: {{80: {}}}}}",
            shop.app.addr.port()
        )
    };
    let second = world.workload("two", 4, "far", &of("two", two));
    format!(
        "workloads:\n{}{}{}services:\n\
         - {{name: till, namespace: shop, hostname: till.shop.svc, vips: [/{}], ports: {{80: 80}}, {waypoint}}}\n\
         - {{name: two, namespace: shop, hostname: two.shop.svc, vips: [/{}], ports: {{80: 80}}, {waypoint}}}\n\
         - {{name: free, namespace: shop, hostname: free.shop.svc, vips: [/{}], ports: {{80: 80}}}}\n\
         - {{name: waypoint, namespace: shop, hostname: waypoint.shop.svc, vips: [/{}], ports: {{15008: 15008}}}}\n",
        world.workload("cart", 1, "near", ""),
        world.workload("till", 2, "far", &of("till", one)),
        // It is the till, too.
        second.replace("serviceAccount: two", "serviceAccount: till"),
        world.vip(),
        world.ip(101),
        world.ip(102),
        world.ip(103),
    )
}

pub fn configuration(world: &World, objects: &str, more: &str) -> String {
    let (more, settings) = more.split_once("[settings]\n").unwrap_or((more, ""));
    let traffic = match more.contains("[traffic]") {
        true => more.replace("[traffic]", &format!("[traffic]\nobjects = [{objects:?}]")),
        false => format!("[traffic]\nobjects = [{objects:?}]\n{more}"),
    };
    format!(
        "name = \"waypoint\"\nnamespace = \"shop\"\nservice_account = \"waypoint\"\ntrust_domain = \"cluster.local\"\n\
         [mesh]\nfile = {:?}\n{}[[inbound]]\nbind = \"{}:0\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [settings]\naccess_log = \"json\"\ndrain_seconds = 2\ncluster = \"c1\"\nhbone_port = {}\n{settings}{traffic}",
        world.mesh_file,
        files(&world.pki.issue(&identity("waypoint"))),
        world.ip(103),
        world.hbone_port,
    )
}
