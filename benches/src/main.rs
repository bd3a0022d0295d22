//! Compares a pair of `hbone-cat` with pairs of TLS and TCP relays.

#![allow(clippy::print_stderr, reason = "a command prints")]

use std::io;
use std::path::PathBuf;

use clap::Parser;
use mesh_benches::command::{self, Output};
use mesh_benches::hop_pair::design::{Design, HopPair};
use mesh_benches::hop_pair::load;
use mesh_benches::hop_pair::measure::{Effort, Metric, Step, measure_idle};
use mesh_benches::hop_pair::relay::Relay;
use mesh_benches::pki::Pki;
use mesh_benches::report::Report;
use tokio::net::TcpListener;

/// Compare a pair of hbone-cat relays with pairs of TLS relays and TCP relays
///
/// Starts each pair as two processes on loopback, sends the same load through all of them in
/// turns, and prints medians, with the median ratio to the TLS pair of the same round. Build the relays first:
/// `cargo build --release -p mesh-examples -p mesh-benches`.
#[derive(Debug, Parser)]
#[command(name = "hop-pair", version, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// MB of each bulk transfer
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Round trips of each measurement
    #[arg(long, default_value_t = 5000)]
    trips: usize,
    /// Connections opened in each measurement
    #[arg(long, default_value_t = 2000)]
    opens: usize,
    /// Idle connections held
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// Pairs to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Design::Tcp, Design::Tls, Design::Hbone16k, Design::Hbone])]
    designs: Vec<Design>,
    /// The hbone-cat binary; by default the one beside this program
    #[arg(long)]
    hbone_cat: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run one relay of a baseline pair
    #[command(hide = true)]
    Relay(Relay),
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if let Some(Command::Relay(relay)) = args.command {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(relay.run());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(run(&args))?;
    args.output.show(&report, "Ratio to a pair of plain TLS relays", 2.0)
}

async fn run(args: &Args) -> io::Result<Report<Metric>> {
    let folder = std::env::temp_dir().join(format!("hop-pair-{}", std::process::id()));
    let pki = Pki::create(&folder)?;
    let hbone_cat = command::program(args.hbone_cat.clone(), "hbone-cat")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let app = listener.local_addr()?;
    let effort = Effort {
        bulk: args.megabytes * 1_000_000,
        trips: args.trips,
        opens: args.opens,
        idle: args.idle,
    };
    let rounds = async {
        let names = args.designs.iter().map(|design| design.name()).collect();
        let mut report = Report::new(names, Design::Tls.name());
        for round in 1..=args.rounds {
            let mut pairs = Vec::new();
            for &design in &args.designs {
                pairs.push((design, HopPair::start(design, app, &pki, &hbone_cat).await?));
            }
            // Whoever comes first meets the machine as the previous step left it.
            if round % 2 == 0 {
                pairs.reverse();
            }
            for step in Step::ALL {
                eprintln!("round {round} of {}: {step:?}", args.rounds);
                for (design, pair) in &pairs {
                    step.run(pair, effort, |metric, value| {
                        report.record(design.name(), metric, value);
                    })
                    .await?;
                }
            }
            drop(pairs);
            for &design in &args.designs {
                eprintln!("round {round} of {}: idle memory of {}", args.rounds, design.name());
                let pair = HopPair::start(design, app, &pki, &hbone_cat).await?;
                report.record(design.name(), Metric::IdleMemory, measure_idle(&pair, effort).await?);
            }
        }
        Ok(report)
    };
    let report = tokio::select! {
        report = rounds => report,
        served = load::serve(listener) => Err(io::Error::other(format!("the application ended: {served:?}"))),
    };
    std::fs::remove_dir_all(&folder)?;
    report
}
