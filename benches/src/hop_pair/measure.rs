//! What is measured of a hop pair.

use std::io;
use std::time::Duration;

use super::design::HopPair;
use super::load;

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
    /// Connections opened, used for one byte and closed, a second.
    Opens,
    /// CPU µs of both processes for each of them.
    OpenCpu,
    /// KiB of resident memory for each idle connection and side.
    IdleMemory,
}

impl Metric {
    /// The row's name and unit.
    pub fn label(self) -> &'static str {
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
            Self::Opens => "tunnels opened: 1/s",
            Self::OpenCpu => "tunnel opened: CPU us",
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

/// Measures everything once.
pub async fn measure(pair: &HopPair, effort: Effort, mut record: impl FnMut(Metric, f64)) -> io::Result<()> {
    let entry = pair.entry();
    // The first connection of a pair pays for what later ones share.
    load::round_trips(entry, 10).await?;
    let rows = [
        (1, true, Metric::UploadCpu1, Metric::UploadRate1),
        (4, true, Metric::UploadCpu4, Metric::UploadRate4),
        (1, false, Metric::DownloadCpu1, Metric::DownloadRate1),
        (4, false, Metric::DownloadCpu4, Metric::DownloadRate4),
    ];
    for (connections, up, cpu_metric, rate_metric) in rows {
        let bytes = effort.bulk / connections as u64;
        let before = pair.cpu()?;
        let elapsed = if up {
            load::upload(entry, connections, bytes).await?
        } else {
            load::download(entry, connections, bytes).await?
        };
        let cpu = pair.cpu()?.saturating_sub(before);
        let gigabytes = (bytes * connections as u64) as f64 / 1e9;
        record(cpu_metric, cpu.as_secs_f64() / gigabytes);
        record(rate_metric, gigabytes * 8.0 / elapsed.as_secs_f64());
    }
    let before = pair.cpu()?;
    let mut times = load::round_trips(entry, effort.trips).await?;
    let cpu = pair.cpu()?.saturating_sub(before);
    times.sort_unstable();
    record(Metric::RoundTripCpu, micros(cpu) / effort.trips as f64);
    record(Metric::RoundTripP50, micros(times[times.len() / 2]));
    record(Metric::RoundTripP99, micros(times[times.len() * 99 / 100]));
    let before = pair.cpu()?;
    let elapsed = load::opens(entry, effort.opens, 4).await?;
    let cpu = pair.cpu()?.saturating_sub(before);
    record(Metric::Opens, effort.opens as f64 / elapsed.as_secs_f64());
    record(Metric::OpenCpu, micros(cpu) / effort.opens as f64);
    Ok(())
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
