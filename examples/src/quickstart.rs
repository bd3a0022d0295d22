//! `quickstart`: a whole mesh on loopback, what is done to it, and what comes of that.

mod acts;
mod client;
mod cluster;
mod evidence;
mod hold;
mod objects;
mod patience;
mod program;
mod report;
mod services;
mod stage;
mod undeclared;
mod web;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::program::Role;
use self::report::{Report, Teller};
use self::stage::Stage;
use self::undeclared::Undeclared;
use crate::usage;

const NAME: &str = "quickstart";

/// Shows an ambient mesh at work: a control plane that reads a directory of Kubernetes objects, the
/// node proxies of two nodes, a waypoint, and small services, all on loopback with real sockets, real mutual
/// TLS and real xDS. Does things to it, and tells what came of each.
///
/// Needs no root and no network. Exit code 0: all went as declared. 1: something did not.
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 100)]
struct Args {
    /// Keep everything running after the report, with some traffic and a page that shows it, until
    /// SIGINT or SIGTERM.
    #[arg(long)]
    hold: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the program with its command line, the program's own name first. Under the name of one of
/// the mesh's programs, it is that one: so there is something to start when nothing else was built.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let name = args.first().and_then(|name| Path::new(name).file_name());
    if let Some(role) = name.and_then(OsStr::to_str).and_then(Role::named) {
        return role.play(args);
    }
    let args: Args = match usage::parse(NAME, args) {
        Ok(args) => args,
        Err(ended) => return ended,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .map_err(Undeclared::from)
        .and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => usage::fail(NAME, &error, 1),
    }
}

/// Answers whether all went as declared.
async fn run(args: &Args) -> Result<bool, Undeclared> {
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    let mut stage = signals.unless_stopped(Stage::build()).await?;
    let played = signals.unless_stopped(play(args, &mut stage)).await;
    let held = match (&played, args.hold) {
        (Ok(report), true) => match signals.unless_stopped(hold::hold(&stage, report, args.json)).await {
            Err(Undeclared::Interrupted) => Ok(()),
            held => held,
        },
        _ => Ok(()),
    };
    stage.stop().await;
    held?;
    Ok(played?.is_ok())
}

/// What somebody ends the program by.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = Result<T, Undeclared>>) -> Result<T, Undeclared> {
        tokio::select! {
            done = work => done,
            _ = self.interrupt.recv() => Err(Undeclared::Interrupted),
            _ = self.terminate.recv() => Err(Undeclared::Interrupted),
        }
    }
}

async fn play(args: &Args, stage: &mut Stage) -> Result<Report, Undeclared> {
    let mut teller = Teller::new(!args.json);
    teller.begin(stage)?;
    acts::play(stage, &mut teller).await?;
    let report = teller.end(stage).await?;
    if args.json && !args.hold {
        writeln!(
            io::stdout(),
            "{}",
            serde_json::to_string(&report).map_err(io::Error::from)?
        )?;
    }
    Ok(report)
}
