//! `hbone-cat`: netcat for HBONE.

mod args;
mod credentials;
mod dial;
mod log;
mod origin;
mod policy;
mod ready;
mod serve;
mod stdio;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use mesh_identity::tls::IdentityUnavailable;

use self::args::{Args, Command};
use self::credentials::CredentialError;
use self::policy::PolicyError;
use self::stdio::PipeError;
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
    log::init();
    let result = match &args.command {
        Command::Serve(args) => serve::run(args),
        Command::Dial(args) => dial::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    match writeln!(io::stderr(), "hbone-cat: {error}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
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
    Abandoned(#[from] Abandoned),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Credentials(_) | Self::Policy(_) | Self::Bind { .. } => USAGE,
            Self::Identity(_) | Self::Pipe(_) | Self::Abandoned(_) | Self::System(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(one_line(&Args::parse_from(args).unwrap_err()), line);
        }
    }
}
