//! The comparisons with Envoy run, and see what they are there to see.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::process::Command;

use serde_json::{Value, json};

/// What a comparison reports.
struct Report(Vec<Value>);

impl Report {
    fn of(program: &str, args: &[&str]) -> Self {
        let output = Command::new(program)
            .args(args)
            .args(["--rounds", "1", "--json"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "build the proxies of mesh-examples first: {said}"
        );
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        Self(report.get("measurements").and_then(Value::as_array).unwrap().clone())
    }

    fn median(&self, design: &str, metric: &Value) -> f64 {
        let is_it = |one: &&Value| {
            one.get("design").and_then(Value::as_str) == Some(design) && one.get("metric") == Some(metric)
        };
        let found = self.0.iter().find(is_it);
        let found = found.unwrap_or_else(|| panic!("no {metric} of {design}"));
        found.get("median").and_then(Value::as_f64).unwrap()
    }
}

#[test]
fn two_workloads_reach_each_other_in_every_design() {
    let args = ["--workloads", "2", "--calls", "1", "--opens", "10", "--seconds", "2"];
    let report = Report::of(env!("CARGO_BIN_EXE_sidecar-cost"), &args);
    let median = |design: &str, metric: &str| report.median(design, &json!(metric));
    for design in ["node-proxy", "sidecar-tcp", "sidecar-http"] {
        assert!(median(design, "loaded_proportional") > 1.0, "{design} has memory");
        assert!(median(design, "open_tls") >= 2.0, "{design} encrypts both ways");
        assert!(median(design, "request_cpu") > 0.0, "{design} carries requests");
    }
    // Each is a TLS connection of its own only where nobody pools.
    assert!(median("sidecar-tcp", "connection_tls") > 900.0);
    assert!(median("node-proxy", "connection_tls") < 100.0);
}

#[test]
fn requests_of_both_versions_pass_either_waypoint() {
    let args = ["--connections", "2", "--requests", "2", "--seconds", "1"];
    let report = Report::of(env!("CARGO_BIN_EXE_waypoint-pair"), &args);
    for design in ["envoy", "waypoint"] {
        for version in ["http1", "http2"] {
            for metric in ["throughput", "per_core", "full_cpu", "half_cpu", "half_p50", "half_p99"] {
                let metric = json!({ metric: version });
                assert!(report.median(design, &metric) > 0.0, "{design}: {metric}");
            }
        }
        assert!(
            report.median(design, &json!({ "resident": 3000 })) > 1.0,
            "{design} has memory"
        );
    }
}
