//! What nodes are told, as mesh-xds's own client hears it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_xds::client::{Apply, Driver, Handle, StreamEnd};
use mesh_xds::delta::{ClientConfig, Outcome, Push, Refusal};
use mesh_xds::store::{Snapshot, Store};
use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::Resource;
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost_types::{Struct, Value, value::Kind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

use crate::plane::{FAR, NEAR, Plane, control_plane, namespace, pod, service};
use crate::world::{Process, eventually, soon};

struct Mesh {
    store: Store,
    snapshots: watch::Sender<Snapshot>,
    brought: mpsc::UnboundedSender<String>,
    refuse: Arc<AtomicBool>,
    ends: mpsc::UnboundedSender<String>,
}

impl Apply for Mesh {
    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        if self.refuse.load(Ordering::Relaxed) {
            let refuse = |resource: &Resource| Refusal {
                name: resource.name.clone(),
                reason: "<out of order>".to_owned(),
            };
            return push.resources().iter().map(refuse).collect();
        }
        let refusals = self.store.apply(push);
        assert!(refusals.is_empty(), "{refusals:?}");
        self.snapshots.send_replace(self.store.snapshot());
        let brought = push.resources().iter().map(|resource| resource.name.clone());
        let gone = push.removed().iter().map(|name| format!("-{name}"));
        for name in brought.chain(gone) {
            drop(self.brought.send(name));
        }
        refusals
    }

    fn ended(&mut self, end: &StreamEnd) {
        drop(self.ends.send(end.to_string()));
    }
}

struct Client {
    handle: Handle,
    snapshots: watch::Receiver<Snapshot>,
    /// Names of resources, and with a `-` of those that are gone.
    brought: mpsc::UnboundedReceiver<String>,
    /// Whether it refuses everything.
    refuse: Arc<AtomicBool>,
    ends: mpsc::UnboundedReceiver<String>,
    _task: JoinSet<()>,
}

impl Client {
    fn new(plane: &Plane, token: &'static str, is_on_demand: bool) -> Self {
        let name = Value {
            kind: Some(Kind::StringValue("near".to_owned())),
        };
        let node = Node {
            metadata: Some(Struct {
                fields: BTreeMap::from([("NODE_NAME".to_owned(), name)]),
            }),
            ..Node::default()
        };
        let config = ClientConfig::new(node).all(AUTHORIZATION_TYPE_URL);
        let config = match is_on_demand {
            true => config.on_demand(ADDRESS_TYPE_URL),
            false => config.all(ADDRESS_TYPE_URL),
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", plane.addr)).unwrap();
        let transport = InterceptedService::new(endpoint.connect_lazy(), move |mut request: Request<()>| {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
            Ok(request)
        });
        let (driver, handle) = Driver::new(transport, config);
        let store = Store::new();
        let (sender, snapshots) = watch::channel(store.snapshot());
        let (told, ends) = mpsc::unbounded_channel();
        let refuse = Arc::new(AtomicBool::new(false));
        let refuses = Arc::clone(&refuse);
        let (bring, brought) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut mesh = Mesh {
                store,
                snapshots: sender,
                brought: bring,
                refuse: refuses,
                ends: told,
            };
            driver.run(&mut mesh).await;
        });
        Self {
            handle,
            snapshots,
            brought,
            refuse,
            ends,
            _task: task,
        }
    }

    async fn until(&mut self, what: &str, is: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        soon(what, self.snapshots.wait_for(is)).await.unwrap().clone()
    }
}

fn knows(mesh: &Snapshot, pod: &str) -> bool {
    mesh.workload(&format!("Kubernetes//Pod/shop/{pod}")).is_some()
}

