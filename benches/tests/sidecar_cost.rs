//! The comparison with sidecars runs, and sees what it is there to see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::process::Command;

use serde_json::Value;

#[test]
fn two_workloads_reach_each_other_in_every_design() {
    let output = Command::new(env!("CARGO_BIN_EXE_sidecar-cost"))
        .args(["--workloads", "2", "--calls", "1", "--opens", "10"])
        .args(["--seconds", "2", "--rounds", "1", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "build the proxies of mesh-examples first: {said}"
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let median = |design: &str, metric: &str| {
        let all = report.get("measurements").and_then(Value::as_array).unwrap();
        let is_it = |one: &&Value| {
            one.get("design").and_then(Value::as_str) == Some(design)
                && one.get("metric").and_then(Value::as_str) == Some(metric)
        };
        let found = all
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("no {metric} of {design}"));
        found.get("median").and_then(Value::as_f64).unwrap()
    };
    for design in ["node-proxy", "sidecar-tcp", "sidecar-http"] {
        assert!(median(design, "loaded_proportional") > 1.0, "{design} has memory");
        assert!(median(design, "open_tls") >= 2.0, "{design} encrypts both ways");
        assert!(median(design, "request_cpu") > 0.0, "{design} carries requests");
    }
    // Each is a TLS connection of its own only where nobody pools.
    assert!(median("sidecar-tcp", "connection_tls") > 900.0);
    assert!(median("node-proxy", "connection_tls") < 100.0);
}
