//! The endpoint that the environment names.

use std::process::Command;

use mesh_identity::source::workload_api::{ENDPOINT_VARIABLE, Endpoint};

/// The environment is a process's, so each value gets one: this very test, told apart by `ROLE`.
#[test]
fn the_environment_names_the_endpoint() {
    const ROLE: &str = "WORKLOAD_API_ENDPOINT_TEST";
    if let Ok(expected) = std::env::var(ROLE) {
        let found = match Endpoint::from_env() {
            Ok(endpoint) => endpoint.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
        return;
    }
    for (value, expected) in [
        (None, "`SPIFFE_ENDPOINT_SOCKET` is not set"),
        (Some("unix:///run/agent.sock"), "/run/agent.sock"),
        (Some("tcp://127.0.0.1:80"), "tcp://127.0.0.1:80"),
        (
            Some("/run/agent.sock"),
            "the endpoint's scheme is neither `unix` nor `tcp`",
        ),
    ] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "endpoint::the_environment_names_the_endpoint"]);
        again.env(ROLE, expected).env_remove(ENDPOINT_VARIABLE);
        again.envs(value.map(|value| (ENDPOINT_VARIABLE, value)));
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}
