//! Clients: tunnels through the waypoint, with an HTTP connection in each.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hbone::{Authority, Client, Config, TunnelRequest, tls};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval_at};

use super::endpoint::ANSWER;
use super::world::{SERVICE_PORT, Service, WAYPOINT, World};

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// On each connection the next when the last was answered.
    Closed,
    /// So many a second over all connections, whether the last ones were answered in time or not.
    Open(f64),
}

/// Requests that go on until dropped.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<io::Result<Infallible>>,
    times: Times,
}

/// How long each request took that was answered: from when it was due, not from when the connection
/// had time for it.
type Times = Arc<Mutex<Vec<Duration>>>;

impl Load {
    /// Opens `connections` to the waypoint with so many tunnels to `service` in each.
    pub async fn start(
        world: &World,
        service: Service,
        (connections, tunnels): (usize, usize),
        pace: Pace,
    ) -> io::Result<Self> {
        let times = Times::default();
        let mut tasks = JoinSet::new();
        let tls = world.pki.client_tls("client", WAYPOINT)?;
        let all = (connections * tunnels) as f64;
        let start = Instant::now();
        for connection in 0..connections {
            let dialed = tls::dial(world.waypoint(), &tls, &Config::default()).await;
            let (client, driver) = dialed.map_err(io::Error::other)?;
            tasks.spawn(async move {
                let ended = driver.await;
                Err(io::Error::other(format!("connection to the waypoint ended: {ended:?}")))
            });
            for tunnel in 0..tunnels {
                let caller = Caller {
                    client: client.clone(),
                    service,
                    times: Arc::clone(&times),
                };
                let number = (connection * tunnels + tunnel) as f64;
                tasks.spawn(async move {
                    let ticks = match pace {
                        Pace::Closed => None,
                        Pace::Open(rate) => {
                            let period = Duration::from_secs_f64(all / rate);
                            // No two at the same time.
                            Some(interval_at(start + period.mul_f64(1.0 + number / all), period))
                        }
                    };
                    caller.call(ticks).await
                });
            }
        }
        Ok(Self { tasks, times })
    }

    /// The times of the requests since the last look, if all went well.
    pub fn take(&mut self) -> io::Result<Vec<Duration>> {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(io::Error::other)??;
        }
        Ok(std::mem::take(
            &mut self.times.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

/// Who calls the service in one tunnel.
struct Caller {
    client: Client,
    service: Service,
    times: Times,
}

impl Caller {
    async fn call(self, mut ticks: Option<Interval>) -> io::Result<Infallible> {
        let authority = Authority::new(&self.service.vip.to_string(), SERVICE_PORT).map_err(io::Error::other)?;
        let opened = self.client.open(TunnelRequest::new(authority)).await;
        let stream = TokioIo::new(opened.map_err(io::Error::other)?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        let calling = async {
            loop {
                let due = match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => Instant::now(),
                };
                self.request(&mut sender).await?;
                let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push(due.elapsed());
            }
        };
        tokio::select! {
            ended = calling => ended,
            lost = connection => Err(io::Error::other(format!("connection lost: {lost:?}"))),
        }
    }

    async fn request(&self, sender: &mut SendRequest<Empty<Bytes>>) -> io::Result<()> {
        let request = Request::get("/").header("host", self.service.hostname());
        let request = request.body(Empty::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        if status.is_success() && *body.to_bytes() == ANSWER {
            Ok(())
        } else {
            Err(io::Error::other(format!("the service answered {status}")))
        }
    }
}
