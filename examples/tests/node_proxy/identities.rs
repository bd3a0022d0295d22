//! Certificates from elsewhere than files.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_identity::SpiffeId;
use mesh_testkit::clock::Calendar;
use mesh_testkit::istio_ca::FakeIstioCa;
use mesh_testkit::workload_api::{FakeWorkloadApi, X509Entry, X509Message};
use rustls::pki_types::UnixTime;
use tokio::io::copy_bidirectional;

use crate::inbound::dial;
use crate::nodes::{Node, World, files, identity};
use crate::socks;
use crate::world::{App, eventually, exchange};

/// The head of a node's configuration with this instead of certificates in files.
fn head(world: &World, node: &str, source: &str) -> String {
    world.head(node, &[]) + source
}

async fn pair(world: &World, near: &str, far: &str) -> (Node, Node) {
    let far = world
        .start("far", &(head(world, "far", far) + &world.inbound(world.till())))
        .await;
    let near = head(world, "near", near) + "[[socks5]]\nbind = \"127.0.0.1:0\"\n";
    (world.start("near", &near).await, far)
}

#[tokio::test]
async fn an_agent_gives_each_workload_its_own() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    world.write(&world.mesh(echo.addr, ""));
    let agent = |ids: &[SpiffeId]| {
        let authority = world.pki.mesh.authority(ids[0].trust_domain());
        let api = FakeWorkloadApi::new();
        let message = ids.iter().fold(X509Message::new(), |message, id| {
            let issued = authority.issue(id, UnixTime::now()).unwrap();
            message.with(X509Entry::new(id, &issued, [authority.root_certificate()]))
        });
        api.say_x509(message);
        let socket = world.pki.path().join(format!("{}.sock", ids.len()));
        api.listen(&socket);
        (
            api,
            format!("[identity]\nworkload_api = \"unix://{}\"\n", socket.display()),
        )
    };
    let (_near_agent, near) = agent(&[identity("cart"), identity("spy")]);
    let (_far_agent, far) = agent(&[identity("till")]);
    let (near, far) = pair(&world, &near, &far).await;
    for (from, account) in [(world.cart(), "cart"), (world.spy(), "spy")] {
        let tcp = socks::connect(near.socks5.unwrap(), from, ("till.shop.svc", 80))
            .await
            .unwrap();
        exchange(tcp, 1, 1000).await;
        let id = identity(account).to_string();
        far.tells(account, |record| record["src.identity"] == id.as_str()).await;
    }
}

#[tokio::test]
async fn an_authority_is_asked_for_the_workloads_of_the_node_before_they_connect() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    world.write(&world.mesh(echo.addr, ""));
    let ca = Arc::new(FakeIstioCa::new("cluster.local".parse().unwrap(), Calendar::of_today()));
    ca.admit_node("near-token", [identity("cart")]);
    ca.admit_node("far-token", [identity("till")]);
    let front = {
        let ca = Arc::clone(&ca);
        App::start(move |mut tcp| {
            let ca = Arc::clone(&ca);
            async move {
                if let Ok(mut authority) = ca.connect() {
                    drop(copy_bidirectional(&mut tcp, &mut authority).await);
                }
            }
        })
        .await
    };
    let source = |node: &str| {
        let token = world.pki.path().join(format!("{node}.token"));
        fs::write(&token, format!("{node}-token")).unwrap();
        format!("[identity.istio_ca]\naddress = \"{}\"\ntoken = {token:?}\n", front.addr)
    };
    let (near, far) = pair(&world, &source("near"), &source("far")).await;
    let asked = async || {
        let calls = ca.calls();
        let asked = |account| {
            let id = identity(account).to_string();
            calls.iter().any(|call| call.impersonated.as_deref() == Some(&*id))
        };
        (asked("cart") && asked("spy") && asked("till")).then_some(())
    };
    eventually("requests", asked).await;
    let connect = async |from| socks::connect(near.socks5.unwrap(), from, ("till.shop.svc", 80)).await;
    exchange(connect(world.cart()).await.unwrap(), 1, 1000).await;
    let id = identity("cart").to_string();
    far.tells("arrival", |record| record["src.identity"] == id.as_str())
        .await;

    // The node is not entitled to this one, and nobody else's is used instead.
    assert!(connect(world.spy()).await.is_err());
    near.process.says("no certificate").await;
    let record = near.tells("failure", |record| record["level"] == "error").await;
    assert_eq!(record["src.workload"], "spy", "{record}");

    // Whoever leaves the node is not asked for any more, and whoever comes is.
    ca.admit_node("far-token", [identity("till"), identity("newcomer")]);
    let mesh = world.mesh(echo.addr, "");
    let newcomer = world.workload("newcomer", 7, "far", "");
    world.write(&mesh.replace("services:\n-", &(newcomer + "services:\n-")));
    eventually("newcomer", async || {
        let id = identity("newcomer").to_string();
        ca.calls()
            .iter()
            .any(|call| call.impersonated.as_deref() == Some(&*id))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_leaves_open_ones_alone() {
    let world = World::new();
    let echo = App::echo_at(world.till()).await;
    world.write(&world.mesh(echo.addr, ""));
    let old = world.pki.issue(&identity("till"));
    let near = files(&world.pki.issue(&identity("cart")));
    let (near, _far) = pair(&world, &near, &files(&old)).await;
    let open = socks::connect(near.socks5.unwrap(), world.cart(), ("till.shop.svc", 80))
        .await
        .unwrap();
    let shown = async || {
        let addr = SocketAddr::new(world.till(), world.hbone_port);
        let (client, _task) = dial(&world, addr, &identity("cart")).await.ok()?;
        client.peer().identity().map(|peer| peer.chain()[0].clone())
    };
    let before = shown().await.unwrap();
    let new = world.pki.issue(&identity("till"));
    for (new, old) in [(&new.key, &old.key), (&new.cert, &old.cert)] {
        fs::rename(new, old).unwrap();
    }
    eventually("new certificate", async || shown().await.filter(|now| *now != before)).await;
    exchange(open, 1, 1000).await;
}