#[tokio::test]
async fn a_directory_is_followed_and_a_bad_file_changes_nothing() {
    let objects = namespace("") + &pod("till", "10.0.0.1", "far");
    let plane = Plane::start(&objects).await;
    let mut client = Client::new(&plane, NEAR, false);
    client.until("till", |mesh| knows(mesh, "till")).await;

    plane
        .change(&(objects.clone() + &pod("cart", "10.0.0.2", "near")))
        .await;
    client.until("cart", |mesh| knows(mesh, "cart")).await;

    plane.write(
        &(objects.clone() + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec:\n  hostNetwork: perhaps\n"),
    );
    let line = plane.process.says("the mesh stays as it is").await;
    assert!(line.contains("objects.yaml:20: `spec.hostNetwork` is not"), "{line}");
    assert!(knows(&client.snapshots.borrow(), "cart"));
    let dump = plane.dump().await;
    assert!(dump["problem"].as_str().unwrap().contains("objects.yaml:20"));
    assert_eq!(dump["clients"], 1);

    plane.change(&objects).await;
    let mesh = client.until("end of cart", |mesh| !knows(mesh, "cart")).await;
    assert!(knows(&mesh, "till"));
    assert_eq!(plane.dump().await["problem"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_node_gets_its_own_and_what_it_asks_for() {
    let objects =
        pod("cart", "10.0.0.1", "near") + &pod("till", "10.0.0.2", "far") + &service("till", "10.96.0.1", 8080);
    let plane = Plane::start(&objects).await;
    let mut client = Client::new(&plane, NEAR, true);
    let mesh = client.until("own workload", |mesh| knows(mesh, "cart")).await;
    assert!(!knows(&mesh, "till"));
    let demand = client
        .handle
        .find(ADDRESS_TYPE_URL, "/10.96.0.1", Duration::from_secs(20));
    assert_eq!(demand.await, Ok(Outcome::Present));
    client
        .until("workload of the service", |mesh| knows(mesh, "till"))
        .await;
    let demand = client
        .handle
        .find(ADDRESS_TYPE_URL, "/10.96.0.9", Duration::from_secs(20));
    assert_eq!(demand.await, Ok(Outcome::Absent));
}

#[tokio::test]
async fn nobody_hears_anything_without_a_token() {
    let plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let mut client = Client::new(&plane, "not-a-token-of-anybody", false);
    let end = soon("refusal", client.ends.recv()).await.unwrap();
    assert!(end.contains("no valid bearer token"), "{end}");
    assert!(!knows(&client.snapshots.borrow(), "cart"));
}

#[tokio::test]
async fn it_ends_in_order_while_nodes_listen() {
    let mut plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let mut client = Client::new(&plane, NEAR, false);
    client.until("cart", |mesh| knows(mesh, "cart")).await;
    plane.process.terminate();
    assert_eq!(plane.process.end().await.0, Some(0));
}

#[tokio::test]
async fn after_a_restart_nodes_hear_what_has_changed_and_nothing_else() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {name: nobody, namespace: shop}\nspec: {}\n";
    let stays = pod("cart", "10.0.0.1", "near") + &service("cart", "10.96.0.1", 8080) + policy;
    let mut plane = Plane::start(&(stays.clone() + &pod("goes", "10.0.0.2", "near"))).await;
    let mut client = Client::new(&plane, NEAR, false);
    client
        .until("all", |mesh| {
            knows(mesh, "goes") && mesh.policy("shop/nobody").is_some()
        })
        .await;
    eventually("everything", async || {
        plane.dump().await["nodes"][0]["isCurrent"].as_bool().filter(|is| *is)
    })
    .await;
    while client.brought.try_recv().is_ok() {}
    let policy_stays = |mesh: &Snapshot| mesh.policy("shop/nobody").is_some();
    plane
        .restart(async |plane: &Plane| plane.write(&(stays.clone() + &pod("comes", "10.0.0.3", "near"))))
        .await;
    let watched = client.until("change", |mesh| {
        assert!(policy_stays(mesh), "no moment without the policy");
        knows(mesh, "comes") && !knows(mesh, "goes")
    });
    watched.await;
    let mut brought = vec![
        client.brought.recv().await.unwrap(),
        client.brought.recv().await.unwrap(),
    ];
    brought.sort();
    assert_eq!(brought, ["-Kubernetes//Pod/shop/goes", "Kubernetes//Pod/shop/comes"]);
    assert!(client.brought.try_recv().is_err());
}

#[tokio::test]
async fn a_directory_that_is_empty_all_at_once_is_not_taken() {
    let plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let mut client = Client::new(&plane, NEAR, false);
    client.until("cart", |mesh| knows(mesh, "cart")).await;
    let away = tempfile::tempdir().unwrap();
    for file in ["agents.yaml", "objects.yaml"] {
        std::fs::rename(plane.dir.path().join(file), away.path().join(file)).unwrap();
    }
    let line = plane.process.says("the mesh stays as it is").await;
    assert!(line.contains("there is no file that ends in .yaml"), "{line}");
    assert!(knows(&client.snapshots.borrow(), "cart") && client.ends.try_recv().is_err());
}

#[tokio::test]
async fn operators_see_who_is_behind_and_what_was_refused() {
    let plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let mut client = Client::new(&plane, NEAR, false);
    client.until("cart", |mesh| knows(mesh, "cart")).await;
    let standing = |dump: &serde_json::Value, field: &str| {
        let types = dump["nodes"][0]["types"].as_array().unwrap();
        let address = types.iter().find(|found| found["type"] == "istio.workload.Address");
        address.unwrap()[field].clone()
    };
    let dump = eventually("all is told", async || {
        let dump = plane.dump().await;
        (dump["nodes"][0]["isCurrent"] == true).then_some(dump)
    })
    .await;
    assert_eq!(dump["nodes"][0]["node"], "near");
    assert_eq!(standing(&dump, "refusal"), serde_json::Value::Null);

    client.refuse.store(true, Ordering::Relaxed);
    plane.change(&pod("till", "10.0.0.2", "near")).await;
    let refusal = eventually("refusal", async || {
        let refusal = standing(&plane.dump().await, "refusal");
        refusal.as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(refusal, "Kubernetes//Pod/shop/till: <out of order>");
    let (_, page) = plane.ask("GET / HTTP/1.1\r\nhost: 127.0.0.1").await;
    assert!(
        page.contains("<td>near") && page.contains("<td class=bad>Kubernetes//Pod/shop/till: &lt;out of order&gt;"),
        "{page}"
    );
    plane.process.says("a node refused resources").await;
}

#[tokio::test]
async fn only_regular_files_are_read() {
    let plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let pipe = plane.dir.path().join("pipe.yaml");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).unwrap();
    let line = plane.process.says("the mesh stays as it is").await;
    assert!(line.contains("pipe.yaml: this is no regular file"), "{line}");
    std::fs::remove_file(pipe).unwrap();
    plane.change(&pod("till", "10.0.0.1", "near")).await;

    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("device.json")).unwrap();
    let mut process = Process::start(control_plane().arg("--print").arg("--dir").arg(dir.path()));
    let (code, lines) = process.end().await;
    assert_eq!((code, lines.len()), (Some(2), 1), "{lines:?}");
    assert!(lines[0].ends_with("device.json: this is no regular file"), "{lines:?}");
}

#[tokio::test]
async fn bad_flags_and_directories_are_told_in_one_line() {
    let good = tempfile::tempdir().unwrap();
    std::fs::write(good.path().join("a.yaml"), namespace("")).unwrap();
    let dir = good.path().to_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let bad = tempfile::tempdir().unwrap();
    std::fs::write(bad.path().join("a.yaml"), "kind: Pod\n").unwrap();
    let bad = bad.path().to_str().unwrap();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&token, "a-token-of-the-operators").unwrap();
    let token = token.path().to_str().unwrap();
    for (args, says) in [
        (vec!["--dir", dir], "--bind <ADDR>"),
        (
            vec!["--dir", "/nowhere", "--bind", "127.0.0.1:0"],
            "/nowhere: No such file",
        ),
        (
            vec!["--dir", empty.path().to_str().unwrap(), "--bind", "127.0.0.1:0"],
            "there is no file that ends in .yaml",
        ),
        (
            vec!["--dir", bad, "--bind", "127.0.0.1:0"],
            "a.yaml:1: `apiVersion` is missing",
        ),
        (
            vec!["--dir", dir, "--bind", "0.0.0.0:0"],
            "--bind: `0.0.0.0:0` is not on loopback: without --tls",
        ),
        (
            vec!["--dir", dir, "--bind", "127.0.0.1:0", "--admin", "0.0.0.0:0"],
            "--admin: `0.0.0.0:0` is not on loopback: without --admin-token",
        ),
        (
            vec![
                "--dir",
                dir,
                "--bind",
                "127.0.0.1:0",
                "--admin",
                "0.0.0.0:0",
                "--admin-token",
                token,
            ],
            "--admin: `0.0.0.0:0` is not on loopback: without --tls",
        ),
        (
            vec![
                "--dir",
                dir,
                "--bind",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--admin-token",
                "/nowhere",
            ],
            "--admin-token: /nowhere: No such file",
        ),
        (
            vec!["--dir", dir, "--bind", "127.0.0.1:0", "--state", "/nowhere/state"],
            "--state: /nowhere/state: No such file",
        ),
        (
            vec!["--dir", dir, "--bind", "127.0.0.1:0", "--tls", "a"],
            "--roots <FILE>",
        ),
        (
            vec!["--dir", dir, "--bind", "127.0.0.1:0", "--roots", "/nowhere/roots.pem"],
            "--roots: /nowhere/roots.pem: No such file",
        ),
    ] {
        let mut process = Process::start(control_plane().args(&args));
        let (code, lines) = process.end().await;
        assert_eq!((code, lines.len()), (Some(2), 1), "{args:?}: {lines:?}");
        assert!(lines[0].contains(says), "{args:?}: {lines:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let plane = Plane::start(&pod("cart", "10.0.0.1", "near")).await;
    let mut client = Client::new(&plane, NEAR, false);
    let mut other = Client::new(&plane, FAR, false);
    for client in [&mut client, &mut other] {
        client.until("cart", |mesh| knows(mesh, "cart")).await;
    }
    plane.withdraw(NEAR).await;
    let end = soon("end of the stream", client.ends.recv()).await.unwrap();
    assert!(end.contains("the bearer token is not valid any more"), "{end}");
    let end = soon("refusal", client.ends.recv()).await.unwrap();
    assert!(end.contains("no valid bearer token"), "{end}");
    // What changes now is for the other one only.
    plane.change(&pod("till", "10.0.0.2", "near")).await;
    other.until("till", |mesh| knows(mesh, "till")).await;
    assert!(!knows(&client.snapshots.borrow(), "till"));
    assert!(other.ends.try_recv().is_err());
    eventually("count of clients", async || {
        (plane.dump().await["clients"] == 1).then_some(())
    })
    .await;
}
