//! `quickstart` as a user runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    missing_docs,
    reason = "test code"
)]

#[allow(unused, reason = "each test needs another part of it")]
mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;
use world::{DEADLINE, Process, eventually};

const ACTS: usize = 15;

fn quickstart() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quickstart"))
}

fn ask(addr: SocketAddr, path: &str, host: &str) -> String {
    let mut tcp = TcpStream::connect(addr).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(tcp, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn everything_goes_as_declared() {
    let output = quickstart().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("Everything went as declared.\n"), "{text}");
    let acts = text.lines().filter(|line| line.contains("   ok  ")).count();
    assert_eq!(acts, ACTS, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let objects = text.lines().find_map(|line| line.trim().strip_prefix("objects "));
    assert!(!Path::new(objects.unwrap().trim()).exists(), "{text}");
}

/// Who spoke to whom in an act, and what came of it.
fn connections(act: &Value) -> Vec<String> {
    let events = act["events"].as_array().unwrap();
    let seen = events.iter().filter_map(|event| event.get("connection"));
    seen.map(|seen| {
        let word = |field: &str| seen[field].as_str().unwrap();
        let manner = word("manner");
        assert_eq!(seen["identities"].is_array(), manner != "plaintext", "{seen}");
        format!("{}-{} {} {manner}", word("from"), word("to"), word("decision"))
    })
    .collect()
}

#[tokio::test]
async fn held_it_tells_programs_what_happened_and_shows_its_topology() {
    let mut process = Process::start(quickstart().args(["--hold", "--json"]));
    let mut lines = BufReader::new(process.take_stdout()).lines();
    let report: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    let told: Vec<_> = report["acts"].as_array().unwrap().iter().map(connections).collect();
    let expected: [&[&str]; ACTS] = [
        &["web-till allowed plaintext"],
        &["web-till allowed mutual_tls", "web-cart allowed same_node"],
        &[
            "web-till allowed mutual_tls",
            "spy-till denied mutual_tls",
            "cart-till unreachable mutual_tls",
        ],
        &["web-till denied mutual_tls"],
        &["legacy-stock allowed plaintext", "legacy-stock denied plaintext"],
        &[],
        &[],
        &["cart-stock allowed mutual_tls"],
        &["web-till allowed mutual_tls", "spy-till denied mutual_tls"],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
    ];
    assert_eq!(told, expected);

    let addrs: Vec<(&str, SocketAddr)> = report["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                entry["name"].as_str().unwrap(),
                entry["addr"].as_str().unwrap().parse().unwrap(),
            )
        })
        .collect();
    let page = addrs.iter().find(|(name, _)| *name == "topology page").unwrap().1;
    let graph = eventually("traffic on the page", async || {
        let answer = ask(page, "/topology.json", "127.0.0.1");
        let graph: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let moving = |route: &str| {
            let flows = graph["flows"].as_array().unwrap();
            flows
                .iter()
                .any(|flow| flow["route"] == route && flow["connections_per_second"].as_f64().unwrap() > 0.0)
        };
        (moving("node_proxy") && moving("denied") && moving("plaintext")).then_some(graph)
    })
    .await;
    assert_eq!(graph["problems"], json!([]));
    let flow = graph["flows"].as_array().unwrap().iter().find(|flow| {
        flow["source"] == "workload/shop/cart"
            && flow["destination"] == "workload/shop/till"
            && flow["route"] == "node_proxy"
    });
    let flow = flow.unwrap();
    assert_eq!(flow["service"], "till.shop.svc.cluster.local");
    assert_eq!(flow["source_principal"], "spiffe://cluster.local/ns/shop/sa/cart");
    assert_eq!(flow["is_seen_by_both"], true);
    for (path, start) in [
        ("/", "<!doctype html>"),
        ("/topology.mmd", "flowchart LR"),
        ("/topology.dot", "digraph mesh {"),
    ] {
        let answer = ask(page, path, "localhost:1");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("default-src 'none'") && body.starts_with(start),
            "{answer}"
        );
    }
    assert!(ask(page, "/topology.json", "mesh.example").starts_with("HTTP/1.1 421 "));

    process.terminate();
    assert_eq!(process.end().await, (Some(0), vec![]));
    for (name, addr) in addrs {
        assert!(TcpStream::connect(addr).is_err(), "{name} is still there");
    }
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').nth(1));
        fields.flatten() == Some(&parent.to_string())
    };
    pids.filter(is_child).collect()
}

#[tokio::test]
async fn a_signal_ends_it_while_it_waits_for_what_it_starts() {
    let mut process = Process::start(&mut quickstart());
    let first = eventually("first process", async || children(process.pid()).pop()).await;
    let first = Pid::from_raw(first.try_into().unwrap()).unwrap();
    // From now on nothing that it waits for comes.
    kill_process(first, Signal::STOP).unwrap();
    let begun = Instant::now();
    process.terminate();
    let (code, lines) = process.end().await;
    assert_eq!(
        (code, lines.last().unwrap().as_str()),
        (Some(1), "quickstart: stopped by a signal")
    );
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(test_kill_process(first).is_err());
}

#[tokio::test]
async fn what_it_started_ends_with_it_even_if_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(quickstart().env("TMPDIR", dir.path()));
    let mut pids = Vec::new();
    for line in BufReader::new(process.take_stdout()).lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        if let [_, "pid", pid, ..] = &words[..] {
            pids.push(pid.parse::<u32>().unwrap());
        }
        if line.starts_with("1. ") {
            break;
        }
    }
    assert_eq!(pids.len(), 4);
    process.kill();
    eventually("end of all processes", async || {
        let runs = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            ["node-proxy", "control-plane", "waypoint"]
                .iter()
                .any(|name| line.contains(name))
        };
        (!pids.iter().any(runs)).then_some(())
    })
    .await;
}
