//! What a node is told, and what it makes of mistakes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::nodes::{Nodes, World};
use crate::world::{Process, exchange, node_proxy};

#[tokio::test]
async fn a_mistake_in_the_mesh_changes_nothing_and_is_named_with_its_line() {
    let nodes = Nodes::start("").await;
    let good = nodes.world.mesh(nodes.echo.addr, "");
    nodes.world.write(&good.replace("protocol: HBONE", "protocol: HBOME"));
    let line = nodes.near.process.says("mesh kept as it was").await;
    let place = format!("{}, line 2: `protocol`", nodes.world.mesh_file.display());
    assert!(line.contains(&place), "{line}");
    exchange(nodes.till(nodes.world.cart()).await.unwrap(), 1, 1000).await;
    nodes.world.write(&(good + "\n# all is well\n"));
    nodes.near.process.says("mesh changed").await;
}

#[tokio::test]
async fn mistakes_at_the_start_are_one_line_and_exit_code_two() {
    let world = World::new();
    let config = world.pki.path().join("node.toml");
    let head = world.head("near", &["cart"]);
    world.write("workloads: []\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (text, expected) in [
        (
            "nodes = 1\n".to_owned() + &head,
            "line 1: `nodes = 1`: unknown field `nodes`",
        ),
        (
            head.clone() + "[[socks5]]\nbind = \"nowhere\"\n",
            "`bind = \"nowhere\"`: invalid socket address syntax",
        ),
        (
            head.clone() + &format!("[[socks5]]\nbind = \"{taken}\"\n"),
            &format!("socks5.bind: `{taken}`: Address already in use"),
        ),
        (head.replace("identity.pem", "absent.pem"), "absent.pem"),
        (head.replace("mesh.yaml", "absent.yaml"), "mesh.file: "),
    ] {
        fs::write(&config, text).unwrap();
        fails(&config, expected).await;
    }
    world.write("workloads:\n- {uid: a, protocol: X}\n");
    fs::write(&config, &head).unwrap();
    fails(&config, "mesh.yaml, line 2: `protocol`").await;
    fails(
        Path::new("/nonexistent/node.toml"),
        "--config /nonexistent/node.toml: No such file",
    )
    .await;
}

async fn fails(config: &Path, expected: &str) {
    let (code, lines) = Process::start(&mut node_proxy(config)).end().await;
    assert_eq!((code, lines.len()), (Some(2), 1), "{expected}: {lines:?}");
    assert!(
        lines[0].starts_with("node-proxy: ") && lines[0].contains(expected),
        "{lines:?}"
    );
}

#[tokio::test]
async fn help_shows_a_configuration() {
    let help = Command::new(env!("CARGO_BIN_EXE_node-proxy"))
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for part in ["--config <FILE>", "[[inbound]]", "drain_seconds", "/config_dump"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
