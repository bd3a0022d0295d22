//! `quickstart`: everything at once, on loopback, with a report.

mod attempt;
mod identities;
mod nodes;
mod policies;
mod report;
mod services;
mod stage;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use self::report::Report;
use self::stage::{Stage, StageError};

/// Shows HBONE at work: starts a certificate authority, a client's and a server's node and demo
/// services on loopback, sends traffic through them, and reports what happened.
///
/// Needs no root and no network. Exit code 0: all went as declared. 1: something did not.
#[derive(Debug, Parser)]
#[command(name = "quickstart", version, max_term_width = 100)]
struct Args {
    /// Keep everything running after the report, until SIGINT or SIGTERM.
    #[arg(long)]
    hold: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .map_err(StageError::from)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(report) if report.is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // With stderr closed, the exit code still tells.
            drop(writeln!(io::stderr(), "quickstart: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<Report, StageError> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut stage = Stage::build().await?;
    let report = stage.play().await;
    let mut stdout = io::stdout();
    match args.json {
        true => writeln!(stdout, "{}", serde_json::to_string(&report).map_err(io::Error::from)?)?,
        false => writeln!(stdout, "{report}")?,
    }
    if args.hold {
        for address in report.addresses() {
            writeln!(stdout, "{:<8} {}", address.name, address.addr)?;
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    stage.stop().await;
    Ok(report)
}
