//! What operators ask a node.

use serde_json::Value;

use crate::nodes::{Nodes, allow, ask, ask_with, identity};

#[tokio::test]
async fn the_state_is_shown_without_keys() {
    let nodes = Nodes::start(&allow(&["cart"])).await;
    assert_eq!(ask(nodes.far.admin, "GET", "/healthz/ready").await.0, 200);
    let (status, body) = ask(nodes.far.admin, "GET", "/config_dump").await;
    assert_eq!(status, 200);
    assert!(!body.contains("PRIVATE KEY"));
    let dump: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(dump["workloads"].as_array().unwrap().len(), 3);
    assert_eq!(dump["services"][0]["hostname"], "till.shop.svc");
    let till = identity("till").to_string();
    assert_eq!(dump["residents"].as_array().unwrap().len(), 1);
    assert_eq!(dump["residents"][0]["identity"], till);
    assert_eq!(dump["residents"][0]["policies"][0], "shop/allow");
    assert_eq!(dump["certificates"][0]["identity"], till);
}

#[tokio::test]
async fn the_log_level_changes_while_the_node_runs() {
    let nodes = Nodes::start("").await;
    let admin = nodes.near.admin;
    nodes
        .exchange(
            nodes.world.cart(),
            &nodes.world.till().to_string(),
            nodes.echo.addr.port(),
            1,
        )
        .await;
    let lines = nodes.near.process.stderr();
    assert!(!lines.iter().any(|line| line.contains("DEBUG")), "{lines:?}");
    assert_eq!(ask(admin, "POST", "/logging?level=debug").await.0, 200);
    nodes
        .exchange(
            nodes.world.cart(),
            &nodes.world.till().to_string(),
            nodes.echo.addr.port(),
            1,
        )
        .await;
    nodes.near.process.says("DEBUG").await;
    assert_eq!(ask(admin, "POST", "/logging?level=a=b=c").await.0, 400);
}

#[tokio::test]
async fn a_page_of_somebody_elses_reads_and_changes_nothing() {
    let nodes = Nodes::start("").await;
    let ask = async |method, path, headers| ask_with(nodes.near.admin, method, path, headers).await.0;
    for path in ["/config_dump", "/metrics", "/nothing"] {
        assert_eq!(ask("GET", path, "host: mesh.example:80").await, 421, "{path}");
        assert_eq!(ask("GET", path, "host: intranet").await, 421, "{path}");
    }
    assert_eq!(ask("GET", "/healthz/ready", "host: mesh.example").await, 200);
    assert_eq!(ask("GET", "/metrics", "host: localhost").await, 200);
    let level = "/logging?level=info";
    assert_eq!(ask("POST", level, "host: mesh.example").await, 421);
    let from_a_page = "host: 127.0.0.1\r\norigin: https://mesh.example";
    assert_eq!(ask("POST", level, from_a_page).await, 403);
    assert_eq!(ask("POST", level, "host: 127.0.0.1").await, 200);
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let nodes = Nodes::start("").await;
    for (method, path, status) in [
        ("GET", "/logging?level=debug", 405),
        ("POST", "/logging", 400),
        ("POST", "/metrics", 405),
        ("GET", "/quitquitquit", 404),
    ] {
        assert_eq!(ask(nodes.near.admin, method, path).await.0, status, "{method} {path}");
    }
}
