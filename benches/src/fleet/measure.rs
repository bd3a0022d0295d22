//! What is measured of a design.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::app::{self, Pattern};
use super::design::{Design, Programs, Running};
use super::wire::Wire;
use super::world::World;
use crate::load::{Load, percentile};
use crate::process::Process;
use crate::report::Quantity;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Time for what has been started, or has begun to carry, to become steady.
const SETTLE: Duration = Duration::from_secs(3);

/// One measured quantity, over all proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Seconds until all are ready.
    Ready,
    /// CPU seconds until then.
    StartCpu,
    /// Threads.
    Threads,
    /// MB of proportional memory without traffic.
    IdleProportional,
    /// MB of resident memory without traffic.
    IdleResident,
    /// CPU seconds of a minute without traffic.
    IdleCpu,
    /// MB of proportional memory with requests on kept connections.
    LoadedProportional,
    /// MB of resident memory with the same.
    LoadedResident,
    /// CPU seconds for 1,000 requests on kept connections.
    RequestCpu,
    /// Median time of such a request in ms.
    RequestP50,
    /// 99th percentile of the same.
    RequestP99,
    /// TLS connections open with such requests.
    OpenTls,
    /// CPU seconds for 1,000 requests on a connection each.
    ConnectionCpu,
    /// Median time of such a request, with its connection, in ms.
    ConnectionP50,
    /// TLS connections made for 1,000 of them.
    ConnectionTls,
}

impl Quantity for Metric {
    fn label(self) -> &'static str {
        match self {
            Self::Ready => "all ready: s",
            Self::StartCpu => "until then: CPU s",
            Self::Threads => "threads",
            Self::IdleProportional => "idle: PSS MB",
            Self::IdleResident => "idle: RSS MB",
            Self::IdleCpu => "idle: CPU s a minute",
            Self::LoadedProportional => "loaded: PSS MB",
            Self::LoadedResident => "loaded: RSS MB",
            Self::RequestCpu => "1,000 requests: CPU s",
            Self::RequestP50 => "request: p50 ms",
            Self::RequestP99 => "request: p99 ms",
            Self::OpenTls => "loaded: TLS connections open",
            Self::ConnectionCpu => "1,000 new connections: CPU s",
            Self::ConnectionP50 => "new connection: p50 ms",
            Self::ConnectionTls => "1,000 new connections: TLS ones",
        }
    }
}

/// What is done with each design.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Services that each workload calls.
    pub calls: usize,
    /// Connections that it keeps to each.
    pub connections: usize,
    /// Requests a second of each workload.
    pub requests: f64,
    /// New connections a second of each workload.
    pub opens: f64,
    /// How long each measurement takes.
    pub window: Duration,
}

/// Starts a design, measures it and ends it.
pub async fn run(
    design: Design,
    world: &World,
    effort: Effort,
    programs: &Programs,
    mut record: impl FnMut(Metric, f64),
) -> io::Result<()> {
    let began = Instant::now();
    let running = design.start(world, effort.calls, programs).await?;
    record(Metric::Ready, began.elapsed().as_secs_f64());
    record(Metric::StartCpu, cpu(&running)?);
    sleep(SETTLE).await;

    record(Metric::Threads, running.sum(Process::threads)? as f64);
    let before = cpu(&running)?;
    sleep(effort.window).await;
    let of_a_minute = 60.0 / effort.window.as_secs_f64();
    record(Metric::IdleCpu, (cpu(&running)? - before) * of_a_minute);
    record(Metric::IdleProportional, megabytes(&running, Process::proportional)?);
    record(Metric::IdleResident, megabytes(&running, Process::resident)?);

    let kept = Pattern::Kept {
        connections: effort.connections,
        rate: effort.requests,
    };
    let mut seen = under(world, &running, effort, kept).await?;
    record(Metric::LoadedProportional, megabytes(&running, Process::proportional)?);
    record(Metric::LoadedResident, megabytes(&running, Process::resident)?);
    record(Metric::RequestCpu, seen.cpu_of_1000());
    record(Metric::RequestP50, percentile(&mut seen.times, 50) * 1e3);
    record(Metric::RequestP99, percentile(&mut seen.times, 99) * 1e3);
    record(Metric::OpenTls, seen.open_tls as f64);
    drop(seen);

    let new = Pattern::New { rate: effort.opens };
    let mut seen = under(world, &running, effort, new).await?;
    record(Metric::ConnectionCpu, seen.cpu_of_1000());
    record(Metric::ConnectionP50, percentile(&mut seen.times, 50) * 1e3);
    record(
        Metric::ConnectionTls,
        seen.made_tls as f64 * 1000.0 / seen.times.len() as f64,
    );
    Ok(())
}

/// What was seen while applications did something. They go on doing it until this is dropped.
struct Seen {
    cpu: f64,
    times: Vec<Duration>,
    open_tls: usize,
    made_tls: usize,
    _load: Load,
}

impl Seen {
    fn cpu_of_1000(&self) -> f64 {
        self.cpu * 1000.0 / self.times.len() as f64
    }
}

async fn under(world: &World, running: &Running, effort: Effort, pattern: Pattern) -> io::Result<Seen> {
    let mut load = app::start(world, running, effort.calls, pattern)?;
    // The slowest tick of a connection is its first.
    let (Pattern::Kept { rate, .. } | Pattern::New { rate }) = pattern;
    let connections = match pattern {
        Pattern::Kept { connections, .. } => connections,
        Pattern::New { .. } => 1,
    };
    let period = Duration::from_secs_f64((effort.calls * connections) as f64 / rate);
    sleep(SETTLE.max(period)).await;
    let mut wire = Wire::new(running.tls_port());
    wire.look(world)?;
    let known = wire.seen();
    drop(load.take()?);
    let (before, began) = (cpu(running)?, Instant::now());
    let mut open_tls = 0;
    while began.elapsed() < effort.window {
        sleep(LOOK).await;
        open_tls = wire.look(world)?;
    }
    Ok(Seen {
        cpu: cpu(running)? - before,
        times: load.take()?,
        open_tls,
        made_tls: wire.seen() - known,
        _load: load,
    })
}

/// CPU seconds so far.
fn cpu(running: &Running) -> io::Result<f64> {
    running.sum(Process::cpu).map(|cpu: Duration| cpu.as_secs_f64())
}

fn megabytes(running: &Running, of: fn(&Process) -> io::Result<u64>) -> io::Result<f64> {
    running.sum(of).map(|bytes: u64| bytes as f64 / 1e6)
}
