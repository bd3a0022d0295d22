//! `hbone-cat`: netcat for HBONE.

mod args;
mod credentials;
mod dial;
mod origin;
mod policy;
mod ready;
mod serve;
mod stdio;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use mesh_identity::tls::IdentityUnavailable;

use self::args::{Args, Command};
use self::credentials::CredentialError;
use self::policy::PolicyError;
use self::stdio::PipeError;
use crate::logging;
use crate::sockets::BindError;
use crate::usage::{self, USAGE};
use crate::workers::Interrupted;

/// Failures, and what becomes of the own identity and policies.
const LOG: &str = "warn,mesh_examples::hbone_cat::origin=info,mesh_examples::hbone_cat::policy=info";

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    usage::run("hbone-cat", args, Failure::exit_code, |args: &Args| {
        logging::init(LOG);
        match &args.command {
            Command::Serve(args) => serve::run(args),
            Command::Dial(args) => dial::run(args),
        }
    })
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error("--policy {0}")]
    Policy(#[from] PolicyError),
    #[error("{flag} {error}")]
    Bind {
        flag: &'static str,
        #[source]
        error: BindError,
    },
    #[error(transparent)]
    Identity(#[from] IdentityUnavailable),
    #[error(transparent)]
    Pipe(#[from] PipeError),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Credentials(_) | Self::Policy(_) | Self::Bind { .. } => USAGE,
            Self::Identity(_) | Self::Pipe(_) | Self::Interrupted(_) | Self::System(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::usage::one_line;
    use crate::workers::{Keepers, Signals, Stop};

    #[test]
    fn usage_errors_take_one_line() {
        for (args, line) in [
            (
                &["serve", "--bind", "nowhere"][..],
                "invalid value 'nowhere' for '--bind <ADDR>': invalid socket address syntax",
            ),
            (
                &["serve", "--bind", "[::]:0"],
                "the following required arguments were not provided: --allow <PATTERN> --cert <FILE> --key <FILE> --roots <FILE>",
            ),
            (&["serve", "--bund"], "unexpected argument '--bund' found"),
        ] {
            let args = ["hbone-cat"].iter().chain(args).map(OsString::from);
            assert_eq!(one_line(&Args::try_parse_from(args).unwrap_err()), line);
        }
    }

    #[test]
    fn the_end_of_a_keeper_is_no_mistake_of_the_operator() {
        let keepers = Keepers::new();
        keepers.start("policies", || {}).unwrap();
        let worker = async |stop: Stop| {
            stop.draining().await;
            Ok::<_, Failure>(())
        };
        let failure = Signals::catch().unwrap().run(vec![worker], keepers).unwrap_err();
        let line = "stopped, for nothing keeps up with the policies any more";
        assert_eq!((failure.exit_code(), &*failure.to_string()), (1, line));
    }
}
