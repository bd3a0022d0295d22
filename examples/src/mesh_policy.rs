//! `mesh-policy`: checks, explains, lints, compares and converts Istio's authorization policies.

mod args;
mod check;
mod convert;
mod diff;
mod explain;
mod facts;
mod lint;
mod policies;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use mesh_policy::authz::CompileError;
use serde::Serialize;

use self::args::{Args, Command};
use self::convert::ConvertError;
use self::facts::FactsError;
use self::policies::LoadError;
use crate::usage::{self, USAGE};

/// A request is denied, policies have findings, sets differ, or something was left out.
const FOUND: u8 = 1;

const NAME: &str = "mesh-policy";

/// Whether sets differ is not decided.
const OPEN: u8 = 3;

/// Runs the program with its command line, the program's own name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Args = match usage::parse(NAME, args) {
        Ok(args) => args,
        Err(ended) => return ended,
    };
    let mut out = Out {
        json: args.json,
        stdout: io::stdout().lock(),
    };
    let result = match &args.command {
        Command::Check(args) => check::run(args, &mut out),
        Command::Explain(args) => explain::run(args, &mut out),
        Command::Lint(args) => lint::run(args, &mut out),
        Command::Diff(args) => diff::run(args, &mut out),
        Command::Convert(args) => convert::run(args, &mut out),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Found) => ExitCode::from(FOUND),
        Ok(Outcome::Open) => ExitCode::from(OPEN),
        Err(error) => usage::fail(NAME, &error, USAGE),
    }
}

/// What a command comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fine,
    Found,
    Open,
}

impl Outcome {
    fn found(found: bool) -> Self {
        if found { Self::Found } else { Self::Fine }
    }
}

/// Where answers go.
struct Out {
    json: bool,
    stdout: io::StdoutLock<'static>,
}

impl Out {
    /// Prints an answer for programs, or for people.
    fn print(&mut self, value: &impl Serialize, text: &str) -> Result<(), Failure> {
        let text = match self.json {
            true => serde_json::to_string_pretty(value).map_err(io::Error::from)?,
            false => text.trim_end().to_owned(),
        };
        Ok(writeln!(self.stdout, "{text}")?)
    }
}

/// Why the program fails.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Facts(#[from] FactsError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error("output: {0}")]
    Output(#[from] io::Error),
}
