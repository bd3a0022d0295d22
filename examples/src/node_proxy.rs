//! `node-proxy`: the proxy of a node, what ztunnel is.

mod args;
mod capture;
mod config;
mod demand;
mod dump;
pub mod fuzzing;
mod guard;
mod inbound;
mod mesh;
mod node;
mod outbound;
mod passthrough;
mod plan;
mod proxy;
mod proxy_protocol;
mod ready;
mod residents;
mod run;
mod socks5;
mod target;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use self::args::Args;
use self::config::Config;
use crate::proxy::config::{self as file, ConfigError};
use crate::proxy::connect::NotTransparent;
use crate::proxy::control_plane::DialSetupError;
use crate::proxy::credentials::CredentialsError;
use crate::proxy::level;
use crate::proxy::mesh_file::MeshFileError;
use crate::sockets::BindError;
use crate::usage::{self, USAGE};
use crate::workers::{Abandoned, Unkept};

const NAME: &str = "node-proxy";

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
    #[error("{field}: {error}")]
    Bind {
        field: &'static str,
        #[source]
        error: BindError,
    },
    #[error("settings.original_source: {0}")]
    OriginalSource(#[from] NotTransparent),
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
            | Self::Bind { .. }
            | Self::OriginalSource(_) => USAGE,
            Self::Abandoned(_) | Self::Unkept(_) | Self::System(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::{Keepers, Signals, Stop};

    #[test]
    fn the_end_of_a_keeper_is_no_mistake_of_the_operator() {
        let keepers = Keepers::new();
        keepers.start("mesh", || {}).unwrap();
        let worker = async |stop: Stop| {
            stop.draining().await;
            Ok::<_, Failure>(())
        };
        let failure = Signals::catch().unwrap().run(vec![worker], keepers).unwrap_err();
        let line = "stopped, for nothing keeps up with the mesh any more";
        assert_eq!((failure.exit_code(), &*failure.to_string()), (1, line));
    }
}
