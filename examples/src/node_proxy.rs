//! `node-proxy`: the proxy of a node, what ztunnel is.

mod access_log;
mod admin;
mod args;
mod capture;
mod config;
mod control_plane;
mod credentials;
mod demand;
mod discovery;
mod dump;
mod guard;
mod inbound;
mod labels;
mod log;
mod mesh;
mod mesh_file;
mod metrics;
mod node;
mod outbound;
mod party;
mod passthrough;
mod plain;
mod plan;
mod proxy;
mod proxy_protocol;
mod ready;
mod residents;
mod run;
mod socks5;
mod traffic;
mod tunnels;
mod upstream;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use self::args::Args;
use self::config::{Config, ConfigError};
use self::control_plane::DialSetupError;
use self::credentials::CredentialsError;
use self::mesh_file::MeshFileError;
use crate::sockets::BindError;
use crate::usage::{one_line, printed};
use crate::workers::Abandoned;

/// A flag, file or certificate is bad.
const USAGE: u8 = 2;

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::parse_from(args) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return fail(&one_line(&error), USAGE),
        Err(help) => return printed(&help),
    };
    let level = log::init();
    let result = Config::read(&args.config)
        .map_err(Failure::from)
        .and_then(|config| run::run(&config, args.json, level));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    match writeln!(io::stderr(), "node-proxy: {error}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Discovery(#[from] DialSetupError),
    #[error("mesh.file: {0}")]
    Mesh(#[from] MeshFileError),
    #[error("{field}: {error}")]
    Bind {
        field: &'static str,
        #[source]
        error: BindError,
    },
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Credentials(_) | Self::Discovery(_) | Self::Mesh(_) | Self::Bind { .. } => USAGE,
            Self::Abandoned(_) | Self::System(_) => 1,
        }
    }
}
