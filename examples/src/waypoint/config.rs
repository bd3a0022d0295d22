//! The configuration's file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_identity::TrustDomain;
use mesh_policy::PathNormalization;
use serde::Deserialize;

use super::external;
use crate::proxy::config::{Admin, Configuration, IdentitySource, LogFormat, MeshSource, parsed, seconds, threads};

/// What a file says. `config.toml` beside this file explains each field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) service_account: String,
    #[serde(deserialize_with = "parsed")]
    pub(super) trust_domain: TrustDomain,
    pub(super) mesh: MeshSource,
    pub(super) identity: IdentitySource,
    #[serde(default)]
    pub(super) inbound: Vec<Inbound>,
    pub(super) admin: Option<Admin>,
    #[serde(default)]
    pub(super) traffic: Traffic,
    #[serde(default)]
    pub(super) external: external::Config,
    #[serde(default)]
    pub(super) settings: Settings,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbound {
    pub(super) bind: SocketAddr,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Traffic {
    pub(super) objects: Vec<PathBuf>,
    pub(super) root_namespace: String,
    path_normalization: Normalization,
    pub(super) underscores: Underscores,
    pub(super) shows_clients: bool,
}

impl Traffic {
    pub(super) fn normalization(&self) -> PathNormalization {
        match self.path_normalization {
            Normalization::None => PathNormalization::None,
            Normalization::Base => PathNormalization::Base,
            Normalization::MergeSlashes => PathNormalization::MergeSlashes,
            Normalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
            Normalization::Strict => PathNormalization::Strict,
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            root_namespace: "istio-system".to_owned(),
            path_normalization: Normalization::Base,
            underscores: Underscores::Reject,
            shows_clients: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Normalization {
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
    Strict,
}

/// What becomes of requests with `_` in the name of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Underscores {
    Reject,
    Allow,
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
    pub(super) max_requests: u32,
    idle_seconds: u32,
    pub(super) access_log: LogFormat,
}

impl Settings {
    /// For how long nothing of a request and its answer may move.
    pub(super) fn idle(&self) -> Option<Duration> {
        (self.idle_seconds > 0).then(|| Duration::from_secs(self.idle_seconds.into()))
    }
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
            max_requests: 10_000,
            idle_seconds: 300,
            access_log: LogFormat::Text,
        }
    }
}

impl Configuration for Config {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = self.mesh.paths();
        paths.extend(self.identity.paths());
        paths.extend(&mut self.traffic.objects);
        paths.extend(self.external.paths());
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
        let config: Config = parse(EXAMPLE).unwrap();
        assert_eq!(config.settings, Settings::default());
        assert_eq!(config.traffic, Traffic::default());
        assert_eq!(config.inbound[0].bind, "0.0.0.0:15008".parse().unwrap());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (from, to, expected) in [
            (
                "underscores = \"reject\"",
                "underscores = \"keep\"",
                "unknown variant `keep`",
            ),
            (
                "path_normalization = \"base\"",
                "path_normalization = \"all\"",
                "unknown variant `all`",
            ),
            (
                "max_requests = 10000",
                "max_request = 10000",
                "unknown field `max_request`",
            ),
        ] {
            let text = EXAMPLE.replace(from, to);
            let place = text.lines().position(|line| line.starts_with(to)).unwrap() + 1;
            let (line, problem) = parse::<Config>(&text).unwrap_err();
            assert_eq!(line, place, "{problem}");
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
