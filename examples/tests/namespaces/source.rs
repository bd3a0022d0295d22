//! Whose address destinations see.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, Setup, program};
use crate::mesh::named;
use crate::net::{FAR, NEAR, Net};
use crate::world::{App, Pki, Process, soon};

/// A program without the right to connect from others' addresses.
const BOUNDED: [&str; 2] = ["setpriv", "--bounding-set=-net_admin,-net_raw"];

/// What somebody in a pod is seen as in another, at a port of its.
async fn seen(cluster: &Cluster, from: &str, to: &str, port: u16) -> IpAddr {
    let addr = SocketAddr::new(named(to).ip(), port);
    let _app = App::start_on(cluster.net.listen(to, addr), |mut tcp| async move {
        let from = tcp.peer_addr().unwrap().ip().to_string();
        tcp.write_all(from.as_bytes()).await.unwrap();
    });
    let mut tcp = cluster.connect(from, addr);
    let mut told = String::new();
    soon("address", tcp.read_to_string(&mut told)).await.unwrap();
    told.parse().unwrap()
}

#[tokio::test]
async fn destinations_see_who_connects() {
    let setup = Setup {
        settings: "original_source = \"require\"\n",
        ..Setup::default()
    };
    let cluster = Cluster::with(&setup).await;
    for (port, (from, to, source)) in (9090..).zip([
        ("cart", "spy", named("cart").ip()),
        ("cart", "old", named("cart").ip()),
        ("old", "till", named("old").ip()),
        // A tunnel comes from the other node's proxy, whatever that says of whom it is.
        ("cart", "till", NEAR.ip.into()),
    ]) {
        assert_eq!(seen(&cluster, from, to, port).await, source, "{from} {to}");
    }
}

#[tokio::test]
async fn destinations_see_the_node_where_nothing_is_said() {
    let cluster = Cluster::start("").await;
    let gateway: IpAddr = [169, 254, 1, 1].into();
    for (from, to, node) in [("cart", "spy", NEAR), ("old", "till", FAR)] {
        let source = seen(&cluster, from, to, 9090).await;
        assert!([gateway, node.ip.into()].contains(&source), "{from} {to}: {source}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_told_and_done_without() {
    let setup = Setup {
        settings: "original_source = \"try\"\n",
        runner: &BOUNDED,
        ..Setup::default()
    };
    let cluster = Cluster::with(&setup).await;
    assert_ne!(seen(&cluster, "old", "till", 9090).await, named("old").ip());
    let line = cluster.far.process.says("destinations see this node").await;
    assert!(line.contains("WARN") && line.contains("CAP_NET_ADMIN"), "{line}");
}

#[tokio::test]
async fn what_is_required_and_not_allowed_is_a_mistake() {
    let (net, pki) = (Net::new(), Pki::new());
    let setup = Setup {
        settings: "original_source = \"require\"\n",
        runner: &BOUNDED,
        ..Setup::default()
    };
    let mut process = Process::start(&mut program(&net, &pki, FAR, &setup));
    let (code, stderr) = process.end().await;
    assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
    assert!(
        stderr[0].starts_with("node-proxy: settings.original_source: "),
        "{stderr:?}"
    );
}
