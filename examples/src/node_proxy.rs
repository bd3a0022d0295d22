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
use std::process::ExitCode;

use self::args::Args;
use crate::proxy::connect::NotTransparent;
use crate::proxy::program;
use crate::usage::{self, USAGE};

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    usage::run("node-proxy", args, Failure::exit_code, |Args { launch }: &Args| {
        program::start(launch, run::run)
    })
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("settings.original_source: {0}")]
    OriginalSource(#[from] NotTransparent),
    #[error(transparent)]
    Proxy(#[from] program::Failure),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::OriginalSource(_) => USAGE,
            Self::Proxy(failure) => failure.exit_code(),
        }
    }
}
