//! What is measured of a hop pair.

use std::io;
use std::time::Duration;

use super::design::HopPair;
use super::load;
use crate::load::percentile;
use crate::report::Quantity;

/// Bulk connections beside small round trips.
const MIXED_BULK: usize = 8;

/// Connections that compete, and for how long.
const RACERS: usize = 10;
const RACE: Duration = Duration::from_secs(2);

/// Tasks that open connections.
const OPENERS: usize = 4;

/// One measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// CPU seconds of both processes for each GB uploaded over one connection.
    UploadCpu1,
    /// Gbit/s of the same.
    UploadRate1,
    /// As `UploadCpu1`, over four connections.
    UploadCpu4,
    /// As `UploadRate1`, over four connections.
    UploadRate4,
    /// As `UploadCpu1`, downloaded.
    DownloadCpu1,
    /// As `UploadRate1`, downloaded.
    DownloadRate1,
    /// As `UploadCpu4`, downloaded.
    DownloadCpu4,
    /// As `UploadRate4`, downloaded.
    DownloadRate4,
    /// CPU µs of both processes for each 64-byte round trip.
    RoundTripCpu,
    /// Median round trip in µs.
    RoundTripP50,
    /// 99th percentile of the round trip in µs.
    RoundTripP99,
    /// Median round trip in µs beside eight bulk uploads.
    MixedP50,
    /// 99th percentile of the same.
    MixedP99,
    /// Jain's index of what ten bulk uploads get of the same time.
    Fairness,
    /// Connections opened, used for one byte and closed, a second.
    Opens,
    /// CPU µs of both processes for each of them.
    OpenCpu,
    /// Bytes by which both processes grow with each of them, once warm.
    ChurnGrowth,
    /// KiB of resident memory for each idle connection and side.
    IdleMemory,
}

impl Quantity for Metric {
    fn label(self) -> &'static str {
        match self {
            Self::UploadCpu1 => "upload, 1 connection: CPU s/GB",
            Self::UploadRate1 => "upload, 1 connection: Gbit/s",
            Self::UploadCpu4 => "upload, 4 connections: CPU s/GB",
            Self::UploadRate4 => "upload, 4 connections: Gbit/s",
            Self::DownloadCpu1 => "download, 1 connection: CPU s/GB",
            Self::DownloadRate1 => "download, 1 connection: Gbit/s",
            Self::DownloadCpu4 => "download, 4 connections: CPU s/GB",
            Self::DownloadRate4 => "download, 4 connections: Gbit/s",
            Self::RoundTripCpu => "64-byte round trip: CPU us",
            Self::RoundTripP50 => "64-byte round trip: p50 us",
            Self::RoundTripP99 => "64-byte round trip: p99 us",
            Self::MixedP50 => "the same beside 8 uploads: p50 us",
            Self::MixedP99 => "the same beside 8 uploads: p99 us",
            Self::Fairness => "10 uploads at once: Jain index",
            Self::Opens => "tunnels opened: 1/s",
            Self::OpenCpu => "tunnel opened: CPU us",
            Self::ChurnGrowth => "tunnel opened: growth in bytes",
            Self::IdleMemory => "idle tunnel: KiB/side",
        }
    }
}

/// How much is done for each measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Bytes of each bulk transfer.
    pub bulk: u64,
    /// Round trips.
    pub trips: usize,
    /// Connections opened.
    pub opens: usize,
    /// Idle connections held.
    pub idle: usize,
}

/// Blocks that the round trips of a round are done in.
const ROUND_TRIP_BLOCKS: usize = 5;

/// One thing that is done to every pair before the next is done to any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first connection, which pays for what later ones share.
    WarmUp,
    /// A bulk transfer.
    Bulk {
        /// Connections that share it.
        connections: usize,
        /// From client to server.
        up: bool,
    },
    /// Small round trips on an idle pair.
    RoundTrips,
    /// Small round trips beside bulk.
    Mixed,
    /// Bulk on several connections for a fixed time.
    Race,
    /// Connections that come and go.
    Churn,
}

impl Step {
    /// All, in order.
    pub const ALL: [Self; 13] = [
        Self::WarmUp,
        Self::bulk(1, true),
        Self::bulk(4, true),
        Self::bulk(1, false),
        Self::bulk(4, false),
        // In blocks, with a new connection each: where the system has once put the processes that
        // take turns, it leaves them for a while, and one block would measure that.
        Self::RoundTrips,
        Self::RoundTrips,
        Self::RoundTrips,
        Self::RoundTrips,
        Self::RoundTrips,
        Self::Mixed,
        Self::Race,
        Self::Churn,
    ];

