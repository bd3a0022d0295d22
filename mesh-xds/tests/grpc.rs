//! Client and server over gRPC, on loopback.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::time::Duration;

use mesh_testkit::xds::workload;
use mesh_xds::client::{Apply, Driver, FindError, Handle, StreamEnd};
use mesh_xds::delta::{ClientConfig, DemandError, Outcome, Published, Push, Refusal, Server, ServerConfig};
use mesh_xds::server::{Discovery, Event};
use mesh_xds::store::{Snapshot, Store};
use mesh_xds_types::core::Node;
use mesh_xds_types::workload::{Address, Workload, address};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};

/// Keeps a store, and shows what is in it.
struct Mesh {
    store: Store,
    snapshots: watch::Sender<Snapshot>,
}

impl Apply for Mesh {
    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let refusals = self.store.apply(push);
        self.snapshots.send_replace(self.store.snapshot());
        refusals
    }

    fn ended(&mut self, _: &StreamEnd) {}
}

struct Pair {
    discovery: Discovery,
    handle: Handle,
    snapshots: watch::Receiver<Snapshot>,
    refusals: mpsc::UnboundedReceiver<String>,
    /// Client and server; they end with it.
    _tasks: JoinSet<()>,
}

async fn pair(config: ClientConfig) -> Pair {
    let (told, refusals) = mpsc::unbounded_channel();
    let discovery = Discovery::new(Server::new(ServerConfig::new()), move |event| {
        if let Event::Refused { message, .. } = event {
            told.send(message.to_owned()).unwrap();
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut tasks = JoinSet::new();
    let service = discovery.service();
    tasks.spawn(async move {
        let server = tonic::transport::Server::builder().add_service(service);
        server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    let (driver, handle) = Driver::<Channel>::new(endpoint.connect_lazy(), config);
    let store = Store::new();
    let (sender, snapshots) = watch::channel(store.snapshot());
    tasks.spawn(async move {
        driver
            .run(&mut Mesh {
                store,
                snapshots: sender,
            })
            .await;
    });
    Pair {
        discovery,
        handle,
        snapshots,
        refusals,
        _tasks: tasks,
    }
}

fn config() -> ClientConfig {
    ClientConfig::new(Node {
        id: "node".into(),
        ..Node::default()
    })
}

fn published(workload: Workload) -> Published {
    let name = workload.uid.clone();
    let alias = format!(
        "/{}",
        std::net::Ipv4Addr::from(<[u8; 4]>::try_from(workload.addresses[0].as_slice()).unwrap_or_default())
    );
    let body = Address {
        r#type: Some(address::Type::Workload(workload)),
    }
    .encode_to_vec();
    Published::new(name, format!("{:x?}", body), body).aliases([alias])
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

#[tokio::test]
async fn what_is_published_arrives_and_what_is_removed_goes() {
    let mut pair = pair(config().all(ADDRESS_TYPE_URL).all(AUTHORIZATION_TYPE_URL)).await;
    pair.discovery
        .publish(ADDRESS_TYPE_URL, [published(workload("a", "10.0.0.1"))]);
    within(pair.snapshots.wait_for(|mesh| mesh.workload("a").is_some()))
        .await
        .unwrap();
    pair.discovery
        .update(ADDRESS_TYPE_URL, [published(workload("b", "10.0.0.2"))], ["a"]);
    within(
        pair.snapshots
            .wait_for(|mesh| mesh.workload("b").is_some() && mesh.workload("a").is_none()),
    )
    .await
    .unwrap();
    assert_eq!(pair.discovery.client_count(), 1);
}

#[tokio::test]
async fn a_bad_resource_is_refused_by_name_and_the_rest_applies() {
    let mut pair = pair(config().all(ADDRESS_TYPE_URL)).await;
    let mut bad = workload("bad", "10.0.0.1");
    bad.addresses = vec![vec![1, 2, 3]];
    pair.discovery.publish(
        ADDRESS_TYPE_URL,
        [published(bad), published(workload("good", "10.0.0.2"))],
    );
    let message = within(pair.refusals.recv()).await.unwrap();
    assert_eq!(message, "bad: `addresses[0]` has 3 bytes, not 4 or 16");
    within(pair.snapshots.wait_for(|mesh| mesh.workload("good").is_some()))
        .await
        .unwrap();
    assert!(pair.snapshots.borrow().workload("bad").is_none());

    let standing = within(async {
        loop {
            let clients = pair.discovery.clients();
            assert_eq!((clients.len(), clients[0].node.is_some()), (1, true));
            match &clients[0].standings[..] {
                [standing] if standing.held == Some(standing.latest) => return standing.clone(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    assert_eq!(standing.type_url, ADDRESS_TYPE_URL);
    assert_eq!(standing.refusal, Some(message));
}

#[tokio::test]
async fn names_on_demand_are_found_or_known_not_to_be() {
    let pair = pair(config().on_demand(ADDRESS_TYPE_URL)).await;
    pair.discovery.publish(
        ADDRESS_TYPE_URL,
        [
            published(workload("a", "10.0.0.1")),
            published(workload("b", "10.0.0.2")),
        ],
    );
    let patience = Duration::from_secs(20);
    let find = |name| pair.handle.find(ADDRESS_TYPE_URL, name, patience);
    // Many wait for one name.
    let (first, second, absent) = tokio::join!(find("/10.0.0.1"), find("/10.0.0.1"), find("/10.0.0.9"));
    assert_eq!(
        (first, second, absent),
        (Ok(Outcome::Present), Ok(Outcome::Present), Ok(Outcome::Absent))
    );
    let mesh = pair.snapshots.borrow().clone();
    assert!(mesh.workload("a").is_some() && mesh.workload("b").is_none());
    let refused = pair.handle.find(AUTHORIZATION_TYPE_URL, "a", patience).await;
    assert_eq!(
        refused,
        Err(FindError::Demand(DemandError::NotOnDemand(
            AUTHORIZATION_TYPE_URL.into()
        )))
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_lets_demands_expire() {
    let endpoint = Endpoint::from_static("http://127.0.0.1:1");
    let (driver, handle) = Driver::<Channel>::new(endpoint.connect_lazy(), config().on_demand(ADDRESS_TYPE_URL));
    let (sender, _snapshots) = watch::channel(Store::new().snapshot());
    let mut mesh = Mesh {
        store: Store::new(),
        snapshots: sender,
    };
    tokio::select! {
        () = driver.run(&mut mesh) => unreachable!("it tries for ever"),
        found = handle.find(ADDRESS_TYPE_URL, "a", Duration::from_millis(200)) => assert_eq!(found, Ok(Outcome::Expired)),
    }
}
