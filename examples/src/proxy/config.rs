//! What the proxies' configurations have in common, and how their files are read.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{fs, io};

use hbone::Authority;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

/// What a file says.
pub(crate) trait Configuration: DeserializeOwned {
    /// All paths in it.
    fn paths(&mut self) -> Vec<&mut PathBuf>;
}

/// Where the mesh is described.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MeshSource {
    File(PathBuf),
    Xds(Server),
}

/// A part of the control plane that is called over gRPC.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(deserialize_with = "parsed")]
    pub(crate) address: Authority,
    pub(crate) roots: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
    pub(crate) token: Option<PathBuf>,
}

/// Where certificates come from.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IdentitySource {
    Files(Vec<Files>),
    WorkloadApi(String),
    IstioCa(Server),
}

/// An identity in files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) roots: PathBuf,
    /// Revocation lists of the trust domain's authorities.
    pub(crate) crl: Option<PathBuf>,
}

/// Where operators are answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) bind: SocketAddr,
}

/// How what has ended is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
    Off,
}

/// Reads a file. Paths in it become relative to where it is.
pub(crate) fn read<C: Configuration>(file: &Path) -> Result<C, ConfigError> {
    let text = fs::read_to_string(file).map_err(|error| ConfigError::File {
        file: file.to_owned(),
        error,
    })?;
    let mut config: C = parse(&text).map_err(|(line, problem)| ConfigError::Content {
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

/// What a text says, or the line of a mistake and what it is.
pub(crate) fn parse<C: Configuration>(text: &str) -> Result<C, (usize, String)> {
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

impl MeshSource {
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::File(file) => vec![file],
            Self::Xds(server) => server.paths(),
        }
    }
}

impl IdentitySource {
    pub(crate) fn paths(&mut self) -> Vec<&mut PathBuf> {
        let files = match self {
            Self::Files(files) => files,
            Self::WorkloadApi(_) => return Vec::new(),
            Self::IstioCa(server) => return server.paths(),
        };
        let paths = files.iter_mut().flat_map(|Files { cert, key, roots, crl }| {
            let always = [cert, key, roots];
            always.into_iter().chain(crl)
        });
        paths.collect()
    }
}

impl Server {
    fn paths(&mut self) -> Vec<&mut PathBuf> {
        [&mut self.roots, &mut self.token].into_iter().flatten().collect()
    }
}

/// A field that is written as a text.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// A time in whole seconds.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u32::deserialize(deserializer).map(|seconds| Duration::from_secs(seconds.into()))
}

/// A number of threads.
pub(crate) fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let threads = u16::deserialize(deserializer)?;
    match threads {
        1..=256 => Ok(threads),
        _ => Err(D::Error::custom("not from 1 to 256")),
    }
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
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
