//! What a request costs in a waypoint.

#![allow(clippy::print_stderr, reason = "a command prints")]

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_benches::command::{self, Output, Peer};
use mesh_benches::http::Version;
use mesh_benches::report::Report;
use mesh_benches::waypoint::design::{Design, Programs};
use mesh_benches::waypoint::endpoint;
use mesh_benches::waypoint::measure::{self, Effort, Metric};
use mesh_benches::waypoint::world::World;

/// Compare waypoints under the same requests
///
/// Starts each waypoint in turn between HBONE clients and an HBONE endpoint on loopback: with as many
/// requests as it can carry and with half of what Envoy could, in each version of HTTP, and with nothing
/// to do and up to 3,000 services; and prints medians over the rounds, with the ratio to Envoy, and
/// ranges. Build the waypoint first: `cargo build --release -p mesh-examples -p mesh-benches`, and
/// install Envoy: `bash examples/tests/install-peers.sh`.
#[derive(Debug, Parser)]
#[command(name = "waypoint-pair", version)]
struct Args {
    /// HBONE connections of clients
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests at a time in each: with HTTP/1.1 a tunnel for each, with HTTP/2 all in one tunnel
    #[arg(long, default_value_t = 8)]
    requests: usize,
    /// Versions of HTTP in the tunnels
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Version::Http1, Version::Http2])]
    http: Vec<Version>,
    /// Services of the waypoints while they carry requests
    #[arg(long, default_value_t = 10)]
    services: u16,
    /// Worker threads of each waypoint
    #[arg(long, default_value_t = 1)]
    threads: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Design::Envoy, Design::Waypoint])]
    designs: Vec<Design>,
    /// The waypoint binary; by default the one beside this program
    #[arg(long)]
    waypoint: Option<PathBuf>,
    #[command(flatten)]
    peer: Peer,
    #[command(flatten)]
    output: Output,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let programs = Programs {
        waypoint: command::program(args.waypoint.clone(), "waypoint")?,
        envoy: args.peer.program()?,
        threads: args.threads,
    };
    let folder = std::env::temp_dir().join(format!("waypoint-pair-{}", std::process::id()));
    let world = World::create(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = run(&args, &world, &programs) => report,
            ended = endpoint::serve(&world) => match ended? {},
        }
    })?;
    args.output.show(&report, "Ratio to Envoy as the waypoint", 2.0)
}

async fn run(args: &Args, world: &World, programs: &Programs) -> io::Result<Report<Metric>> {
    let effort = Effort {
        connections: args.connections,
        requests: args.requests,
        services: args.services.max(1),
        window: Duration::from_secs(args.seconds),
    };
    let names = args.designs.iter().map(|design| design.name()).collect();
    let mut report = Report::new(names, Design::Envoy.name());
    // The same for all, and for all rounds.
    let mut halves = BTreeMap::new();
    for round in 1..=args.rounds {
        for design in &args.designs {
            eprintln!("round {round} of {}: {}", args.rounds, design.name());
            let mut record = |metric, value| report.record(design.name(), metric, value);
            for version in &args.http {
                let subject = (*design, *version);
                let full = measure::full_load(subject, world, effort, programs, &mut record).await?;
                let half = *halves.entry(*version).or_insert(full / 2.0);
                measure::half_load(subject, world, effort, (programs, half), &mut record).await?;
            }
            measure::idle(*design, world, programs, &mut record).await?;
        }
    }
    Ok(report)
}
