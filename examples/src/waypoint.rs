//! `waypoint`: the proxy that the requests to services pass, what Istio's waypoint is.

mod account;
mod answer;
mod args;
mod body;
mod client;
mod config;
mod dump;
mod exchange;
mod external;
mod gateway;
mod headers;
mod http;
mod inbound;
mod labels;
mod objects;
mod prefixed;
mod ready;
mod requests;
mod run;
mod snapshot;
mod sniff;
mod strict;
mod tcp;
mod upstream;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use mesh_identity::SpiffeIdError;

use self::args::Args;
use self::config::Config;
use self::external::ServicesError;
use self::objects::ObjectsError;
use crate::proxy::config::{self as file, ConfigError};
use crate::proxy::control_plane::DialSetupError;
use crate::proxy::credentials::CredentialsError;
use crate::proxy::level;
use crate::proxy::mesh_file::MeshFileError;
use crate::sockets::BindError;
use crate::usage::{self, USAGE};
use crate::workers::{Abandoned, Unkept};

const NAME: &str = "waypoint";

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Args = match usage::parse(NAME, args) {
        Ok(args) => args,
        Err(ended) => return ended,
    };
    let level = level::init();
    let result = file::read::<Config>(&args.config)
        .map_err(Failure::from)
        .and_then(|config| run::run(&config, args.json, level));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => usage::fail(NAME, &error, error.exit_code()),
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
    #[error("service_account: {0}")]
    Identity(#[from] SpiffeIdError),
    #[error("traffic.objects: {0}")]
    Objects(#[from] ObjectsError),
    #[error(transparent)]
    Services(#[from] ServicesError),
    #[error("{field}: {error}")]
    Bind {
        field: &'static str,
        #[source]
        error: BindError,
    },
    #[error(transparent)]
    Abandoned(#[from] Abandoned),
    #[error(transparent)]
    Unkept(#[from] Unkept),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Credentials(_)
            | Self::Discovery(_)
            | Self::Mesh(_)
            | Self::Identity(_)
            | Self::Objects(_)
            | Self::Services(_)
            | Self::Bind { .. } => USAGE,
            Self::Abandoned(_) | Self::Unkept(_) | Self::System(_) => 1,
        }
    }
}
