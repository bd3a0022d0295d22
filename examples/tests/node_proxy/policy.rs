//! Who is let in, and who is let in no longer.

use std::net::IpAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::nodes::{Nodes, allow};
use crate::socks::NOT_ALLOWED;
use crate::world::{exchange, soon};

async fn is_reset(mut tcp: TcpStream) {
    let error = soon("reset", tcp.read(&mut [0])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn whom_no_policy_allows_is_refused_with_the_reason_in_the_log() {
    let nodes = Nodes::start(&allow(&["cart"])).await;
    let (cart, spy): (IpAddr, IpAddr) = (nodes.world.cart(), nodes.world.spy());
    exchange(nodes.till(cart).await.unwrap(), 1, 1000).await;
    assert_eq!(nodes.till(spy).await.unwrap_err(), NOT_ALLOWED);
    let record = nodes.far.tells("refusal", |record| record["level"] == "error").await;
    assert_eq!(record["error"], "policy: no policy allows it", "{record}");
    assert!(
        record["src.identity"].as_str().unwrap().ends_with("/sa/spy"),
        "{record}"
    );
    let record = nodes.near.tells("refusal", |record| record["level"] == "error").await;
    assert!(record["error"].as_str().unwrap().contains("401"), "{record}");
}

#[tokio::test]
async fn a_denial_names_its_rule() {
    let deny = "- {name: closed, namespace: shop, scope: Namespace, action: Deny, dryRun: false, \
                rules: [[[{principals: [{suffix: /sa/spy}]}]]]}\n";
    let nodes = Nodes::start(deny).await;
    assert_eq!(nodes.till(nodes.world.spy()).await.unwrap_err(), NOT_ALLOWED);
    let record = nodes.far.tells("refusal", |record| record["level"] == "error").await;
    assert!(
        record["error"].as_str().unwrap().contains("ns[shop]-policy[closed]"),
        "{record}"
    );
    exchange(nodes.till(nodes.world.cart()).await.unwrap(), 1, 1000).await;
}

#[tokio::test]
async fn a_change_closes_exactly_the_connections_that_are_not_allowed_any_more() {
    let nodes = Nodes::start(&allow(&["cart", "spy"])).await;
    let kept = nodes.till(nodes.world.cart()).await.unwrap();
    let lost = nodes.till(nodes.world.spy()).await.unwrap();
    nodes.change(&allow(&["cart"]), 1).await;
    is_reset(lost).await;
    let record = nodes.far.tells("withdrawal", |record| record["level"] == "error").await;
    assert_eq!(record["error"], "policy: no policy allows it", "{record}");
    assert_eq!(nodes.till(nodes.world.spy()).await.unwrap_err(), NOT_ALLOWED);
    exchange(kept, 1, 1000).await;
    nodes.change(&allow(&["cart", "spy"]), 2).await;
    exchange(nodes.till(nodes.world.spy()).await.unwrap(), 1, 1000).await;
}

#[tokio::test]
async fn the_connections_of_a_workload_that_leaves_end() {
    let nodes = Nodes::start("").await;
    let open = nodes.till(nodes.world.cart()).await.unwrap();
    let mesh = nodes
        .world
        .mesh(nodes.echo.addr, "")
        .replace("node: far", "node: elsewhere");
    nodes.world.write(&mesh);
    is_reset(open).await;
}

#[tokio::test]
async fn neighbours_on_one_node_are_held_to_policies_without_a_tunnel() {
    let nodes = Nodes::start(&allow(&["cart"])).await;
    let app = crate::world::App::echo_at(nodes.world.spy()).await;
    let spy = nodes.world.spy().to_string();
    let connect = async |from| nodes.connect(from, &spy, app.addr.port()).await;
    let open = connect(nodes.world.cart()).await.unwrap();
    exchange(connect(nodes.world.cart()).await.unwrap(), 1, 1000).await;
    let record = nodes
        .near
        .tells("arrival", |record| record["direction"] == "inbound")
        .await;
    assert!(record["dst.hbone_addr"].is_null(), "{record}");
    nodes.change(&allow(&["nobody"]), 1).await;
    is_reset(open).await;
    assert_eq!(connect(nodes.world.cart()).await.unwrap_err(), NOT_ALLOWED);
}

/// What takes no tunnels is no less protected from neighbours than from others.
#[tokio::test]
async fn neighbours_without_tunnels_are_held_to_policies() {
    let nodes = Nodes::start("").await;
    let app = crate::world::App::echo_at(nodes.world.spy()).await;
    let spy = nodes.world.spy().to_string();
    let connect = async || nodes.connect(nodes.world.cart(), &spy, app.addr.port()).await;
    let change = async |policies: &str, times| {
        let mesh = nodes.world.mesh(nodes.echo.addr, policies);
        let [before, after] = ["HBONE", "TCP"].map(|protocol| format!("protocol: {protocol}, workloadName: spy"));
        nodes.world.write(&mesh.replace(&before, &after));
        nodes.near.process.says_times("mesh changed", times).await;
    };
    change("", 1).await;
    let open = connect().await.unwrap();
    exchange(connect().await.unwrap(), 1, 1000).await;
    let record = nodes
        .near
        .tells("departure", |record| record["dst.workload"] == "spy")
        .await;
    assert!(record["src.identity"].is_null(), "{record}");
    change(&allow(&["cart"]), 2).await;
    is_reset(open).await;
    assert_eq!(connect().await.unwrap_err(), NOT_ALLOWED);
    let record = nodes.near.tells("refusal", |record| record["level"] == "error").await;
    assert_eq!(record["error"], "policy: no policy allows it", "{record}");
}
