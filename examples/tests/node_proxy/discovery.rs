//! A mesh from a discovery server.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_xds::delta::{Published, Server, ServerConfig};
use mesh_xds::server::{Discovery, Event};
use mesh_xds_types::workload::{Address, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload, address};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost::Message;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;

use crate::nodes::{Node, World, ask};
use crate::socks::{self, HOST_UNREACHABLE, NOT_ALLOWED};
use crate::world::{App, eventually, exchange, free_addr};

/// A control plane of a mesh like that of the file.
struct ControlPlane {
    discovery: Discovery,
    /// What stands before it, so that it can be gone.
    front: App,
    refusals: mpsc::UnboundedReceiver<String>,
    _task: JoinSet<()>,
}

impl ControlPlane {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    async fn start_at(addr: SocketAddr) -> Self {
        let (told, refusals) = mpsc::unbounded_channel();
        let discovery = Discovery::new(Server::new(ServerConfig::new()), move |event| {
            if let Event::Refused { message, .. } = event {
                told.send(message.to_owned()).unwrap();
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let front = TcpListener::bind(addr).await.unwrap();
        let front = App::start_on(front, move |mut tcp| async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            drop(copy_bidirectional(&mut tcp, &mut server).await);
        });
        let service = discovery.service();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self {
            discovery,
            front,
            refusals,
            _task: task,
        }
    }

    fn publish(&self, world: &World, echo: SocketAddr) {
        let cart = workload(world, "cart", 1, "near");
        let mut till = workload(world, "till", 2, "far");
        till.services = [("shop/till.shop.svc".to_owned(), PortList::default())].into();
        let service = Service {
            name: "till".into(),
            namespace: "shop".into(),
            hostname: "till.shop.svc".into(),
            addresses: vec![NetworkAddress {
                address: octets(world, 100),
                ..NetworkAddress::default()
            }],
            ports: vec![Port {
                service_port: 80,
                target_port: echo.port().into(),
                app_protocol: 0,
            }],
            ..Service::default()
        };
        let published = [
            published(world, cart),
            published(world, till),
            of_service(&service)
                .aliases([format!("/{}", world.vip())])
                .companions(["c1//Pod/shop/till"]),
        ];
        self.discovery.publish(ADDRESS_TYPE_URL, published);
        self.discovery.publish(AUTHORIZATION_TYPE_URL, []);
    }
}

fn octets(world: &World, number: u8) -> Vec<u8> {
    match world.ip(number) {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn workload(world: &World, name: &str, number: u8, node: &str) -> Workload {
    Workload {
        uid: format!("c1//Pod/shop/{name}"),
        name: name.into(),
        namespace: "shop".into(),
        service_account: name.into(),
        addresses: vec![octets(world, number)],
        node: node.into(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        ..Workload::default()
    }
}

fn published(world: &World, workload: Workload) -> Published {
    let (name, node) = (workload.uid.clone(), workload.node.clone());
    let ip: [u8; 4] = workload.addresses[0].as_slice().try_into().unwrap();
    let alias = format!("/{}", std::net::Ipv4Addr::from(ip));
    assert!(alias.contains(&world.ip(ip[3]).to_string()));
    let body = address::Type::Workload(workload);
    resource(name, body).aliases([alias]).node(node)
}

fn of_service(service: &Service) -> Published {
    let name = format!("{}/{}", service.namespace, service.hostname);
    resource(name, address::Type::Service(service.clone()))
}

fn resource(name: String, body: address::Type) -> Published {
    let body: Arc<[u8]> = Address { r#type: Some(body) }.encode_to_vec().into();
    let version = format!("{body:x?}");
    Published::new(name, version, body)
}

fn head(world: &World, node: &str, account: &str, server: SocketAddr) -> String {
    let of_file = format!("file = {:?}\n", world.mesh_file);
    world
        .head(node, &[account])
        .replace(&of_file, &format!("xds = {{address = \"{server}\"}}\n"))
}

async fn near(world: &World, server: SocketAddr, on_demand: bool) -> Node {
    let head = head(world, "near", "cart", server) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
    let settings = format!(
        "[settings]\nhbone_port = {}\naccess_log = \"json\"\non_demand = {on_demand}\ndemand_seconds = 2\n",
        world.hbone_port
    );
    let node = world.start("near", &(head + &settings)).await;
    is_ready(&node).await;
    node
}

async fn is_ready(node: &Node) {
    eventually("readiness", async || {
        (ask(node.admin, "GET", "/healthz/ready").await.0 == 200).then_some(())
    })
    .await;
}

async fn far(world: &World, server: SocketAddr) -> Node {
    let node = world
        .start(
            "far",
            &(head(world, "far", "till", server) + &world.inbound(world.till())),
        )
        .await;
    is_ready(&node).await;
    node
}

#[tokio::test]
async fn a_node_is_ready_when_it_knows_the_mesh() {
    let world = World::new();
    let server = free_addr();
    let head = head(&world, "far", "till", server) + &world.inbound(world.till());
    let node = world.start("far", &head).await;
    let (status, body) = ask(node.admin, "GET", "/healthz/ready").await;
    assert_eq!((status, body.trim()), (500, "not ready, pending: state manager"));
    let _control = ControlPlane::start_at(server).await;
    is_ready(&node).await;
}

#[tokio::test]
async fn what_the_server_says_changes_what_goes_on() {
    let world = World::new();
    let (control, echo) = (ControlPlane::start().await, App::echo_at(world.till()).await);
    control.publish(&world, echo.addr);
    let (near, far) = (
        near(&world, control.front.addr, false).await,
        far(&world, control.front.addr).await,
    );
    let till = async || socks::connect(near.socks5.unwrap(), world.cart(), ("till.shop.svc", 80)).await;
    exchange(till().await.unwrap(), 1, 1000).await;

    let policy = mesh_xds_types::security::Authorization {
        name: "deny-all".into(),
        namespace: "shop".into(),
        scope: mesh_xds_types::security::Scope::Namespace.into(),
        ..Default::default()
    };
    let body: Arc<[u8]> = policy.encode_to_vec().into();
    let published = Published::new("shop/deny-all", "1", body);
    control.discovery.publish(AUTHORIZATION_TYPE_URL, [published]);
    eventually("refusal", async || {
        till().await.err().filter(|reply| *reply == NOT_ALLOWED)
    })
    .await;
    far.tells("refusal", |record| record["error"] == "policy: no policy allows it")
        .await;

    // Nobody answers any more; what is known goes on.
    control.discovery.update(AUTHORIZATION_TYPE_URL, [], ["shop/deny-all"]);
    eventually("connection", async || till().await.ok()).await;
    drop(control.front);
    near.process.says("discovery server lost").await;
    exchange(till().await.unwrap(), 1, 1000).await;
}

#[tokio::test]
async fn a_bad_resource_is_refused_by_name_and_the_rest_applies() {
    let world = World::new();
    let (mut control, echo) = (ControlPlane::start().await, App::echo_at(world.till()).await);
    control.publish(&world, echo.addr);
    let node = far(&world, control.front.addr).await;
    let mut bad = workload(&world, "bad", 9, "far");
    bad.addresses = vec![vec![1, 2, 3]];
    let good = workload(&world, "good", 8, "far");
    let resources = [
        resource("c1//Pod/shop/bad".into(), address::Type::Workload(bad)).node("far"),
        published(&world, good),
    ];
    control.discovery.update(ADDRESS_TYPE_URL, resources, []);
    let refusal = crate::world::soon("refusal", control.refusals.recv()).await.unwrap();
    assert!(refusal.contains("c1//Pod/shop/bad"), "{refusal}");
    node.process.says("resource refused").await;
    eventually("the good one", async || {
        let dump = ask(node.admin, "GET", "/config_dump").await.1;
        dump.contains("c1//Pod/shop/good").then_some(())
    })
    .await;
}

#[tokio::test]
async fn destinations_are_asked_for_when_they_are_wanted() {
    let world = World::new();
    let (control, echo) = (ControlPlane::start().await, App::echo_at(world.till()).await);
    control.publish(&world, echo.addr);
    let (near, _far) = (
        near(&world, control.front.addr, true).await,
        far(&world, control.front.addr).await,
    );
    let knows = async |uid: &str| ask(near.admin, "GET", "/config_dump").await.1.contains(uid);
    eventually("own workload", async || knows("c1//Pod/shop/cart").await.then_some(())).await;
    assert!(!knows("c1//Pod/shop/till").await);
    let connect = async |host: &str, port| socks::connect(near.socks5.unwrap(), world.cart(), (host, port)).await;
    let vip = world.vip().to_string();
    exchange(connect(&vip, 80).await.unwrap(), 1, 1000).await;
    assert!(knows("c1//Pod/shop/till").await);
    let till = world.till().to_string();
    exchange(connect(&till, echo.addr.port()).await.unwrap(), 1, 1000).await;
    assert_eq!(connect("nobody.shop.svc", 80).await.unwrap_err(), HOST_UNREACHABLE);

    // What cannot be asked for may be a workload, which is not to be reached around its tunnel.
    drop(control);
    let stranger = App::echo().await;
    assert_eq!(
        connect("127.0.0.1", stranger.addr.port()).await.unwrap_err(),
        HOST_UNREACHABLE
    );
}
