//! `control-plane`: what a mesh is told, from a directory of Kubernetes objects.

mod args;
mod compile;
mod dump;
mod folder;
mod objects;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use self::args::Args;
use self::folder::FolderError;
use crate::usage::{one_line, printed};

/// A flag or a file is bad.
const USAGE: u8 = 2;

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::parse_from(args) {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return fail(&one_line(&error), USAGE),
        Err(help) => return printed(&help),
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let settings = args.settings();
    let texts = folder::read(&args.dir)?;
    let mesh = folder::mesh(&args.dir, &texts, &settings)?;
    writeln!(io::stdout(), "{:#}", dump::dump(&mesh))?;
    Ok(())
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    match writeln!(io::stderr(), "control-plane: {error}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Folder(_) => USAGE,
            Self::System(_) => 1,
        }
    }
}
