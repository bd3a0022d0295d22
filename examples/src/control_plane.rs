//! `control-plane`: what a mesh is told, from a directory of Kubernetes objects.

mod admin;
mod args;
mod authority;
mod calls;
mod certificate;
mod compile;
mod dump;
mod folder;
#[doc(hidden)]
pub mod fuzzing;
mod login;
mod nodes;
mod objects;
mod page;
mod publish;
mod ready;
mod replace;
mod roots;
mod run;
mod serve;
mod state;
mod tokens;
mod vault;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use self::certificate::CertificateError;
use self::folder::LoadError;
use self::login::LoginError;
use self::roots::RootsError;
use self::state::FollowError;
use crate::sockets::BindError;
use crate::usage::{self, USAGE};
use crate::workers::Interrupted;

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    usage::run("control-plane", args, Failure::exit_code, run::run)
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error("--admin-token: {0}")]
    Login(#[from] LoginError),
    #[error("--tls: {0}")]
    Certificate(#[from] CertificateError),
    #[error("{flag}: `{addr}` is not on loopback: without --tls, tokens would be read on their way")]
    Plaintext { flag: &'static str, addr: SocketAddr },
    #[error("--admin: `{0}` is not on loopback: without --admin-token, everybody could replace the root")]
    Unguarded(SocketAddr),
    #[error("{flag}: {error}")]
    Bind {
        flag: &'static str,
        #[source]
        error: BindError,
    },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Load(_)
            | Self::Follow(_)
            | Self::Roots(_)
            | Self::Login(_)
            | Self::Certificate(_)
            | Self::Plaintext { .. }
            | Self::Unguarded(_)
            | Self::Bind { .. } => USAGE,
            Self::Interrupted(_) | Self::System(_) => 1,
        }
    }
}
