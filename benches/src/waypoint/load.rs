//! Clients: tunnels through the waypoint, with HTTP connections in them.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use hbone::{Authority, Config, TunnelRequest, tls};
use tokio::time::{Instant, Interval, interval_at};

use super::world::{SERVICE_PORT, Service, WAYPOINT, World};
use crate::http::{Client, Connection, Version};
use crate::load::{Load, Times};

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// By each caller the next when the last was answered.
    Closed,
    /// So many a second of all callers, whether the last ones were answered in time or not.
    Open(f64),
}

/// Opens so many connections to the waypoint, and has so many callers in each ask `service`. What a request took counts from when
/// it was due, not from when its caller had time for it.
pub async fn start(
    world: &World,
    service: Service,
    version: Version,
    (connections, requests): (usize, usize),
    pace: Pace,
) -> io::Result<Load> {
    let mut load = Load::default();
    let mut callers = Vec::new();
    let tls = world.pki.client_tls("client", WAYPOINT)?;
    for _ in 0..connections {
        let dialed = tls::dial(world.waypoint(), &tls, &Config::default()).await;
        let (client, driver) = dialed.map_err(io::Error::other)?;
        load.spawn(async move {
            let ended = driver.await;
            Err(io::Error::other(format!("connection to the waypoint ended: {ended:?}")))
        });
        let mut beside = None;
        for _ in 0..requests {
            let caller = match beside.take() {
                Some(client) => Caller::new(client, Box::pin(pending())),
                None => open(&client, service, version).await?,
            };
            beside = caller.client.beside();
            callers.push(caller);
        }
    }
    let (all, start) = (callers.len() as f64, Instant::now());
    for (number, caller) in callers.into_iter().enumerate() {
        let ticks = match pace {
            Pace::Closed => None,
            Pace::Open(rate) => {
                let period = Duration::from_secs_f64(all / rate);
                // No two at the same time.
                Some(interval_at(start + period.mul_f64(1.0 + number as f64 / all), period))
            }
        };
        load.spawn(caller.call(ticks, load.times()));
    }
    Ok(load)
}

/// Opens a tunnel with an HTTP connection.
async fn open(tunnels: &hbone::Client, service: Service, version: Version) -> io::Result<Caller> {
    let authority = Authority::new(&service.vip.to_string(), SERVICE_PORT).map_err(io::Error::other)?;
    let opened = tunnels.open(TunnelRequest::new(authority)).await;
    let stream = opened.map_err(io::Error::other)?;
    let (client, connection) = Client::open(stream, version, &service.hostname()).await?;
    Ok(Caller::new(client, connection))
}

/// Who sends one request at a time.
struct Caller {
    client: Client,
    /// What goes on with this caller: of those who share a connection, one has it.
    connection: Connection,
}

impl Caller {
    fn new(client: Client, connection: Connection) -> Self {
        Self { client, connection }
    }

    async fn call(mut self, mut ticks: Option<Interval>, times: Times) -> io::Result<Infallible> {
        let calling = async {
            loop {
                let due = match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => Instant::now(),
                };
                self.client.ask().await?;
                times.record(due);
            }
        };
        tokio::select! {
            ended = calling => ended,
            lost = self.connection => Err(lost),
        }
    }
}
