//! What is common to the command lines of all programs.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

/// A flag, file or certificate is bad.
pub(crate) const USAGE: u8 = 2;

/// Runs a program with its command line, the program's own name first; `code` says how it ends by an
/// error.
pub(crate) fn run<A: Parser, E: Display>(
    program: &str,
    args: impl IntoIterator<Item = OsString>,
    code: impl FnOnce(&E) -> u8,
    run: impl FnOnce(&A) -> Result<(), E>,
) -> ExitCode {
    match parse(program, args).map(|args| run(&args)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(program, &error, code(&error)),
        Err(ended) => ended,
    }
}

/// Reads a command line, the program's own name first. Otherwise, all that is to be said has been,
/// and this is how the program ends.
pub(crate) fn parse<A: Parser>(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<A, ExitCode> {
    A::try_parse_from(args).map_err(|error| match error.use_stderr() {
        true => fail(program, &one_line(&error), USAGE),
        false => printed(&error),
    })
}

/// Says on stderr why a program fails.
pub(crate) fn fail(program: &str, reason: &impl Display, code: u8) -> ExitCode {
    match writeln!(io::stderr(), "{program}: {reason}") {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints help or version, which were asked for.
pub(crate) fn printed(help: &clap::Error) -> ExitCode {
    match help.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What is wrong with the command line, without the usage that follows it.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}
