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
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;
use world::{DEADLINE, Process};

fn quickstart() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quickstart"))
}

#[tokio::test]
async fn everything_goes_as_declared() {
    let output = quickstart().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with("Everything went as declared.\n"), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.starts_with("ok ")).count(),
        11,
        "{text}"
    );
    assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn the_report_is_there_for_programs() {
    let output = quickstart().arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    let told: Vec<_> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["decision"].as_str().unwrap(), step["status"].as_u64()))
        .collect();
    let allowed = ("allowed", Some(200));
    assert_eq!(
        told,
        [
            allowed,
            allowed,
            allowed,
            ("denied", Some(401)),
            ("not_trusted", None),
            ("allowed", Some(503)),
            ("denied", None),
            allowed,
            allowed,
            ("not_trusted", None),
            allowed,
        ]
    );
    let bulk = &report["steps"][2];
    assert_eq!((&bulk["sent"], &bulk["received"]), (&bulk["received"], &bulk["sent"]));
    assert_eq!(bulk["checksums"]["sent"], bulk["checksums"]["sent_as_received"]);
    assert_eq!(bulk["checksums"]["sent"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn it_can_be_held() {
    let mut process = Process::start(quickstart().args(["--hold", "--json"]));
    let mut lines = BufReader::new(process.take_stdout()).lines();
    let report: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let http = report["client"]["addresses"][0]["addr"].as_str().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), format!("http     {http}"));
    let mut tcp = TcpStream::connect(http).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: anyone\r\n\r\n").unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(
        answer.ends_with("hello from the other side of the tunnel\n"),
        "{answer}"
    );
    process.terminate();
    assert_eq!(process.end().await, (Some(0), vec![]));
}
