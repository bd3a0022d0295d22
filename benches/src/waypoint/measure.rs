//! What is measured of a waypoint.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::design::{Design, Programs};
use super::load::{self, Pace};
use super::world::World;
use crate::http::Version;
use crate::load::percentile;
use crate::process::Process;
use crate::report::Quantity;

/// Time for what has been started, or has begun to carry, to become steady.
const SETTLE: Duration = Duration::from_secs(2);

/// One measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests a second, each caller sending the next when the last was answered.
    Throughput(Version),
    /// Requests for each CPU second of the waypoint, under the same load.
    PerCore(Version),
    /// CPU µs of the waypoint for each request, under the same load.
    FullCpu(Version),
    /// CPU µs for each request at half the rate that the baseline can do.
    HalfCpu(Version),
    /// Median time of a request at that rate, in ms.
    HalfP50(Version),
    /// 99th percentile of the same.
    HalfP99(Version),
    /// Seconds until it is ready, with so many services.
    Ready(u16),
    /// MB of resident memory with so many services.
    Resident(u16),
}

/// Numbers of services that memory is measured with.
pub const SERVICES: [u16; 4] = [0, 100, 1000, 3000];

impl Quantity for Metric {
    fn label(self) -> &'static str {
        match self {
            Self::Throughput(Version::Http1) => "HTTP/1.1, full load: requests/s",
            Self::PerCore(Version::Http1) => "HTTP/1.1, full load: requests/s per core used",
            Self::FullCpu(Version::Http1) => "HTTP/1.1, full load: CPU us a request",
            Self::HalfCpu(Version::Http1) => "HTTP/1.1, half load: CPU us a request",
            Self::HalfP50(Version::Http1) => "HTTP/1.1, half load: p50 ms",
            Self::HalfP99(Version::Http1) => "HTTP/1.1, half load: p99 ms",
            Self::Throughput(Version::Http2) => "HTTP/2, full load: requests/s",
            Self::PerCore(Version::Http2) => "HTTP/2, full load: requests/s per core used",
            Self::FullCpu(Version::Http2) => "HTTP/2, full load: CPU us a request",
            Self::HalfCpu(Version::Http2) => "HTTP/2, half load: CPU us a request",
            Self::HalfP50(Version::Http2) => "HTTP/2, half load: p50 ms",
            Self::HalfP99(Version::Http2) => "HTTP/2, half load: p99 ms",
            Self::Ready(0) => "no services: ready s",
            Self::Ready(100) => "100 services: ready s",
            Self::Ready(1000) => "1,000 services: ready s",
            Self::Ready(_) => "3,000 services: ready s",
            Self::Resident(0) => "no services: RSS MB",
            Self::Resident(100) => "100 services: RSS MB",
            Self::Resident(1000) => "1,000 services: RSS MB",
            Self::Resident(_) => "3,000 services: RSS MB",
        }
    }
}

/// What is done with each waypoint.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// HBONE connections of clients.
    pub connections: usize,
    /// Requests at a time in each.
    pub requests: usize,
    /// Services that the waypoint has while it carries requests.
    pub services: u16,
    /// How long each measurement takes.
    pub window: Duration,
}

/// Has a new waypoint carry as many requests as it can; answers how many a second that were.
pub async fn full_load(
    (design, version): (Design, Version),
    world: &World,
    effort: Effort,
    programs: &Programs,
    mut record: impl FnMut(Metric, f64),
) -> io::Result<f64> {
    let process = design.start(world, effort.services, programs).await?;
    let seen = under(world, &process, version, effort, Pace::Closed).await?;
    let rate = seen.times.len() as f64 / effort.window.as_secs_f64();
    record(Metric::Throughput(version), rate);
    record(
        Metric::PerCore(version),
        seen.times.len() as f64 / seen.cpu.as_secs_f64(),
    );
    record(Metric::FullCpu(version), seen.cpu_of_one());
    Ok(rate)
}

/// Has a new waypoint carry so many requests a second.
pub async fn half_load(
    (design, version): (Design, Version),
    world: &World,
    effort: Effort,
    (programs, rate): (&Programs, f64),
    mut record: impl FnMut(Metric, f64),
) -> io::Result<()> {
    let process = design.start(world, effort.services, programs).await?;
    let mut seen = under(world, &process, version, effort, Pace::Open(rate)).await?;
    record(Metric::HalfCpu(version), seen.cpu_of_one());
    record(Metric::HalfP50(version), percentile(&mut seen.times, 50) * 1e3);
    record(Metric::HalfP99(version), percentile(&mut seen.times, 99) * 1e3);
    Ok(())
}

/// Starts waypoints that have nothing to do.
pub async fn idle(
    design: Design,
    world: &World,
    programs: &Programs,
    mut record: impl FnMut(Metric, f64),
) -> io::Result<()> {
    for services in SERVICES {
        let began = Instant::now();
        let process = design.start(world, services, programs).await?;
        record(Metric::Ready(services), began.elapsed().as_secs_f64());
        sleep(SETTLE).await;
        record(Metric::Resident(services), process.resident()? as f64 / 1e6);
    }
    Ok(())
}

/// What was seen while requests were sent.
struct Seen {
    cpu: Duration,
    times: Vec<Duration>,
}

impl Seen {
    /// In microseconds.
    fn cpu_of_one(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.len() as f64
    }
}

async fn under(world: &World, process: &Process, version: Version, effort: Effort, pace: Pace) -> io::Result<Seen> {
    let service = world.services(1).next();
    let service = service.ok_or_else(|| io::Error::other("no service"))?;
    let mut load = load::start(world, service, version, (effort.connections, effort.requests), pace).await?;
    sleep(SETTLE).await;
    drop(load.take()?);
    let before = process.cpu()?;
    sleep(effort.window).await;
    Ok(Seen {
        cpu: process.cpu()?.saturating_sub(before),
        times: load.take()?,
    })
}
