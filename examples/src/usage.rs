//! What is common to the command lines of all programs.

use std::process::ExitCode;

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
