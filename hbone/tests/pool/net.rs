//! A network in memory: each key is a server, which does what its test says.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hbone::pool::Connect;
use hbone::{
    Client, Config, Connection, IncomingTunnel, Peer, Pool, PoolConfig, PoolStats, TunnelRequest, TunnelResponse,
    TunnelStream, server,
};
use mesh_testkit::peer::RawServer;
use mesh_testkit::pipe::{self, Pipe, PipeControl};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

pub type TestPool = Pool<u16, Net>;

/// What becomes of the dials of a key.
#[derive(Clone)]
pub enum Fate {
    /// An echo server with this configuration.
    Serve(Config),
    /// A server that follows a script.
    Script(fn(RawServer<Pipe>, usize) -> Script),
    /// An error.
    Fail,
    /// A panic.
    Panic,
    /// Nothing, ever.
    Hang,
}

pub type Script = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    fates: HashMap<u16, Fate>,
    dials: HashMap<u16, usize>,
    controls: Vec<PipeControl>,
    /// How servers ended.
    ends: Vec<Result<(), server::ServeError>>,
    servers: JoinSet<()>,
}

impl Net {
    /// A pool over a network where key 1 is an echo server for `tunnels` tunnels a connection.
    pub fn of_one(tunnels: u32, config: &PoolConfig) -> (Self, TestPool) {
        let net = Self::default();
        net.set(1, Fate::Serve(limited(tunnels)));
        (net.clone(), Pool::new(config.clone(), net))
    }

    pub fn set(&self, key: u16, fate: Fate) {
        self.0.lock().unwrap().fates.insert(key, fate);
    }

    pub fn dials(&self, key: u16) -> usize {
        self.0.lock().unwrap().dials.get(&key).copied().unwrap_or(0)
    }

    /// The pipe of the nth connection, of all keys.
    pub fn control(&self, nth: usize) -> PipeControl {
        self.0.lock().unwrap().controls[nth].clone()
    }

    /// How servers have ended so far.
    pub fn ends(&self) -> Vec<Result<(), server::ServeError>> {
        self.0.lock().unwrap().ends.clone()
    }

    fn listen(&self, key: u16) -> Option<Result<Pipe, io::Error>> {
        let mut world = self.0.lock().unwrap();
        let dial = world.dials.entry(key).or_default();
        *dial += 1;
        let nth = *dial;
        let fate = world.fates.get(&key).cloned().unwrap_or(Fate::Fail);
        let (near, far) = pipe::Builder::new().capacity(1 << 20).build();
        match fate {
            Fate::Fail => return Some(Err(io::ErrorKind::ConnectionRefused.into())),
            Fate::Hang => return None,
            Fate::Panic => {
                drop(world);
                panic!("the connector of key {key} panics");
            }
            Fate::Script(script) => {
                let script = script(RawServer::new(far).with_deadline(Duration::from_secs(3600)), nth);
                world.servers.spawn(script);
            }
            Fate::Serve(config) => {
                let net = self.clone();
                world.servers.spawn(async move {
                    let end = server::serve(far, Peer::unknown(), &config, Arc::new(echo), std::future::pending());
                    let end = end.await;
                    net.0.lock().unwrap().ends.push(end);
                });
            }
        }
        world.controls.push(near.control());
        Some(Ok(near))
    }
}

impl Connect<u16> for Net {
    type Error = io::Error;
    type Driver = Connection<Pipe>;

    async fn connect(&self, key: &u16) -> Result<(Client, Connection<Pipe>), io::Error> {
        let pipe = match self.listen(*key) {
            Some(pipe) => pipe?,
            None => std::future::pending().await,
        };
        let connected = hbone::client::handshake(pipe, Peer::unknown(), &Config::default()).await;
        connected.map_err(io::Error::other)
    }
}

/// A configuration for so many tunnels.
pub fn limited(tunnels: u32) -> Config {
    let mut config = Config::default();
    config.set_max_tunnels(tunnels);
    config
}

pub fn request() -> TunnelRequest {
    TunnelRequest::new("10.0.0.1:80".parse().unwrap())
}

/// Opens a tunnel on key 1.
pub async fn open(pool: &TestPool) -> TunnelStream {
    pool.open(&1, request()).await.unwrap()
}

/// Sends a word through a tunnel and back, which proves that it is one, and ends it.
pub async fn use_up(mut tunnel: TunnelStream) {
    tunnel.write_all(b"word").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut got = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut tunnel, &mut got)
        .await
        .unwrap();
    assert_eq!(got, b"word");
}

/// Waits, in virtual time, until the pool holds what `condition` says.
pub async fn until(pool: &TestPool, condition: impl Fn(&PoolStats) -> bool) {
    for _ in 0..100 {
        if condition(&pool.stats()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never comes to that: {:?}", pool.stats());
}

async fn echo(tunnel: IncomingTunnel) {
    let mut stream = tunnel.accept(TunnelResponse::new());
    while let Ok(Some(chunk)) = stream.read_chunk().await {
        if stream.write_chunk(chunk).await.is_err() {
            return;
        }
    }
    stream.shutdown().await.ok();
}