    const fn bulk(connections: usize, up: bool) -> Self {
        Self::Bulk { connections, up }
    }

    /// Does it to one pair.
    pub async fn run(self, pair: &HopPair, effort: Effort, mut record: impl FnMut(Metric, f64)) -> io::Result<()> {
        let entry = pair.entry();
        match self {
            Self::WarmUp => drop(load::round_trips(entry, 10).await?),
            Self::Bulk { connections, up } => bulk(pair, effort, (connections, up), record).await?,
            Self::RoundTrips => {
                let before = pair.cpu()?;
                let trips = (effort.trips / ROUND_TRIP_BLOCKS).max(1);
                let mut times = load::round_trips(entry, trips).await?;
                let cpu = pair.cpu()?.saturating_sub(before);
                record(Metric::RoundTripCpu, micros(cpu) / trips as f64);
                record(Metric::RoundTripP50, percentile(&mut times, 50) * 1e6);
                record(Metric::RoundTripP99, percentile(&mut times, 99) * 1e6);
            }
            Self::Mixed => {
                let mut times = load::round_trips_beside(entry, effort.trips / 4, MIXED_BULK).await?;
                record(Metric::MixedP50, percentile(&mut times, 50) * 1e6);
                record(Metric::MixedP99, percentile(&mut times, 99) * 1e6);
            }
            Self::Race => record(Metric::Fairness, jain(&load::race(entry, RACERS, RACE).await?)),
            Self::Churn => churn(pair, effort, record).await?,
        }
        Ok(())
    }
}

async fn bulk(
    pair: &HopPair,
    effort: Effort,
    (connections, up): (usize, bool),
    mut record: impl FnMut(Metric, f64),
) -> io::Result<()> {
    let (cpu_metric, rate_metric) = match (connections, up) {
        (1, true) => (Metric::UploadCpu1, Metric::UploadRate1),
        (_, true) => (Metric::UploadCpu4, Metric::UploadRate4),
        (1, false) => (Metric::DownloadCpu1, Metric::DownloadRate1),
        (_, false) => (Metric::DownloadCpu4, Metric::DownloadRate4),
    };
    let bytes = effort.bulk / connections as u64;
    let before = pair.cpu()?;
    let elapsed = if up {
        load::upload(pair.entry(), connections, bytes).await?
    } else {
        load::download(pair.entry(), connections, bytes).await?
    };
    let cpu = pair.cpu()?.saturating_sub(before);
    let gigabytes = (bytes * connections as u64) as f64 / 1e9;
    record(cpu_metric, cpu.as_secs_f64() / gigabytes);
    record(rate_metric, gigabytes * 8.0 / elapsed.as_secs_f64());
    Ok(())
}

async fn churn(pair: &HopPair, effort: Effort, mut record: impl FnMut(Metric, f64)) -> io::Result<()> {
    // What the first half makes the allocator keep is there for the second half.
    load::opens(pair.entry(), effort.opens / 2, OPENERS).await?;
    let (before, resident) = (pair.cpu()?, pair.resident()?);
    let opens = effort.opens - effort.opens / 2;
    let elapsed = load::opens(pair.entry(), opens, OPENERS).await?;
    let cpu = pair.cpu()?.saturating_sub(before);
    let grown = pair.resident()? as f64 - resident as f64;
    record(Metric::Opens, opens as f64 / elapsed.as_secs_f64());
    record(Metric::OpenCpu, micros(cpu) / opens as f64);
    record(Metric::ChurnGrowth, grown / opens as f64);
    Ok(())
}

/// Jain's index of fairness: 1 if all got the same, 1/n if one got all.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|share| *share as f64).sum();
    let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// Measures the memory of idle connections, on a pair that has carried nothing else.
pub async fn measure_idle(pair: &HopPair, effort: Effort) -> io::Result<f64> {
    // The same number of connections before: what the allocator keeps is not the tunnels'.
    drop(load::hold(pair.entry(), effort.idle / 10).await?);
    let before = pair.resident()?;
    let held = load::hold(pair.entry(), effort.idle).await?;
    let after = pair.resident()?;
    drop(held);
    Ok(after.saturating_sub(before) as f64 / 1024.0 / 2.0 / effort.idle as f64)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
