//! What a request costs in a waypoint.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_benches::envoy;
use mesh_benches::plot::Plot;
use mesh_benches::report::Report;
use mesh_benches::waypoint::design::{Design, Programs};
use mesh_benches::waypoint::endpoint;
use mesh_benches::waypoint::measure::{self, Effort, Metric};
use mesh_benches::waypoint::world::World;

/// Compare waypoints under the same requests
///
/// Starts each waypoint in turn between HBONE clients and an HBONE endpoint on loopback: with as many
/// HTTP/1.1 requests as it can carry, with half of what Envoy could, and with nothing to do and up to
/// 3,000 services; and prints medians over the rounds, with the ratio to Envoy, and ranges. Build the
/// waypoint first: `cargo build --release -p mesh-examples -p mesh-benches`, and install Envoy:
/// `bash examples/tests/install-peers.sh`.
#[derive(Debug, Parser)]
#[command(name = "waypoint-pair", version)]
struct Args {
    /// HBONE connections of clients
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Tunnels in each, with an HTTP connection
    #[arg(long, default_value_t = 8)]
    tunnels: usize,
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
    /// The Envoy binary; by default the one that is installed for the tests
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Also draw the ratios into this file, as an SVG picture
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let programs = Programs {
        waypoint: match &args.waypoint {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("waypoint"),
        },
        envoy: args.envoy.clone().unwrap_or_else(envoy::installed),
        threads: args.threads,
    };
    eprintln!("Envoy {}", envoy::version(&programs.envoy)?);
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
    if let Some(file) = &args.plot {
        let plot = Plot {
            report: &report,
            title: "Ratio to Envoy as the waypoint",
            longest: 2.0,
        };
        std::fs::write(file, plot.to_string())?;
    }
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(())
}

async fn run(args: &Args, world: &World, programs: &Programs) -> io::Result<Report<Metric>> {
    let effort = Effort {
        connections: args.connections,
        tunnels: args.tunnels,
        services: args.services.max(1),
        window: Duration::from_secs(args.seconds),
    };
    let names = args.designs.iter().map(|design| design.name()).collect();
    let mut report = Report::new(names, Design::Envoy.name());
    // The same for all, and for all rounds.
    let mut half = None;
    for round in 1..=args.rounds {
        for design in &args.designs {
            eprintln!("round {round} of {}: {}", args.rounds, design.name());
            let mut record = |metric, value| report.record(design.name(), metric, value);
            let full = measure::full_load(*design, world, effort, programs, &mut record).await?;
            let half = *half.get_or_insert(full / 2.0);
            measure::half_load(*design, world, effort, (programs, half), &mut record).await?;
            measure::idle(*design, world, programs, &mut record).await?;
        }
    }
    Ok(report)
}
