//! The configuration's file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_identity::TrustDomain;
use serde::Deserialize;

use crate::proxy::config::{Admin, Configuration, IdentitySource, LogFormat, MeshSource, parsed, seconds, threads};

/// What a file says. `config.toml` beside this file explains each field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) node: String,
    #[serde(deserialize_with = "parsed")]
    pub(super) trust_domain: TrustDomain,
    pub(super) mesh: MeshSource,
    pub(super) identity: IdentitySource,
    #[serde(default)]
    pub(super) inbound: Vec<Inbound>,
    #[serde(default)]
    pub(super) plaintext: Vec<Plaintext>,
    #[serde(default)]
    pub(super) outbound: Vec<Outbound>,
    #[serde(default)]
    pub(super) socks5: Vec<Socks5>,
    pub(super) admin: Option<Admin>,
    #[serde(default)]
    pub(super) settings: Settings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbound {
    pub(super) bind: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plaintext {
    pub(super) bind: SocketAddr,
    pub(super) destination: Option<SocketAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbound {
    pub(super) bind: SocketAddr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Socks5 {
    pub(super) bind: SocketAddr,
    pub(super) workload: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) network: String,
    pub(super) cluster: String,
    pub(super) hbone_port: u16,
    #[serde(deserialize_with = "threads")]
    pub(super) threads: u16,
    #[serde(rename = "drain_seconds", deserialize_with = "seconds")]
    pub(super) drain: Duration,
    #[serde(rename = "demand_seconds", deserialize_with = "seconds")]
    pub(super) demand: Duration,
    #[serde(rename = "certificate_seconds", deserialize_with = "seconds")]
    pub(super) certificate_lifetime: Duration,
    pub(super) on_demand: bool,
    pub(super) original_source: OriginalSource,
    pub(super) access_log: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: String::new(),
            cluster: "Kubernetes".to_owned(),
            hbone_port: 15008,
            threads: 1,
            drain: Duration::from_secs(5),
            demand: Duration::from_secs(5),
            certificate_lifetime: Duration::from_secs(24 * 3600),
            on_demand: false,
            original_source: OriginalSource::Off,
            access_log: LogFormat::Text,
        }
    }
}

/// Whether destinations see who connects, and not this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OriginalSource {
    Off,
    /// If the operating system allows it.
    Try,
    Require,
}

impl Configuration for Config {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = self.mesh.paths();
        paths.extend(self.identity.paths());
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::parse;

    const EXAMPLE: &str = include_str!("config.toml");

    #[test]
    fn the_example_is_a_configuration_with_the_defaults() {
        let config = parse::<Config>(EXAMPLE).unwrap();
        assert_eq!(config.settings, Settings::default());
        assert_eq!(config.inbound[0].bind, "0.0.0.0:15008".parse().unwrap());
    }

    #[test]
    fn what_is_commented_out_in_the_example_is_understood() {
        let text = EXAMPLE
            .replace("# [identity]", "[identity]")
            .replace("# workload", "workload")
            .replace("# crl", "crl");
        let (_, rest) = text.split_once("# or a SPIFFE").unwrap();
        let (head, _) = text.split_once("[[identity.files]]").unwrap();
        let config: Config = parse(&format!("{head}{}", rest.split_once('\n').unwrap().1)).unwrap();
        assert!(matches!(config.identity, IdentitySource::WorkloadApi(_)));
        assert!(config.socks5[0].workload.is_some());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (from, to, expected) in [
            (
                "bind = \"0.0.0.0:15008\"",
                "bind = \"nowhere\"",
                "`bind = \"nowhere\"`: invalid socket address syntax",
            ),
            (
                "[[inbound]]",
                "[[outboard]]",
                "`[[outboard]]`: unknown field `outboard`",
            ),
            ("threads = 1 ", "threads = 0 ", "not from 1 to 256"),
            (
                "hbone_port = 15008",
                "hbone_port = 150088",
                "invalid value: integer `150088`",
            ),
        ] {
            let text = EXAMPLE.replace(from, to);
            let place = text.lines().position(|line| line.starts_with(to)).unwrap() + 1;
            let (line, problem) = parse::<Config>(&text).unwrap_err();
            assert_eq!(line, place, "{problem}");
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
        let (line, problem) = parse::<Config>(&EXAMPLE.replace("node = \"node-1\"", "")).unwrap_err();
        assert!(
            line == 1 && problem.ends_with("missing field `node`"),
            "{line}: {problem}"
        );
    }
}
