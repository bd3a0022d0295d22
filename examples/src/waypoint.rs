//! `waypoint`: the proxy that the requests to services and workloads pass, what Istio's waypoint is.

mod account;
mod addressee;
mod answer;
mod args;
mod backlog;
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
mod lifetime;
mod objects;
mod outlet;
mod prefixed;
mod progress;
mod ready;
mod reply;
mod requests;
mod room;
mod run;
mod snapshot;
mod sniff;
mod stream;
mod strict;
mod tcp;
mod upstream;
mod withdrawal;

use std::ffi::OsString;
use std::process::ExitCode;

use mesh_identity::SpiffeIdError;

use self::args::Args;
use self::external::ServicesError;
use self::objects::ObjectsError;
use crate::proxy::program;
use crate::usage::{self, USAGE};

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    usage::run("waypoint", args, Failure::exit_code, |Args { launch }: &Args| {
        program::start(launch, run::run)
    })
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("service_account: {0}")]
    Identity(#[from] SpiffeIdError),
    #[error("traffic.objects: {0}")]
    Objects(#[from] ObjectsError),
    #[error(transparent)]
    Services(#[from] ServicesError),
    #[error(transparent)]
    Proxy(#[from] program::Failure),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Identity(_) | Self::Objects(_) | Self::Services(_) => USAGE,
            Self::Proxy(failure) => failure.exit_code(),
        }
    }
}
