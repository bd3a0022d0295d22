use std::time::Duration;

use mesh_policy::traffic::upstream::Settings;

/// Streams of HTTP/2 on one connection where nobody says how many: as many as HTTP asks for at least.
const STREAMS: u32 = 100;

/// Bounds and times of the connections to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// For the tunnel and what comes before it.
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) age: Option<Duration>,
    pub(super) requests_per_connection: u32,
    /// At a time, on a connection of HTTP/2.
    pub(super) streams: u32,
}

impl Terms {
    pub(super) fn of(settings: &Settings) -> Self {
        let requests = settings.requests_per_connection.filter(|requests| *requests > 0);
        Self {
            connect_timeout: settings.connect_timeout,
            idle_timeout: settings.idle_timeout,
            age: settings.connection_age,
            requests_per_connection: requests.unwrap_or(u32::MAX),
            streams: settings.streams_per_connection.unwrap_or(STREAMS).max(1),
        }
    }
}
