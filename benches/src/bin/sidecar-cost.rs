//! What a mesh of node proxies costs beside one of sidecars.

#![allow(clippy::print_stderr, reason = "a command prints")]

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_benches::command::{self, Output, Peer};
use mesh_benches::fleet::app;
use mesh_benches::fleet::design::{Design, Programs};
use mesh_benches::fleet::measure::{self, Effort, Metric};
use mesh_benches::fleet::world::{self, World};
use mesh_benches::report::Report;

/// Compare two node proxies with a sidecar for each workload
///
/// Puts the workloads on two nodes, on loopback; every one calls services on the other node. Starts
/// what is between them, in turns: a `node-proxy` for each node, and an Envoy for each workload,
/// configured as Istio's sidecar; measures it idle, with requests on kept connections, and with a new
/// connection for each request; and prints medians over the rounds, with the ratio to the sidecars
/// that read HTTP, and ranges. Build the proxies first:
/// `cargo build --release -p mesh-examples -p mesh-benches`, and install Envoy:
/// `bash examples/tests/install-peers.sh`.
#[derive(Debug, Parser)]
#[command(name = "sidecar-cost", version)]
struct Args {
    /// Workloads, half of them on each node
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(2..=i64::from(world::MOST)))]
    workloads: u16,
    /// Services that each workload calls
    #[arg(long, default_value_t = 2)]
    calls: usize,
    /// Connections that it keeps to each of them
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Requests a second of each workload, over its kept connections
    #[arg(long, default_value_t = 10.0)]
    requests: f64,
    /// New connections a second of each workload, with a request each
    #[arg(long, default_value_t = 2.0)]
    opens: f64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Worker threads of each Envoy; Istio's default is 2
    #[arg(long, default_value_t = 2)]
    concurrency: u16,
    /// What to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Design::SidecarHttp, Design::SidecarTcp, Design::NodeProxy])]
    designs: Vec<Design>,
    /// The node-proxy binary; by default the one beside this program
    #[arg(long)]
    node_proxy: Option<PathBuf>,
    #[command(flatten)]
    peer: Peer,
    #[command(flatten)]
    output: Output,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let programs = Programs {
        node_proxy: command::program(args.node_proxy.clone(), "node-proxy")?,
        envoy: args.peer.program()?,
        concurrency: args.concurrency,
    };
    let folder = std::env::temp_dir().join(format!("sidecar-cost-{}", std::process::id()));
    let world = World::create(&folder, args.workloads)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = run(&args, &world, &programs) => report,
            ended = app::serve(&world) => match ended? {},
        }
    })?;
    let title = format!("{} workloads: ratio to sidecars that read HTTP", args.workloads);
    args.output.show(&report, &title, 1.1)
}

async fn run(args: &Args, world: &World, programs: &Programs) -> io::Result<Report<Metric>> {
    let effort = Effort {
        calls: args.calls,
        connections: args.connections,
        requests: args.requests,
        opens: args.opens,
        window: Duration::from_secs(args.seconds),
    };
    let names = args.designs.iter().map(|design| design.name()).collect();
    let mut report = Report::new(names, Design::SidecarHttp.name());
    for round in 1..=args.rounds {
        for design in &args.designs {
            eprintln!("round {round} of {}: {}", args.rounds, design.name());
            let record = |metric, value| report.record(design.name(), metric, value);
            measure::run(*design, world, effort, programs, record).await?;
        }
    }
    Ok(report)
}
