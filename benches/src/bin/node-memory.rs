//! What a node proxy needs for a large mesh: memory, and time until it is ready.

#![allow(clippy::print_stdout, reason = "a command prints")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use mesh_benches::command;
use mesh_benches::mesh::{self, WORKLOADS_PER_SERVICE};
use mesh_benches::pki::Pki;
use mesh_benches::process::{Process, free_addr};
use mesh_xds::delta::{Published, Server, ServerConfig};
use mesh_xds::server::Discovery;
use mesh_xds_types::workload::{Address, address};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tonic::transport::server::TcpIncoming;

/// Gives a node proxy a large mesh over xDS on loopback
///
/// Prints what it holds resident, the most that it held, and how long it took from its start until it
/// was ready. Build it first: `cargo build --release -p mesh-examples -p mesh-benches`.
#[derive(Debug, Parser)]
#[command(name = "node-memory", version)]
struct Args {
    /// Workloads, ten in each service
    #[arg(long, default_value_t = 50_000)]
    workloads: u32,
    /// Starts, of which the medians count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The node-proxy binary; by default the one beside this program
    #[arg(long)]
    node_proxy: Option<PathBuf>,
}

/// What one start took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    resident: u64,
    peak: u64,
    ready: Duration,
    /// Processor time until then.
    cpu: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let program = command::program(args.node_proxy, "node-proxy")?;
    let folder = std::env::temp_dir().join(format!("node-memory-{}", std::process::id()));
    let pki = Pki::create(&folder)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let discovery = discovery(args.workloads);
    let serving = tonic::transport::Server::builder()
        .add_service(discovery.service())
        .serve_with_incoming(TcpIncoming::from(listener));
    let rounds = async {
        // Without a mesh, for what the program takes by itself.
        let empty = measure(&program, &pki, None).await?;
        let mut costs = Vec::new();
        for _ in 0..args.rounds {
            costs.push(measure(&program, &pki, Some(server)).await?);
        }
        Ok((empty, costs))
    };
    let result = tokio::select! {
        result = rounds => result,
        served = serving => Err(io::Error::other(format!("the server ended: {served:?}"))),
    };
    std::fs::remove_dir_all(&folder)?;
    let (empty, costs) = result?;
    println!(
        "node-proxy with {} workloads over xDS, {} starts",
        args.workloads,
        costs.len()
    );
    println!("{:<24}{:>10}{:>14}", "", "median", "without mesh");
    let row = |name: &str, value: f64, empty: f64, unit: &str| println!("{name:<24}{value:>10.1}{empty:>14.1} {unit}");
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    row(
        "resident",
        megabytes(median(&costs, |cost| cost.resident)),
        megabytes(empty.resident),
        "MB",
    );
    row(
        "most resident",
        megabytes(median(&costs, |cost| cost.peak)),
        megabytes(empty.peak),
        "MB",
    );
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    row(
        "start to ready",
        millis(median(&costs, |cost| cost.ready)),
        millis(empty.ready),
        "ms",
    );
    row(
        "processor until ready",
        millis(median(&costs, |cost| cost.cpu)),
        millis(empty.cpu),
        "ms",
    );
    Ok(())
}

/// A control plane with a mesh.
fn discovery(workloads: u32) -> Discovery {
    let discovery = Discovery::new(Server::new(ServerConfig::new()), |_| {});
    let published = |name: String, resource: address::Type| {
        let address = Address { r#type: Some(resource) };
        Published::new(name, "0123456789abcdef", address.encode_to_vec())
    };
    let services = (0..workloads / WORKLOADS_PER_SERVICE).map(|number| {
        let service = mesh::service(number);
        let key = format!("{}/{}", service.namespace, service.hostname);
        published(key, address::Type::Service(service))
    });
    let workloads = (0..workloads).map(|number| {
        let workload = mesh::workload(number);
        published(workload.uid.clone(), address::Type::Workload(workload))
    });
    discovery.publish(AUTHORIZATION_TYPE_URL, []);
    discovery.publish(ADDRESS_TYPE_URL, services.chain(workloads));
    discovery
}

/// Starts a node proxy and waits until it is ready.
async fn measure(program: &Path, pki: &Pki, server: Option<SocketAddr>) -> io::Result<Cost> {
    let admin = free_addr()?;
    let source = match server {
        Some(addr) => format!("[mesh.xds]\naddress = \"{addr}\"\n"),
        None => {
            let file = pki.folder().join("mesh.yaml");
            std::fs::write(&file, "workloads: []\n")?;
            format!("[mesh]\nfile = {file:?}\n")
        }
    };
    let config = format!(
        "node = \"node-0\"\ntrust_domain = \"bench.test\"\n{source}\
         [[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n[admin]\nbind = \"{admin}\"\n",
        pki.cert("client"),
        pki.key("client"),
        pki.roots(),
    );
    let file = pki.folder().join("node.toml");
    std::fs::write(&file, config)?;
    let began = Instant::now();
    let process = Process::spawn(program, ["--config".into(), file.into()])?;
    process.wait_until_ready(admin, "/healthz/ready").await?;
    let ready = began.elapsed();
    let cpu = process.cpu()?;
    // What is given back takes a moment.
    sleep(Duration::from_secs(1)).await;
    Ok(Cost {
        resident: process.resident()?,
        peak: process.peak()?,
        ready,
        cpu,
    })
}

fn median<T: Ord + Copy + Default>(costs: &[Cost], part: impl Fn(&Cost) -> T) -> T {
    let mut parts: Vec<T> = costs.iter().map(part).collect();
    parts.sort_unstable();
    parts.get(parts.len() / 2).copied().unwrap_or_default()
}
