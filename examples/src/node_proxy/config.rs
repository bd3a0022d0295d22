//! The configuration's file.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

use hbone::Authority;
use mesh_identity::TrustDomain;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

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

/// Where the mesh is described.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MeshSource {
    File(PathBuf),
    Xds(Server),
}

/// A part of the control plane that is called over gRPC.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    #[serde(deserialize_with = "parsed")]
    pub(super) address: Authority,
    pub(super) roots: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) token: Option<PathBuf>,
}

/// Where the workloads' certificates come from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IdentitySource {
    Files(Vec<Files>),
    WorkloadApi(String),
    IstioCa(Server),
}

/// An identity in files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) roots: PathBuf,
    /// Revocation lists of the trust domain's authorities.
    pub(super) crl: Option<PathBuf>,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) bind: SocketAddr,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) network: String,
    pub(super) cluster: String,
    pub(super) hbone_port: u16,
    #[serde(deserialize_with = "threads")]
    pub(super) threads: u16,
    drain_seconds: u32,
    demand_seconds: u32,
    certificate_seconds: u32,
    pub(super) on_demand: bool,
    pub(super) original_source: OriginalSource,
    pub(super) access_log: LogFormat,
}

impl Settings {
    pub(super) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }

    pub(super) fn demand(&self) -> Duration {
        Duration::from_secs(self.demand_seconds.into())
    }

    pub(super) fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_seconds.into())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: String::new(),
            cluster: "Kubernetes".to_owned(),
            hbone_port: 15008,
            threads: 1,
            drain_seconds: 5,
            demand_seconds: 5,
            certificate_seconds: 24 * 3600,
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

/// How ended connections are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    Text,
    Json,
    Off,
}

impl Config {
    /// Reads a file. Paths in it become relative to where it is.
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|error| ConfigError::File {
            file: file.to_owned(),
            error,
        })?;
        let mut config = Self::parse(&text).map_err(|(line, problem)| ConfigError::Content {
            file: file.to_owned(),
            line,
            problem,
        })?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for path in config.paths() {
            *path = folder.join(&path);
        }
        Ok(config)
    }

    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let before = text.get(..at).unwrap_or_default();
            let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
            let shown = text.lines().nth(line - 1).unwrap_or_default().trim();
            let problem = error.message().replace('\n', " ");
            let problem = match shown {
                "" => problem,
                _ => format!("`{shown}`: {problem}"),
            };
            (line, problem)
        })
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let mut paths = Vec::new();
        match &mut self.mesh {
            MeshSource::File(file) => paths.push(file),
            MeshSource::Xds(server) => paths.extend(server.paths()),
        }
        match &mut self.identity {
            IdentitySource::Files(files) => {
                for identity in files {
                    paths.extend([&mut identity.cert, &mut identity.key, &mut identity.roots]);
                    paths.extend(&mut identity.crl);
                }
            }
            IdentitySource::WorkloadApi(_) => {}
            IdentitySource::IstioCa(server) => paths.extend(server.paths()),
        }
        paths
    }
}

impl Server {
    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.roots, &mut self.token].into_iter().flatten()
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let threads = u16::deserialize(deserializer)?;
    match threads {
        1..=256 => Ok(threads),
        _ => Err(D::Error::custom("not from 1 to 256")),
    }
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("--config {}: {error}", file.display())]
    File {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{}, line {line}: {problem}", file.display())]
    Content {
        file: PathBuf,
        line: usize,
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("config.toml");

    #[test]
    fn the_example_is_a_configuration_with_the_defaults() {
        let config = Config::parse(EXAMPLE).unwrap();
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
        let config = Config::parse(&format!("{head}{}", rest.split_once('\n').unwrap().1)).unwrap();
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
            let (line, problem) = Config::parse(&text).unwrap_err();
            assert_eq!(line, place, "{problem}");
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains('\n'), "{problem}");
        }
        let (line, problem) = Config::parse(&EXAMPLE.replace("node = \"node-1\"", "")).unwrap_err();
        assert!(
            line == 1 && problem.ends_with("missing field `node`"),
            "{line}: {problem}"
        );
    }
}
