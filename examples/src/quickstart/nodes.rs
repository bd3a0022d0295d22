//! The two nodes: a client's, which takes connections, and a server's, which takes tunnels.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hbone::pool::PoolKey;
use hbone::{Config, CopyOutcome, Event, Handler, IncomingTunnel, Listener, Observer, PoolConfig, TunnelRequest};
use mesh_identity::SpiffeId;
use mesh_policy::authz::PolicySet;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::identities::Identities;
use crate::admission::{Admission, Stopped};
use crate::forward::Forward;
use crate::relay::Relay;

/// Tunnels that may end before anybody asks for them.
const SIGHTINGS: usize = 16;

/// Time for a tunnel to be over on the server's side, after it was on the client's.
const SIGHTING_TIMEOUT: Duration = Duration::from_secs(10);

/// Both nodes, until stopped or dropped.
pub(super) struct Nodes {
    pub(super) server: SocketAddr,
    sightings: mpsc::Receiver<Sighting>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Nodes {
    /// Starts the server's node, which admits what `policies` do.
    pub(super) async fn start(identities: &Identities, policies: watch::Receiver<Arc<PolicySet>>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?;
        let (tell, sightings) = mpsc::channel(SIGHTINGS);
        let counts = Arc::new(Counts::default());
        let mut config = Config::default();
        config.set_observer(Arc::clone(&counts) as Arc<dyn Observer>);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut listening = Listener::with_identity(identities.server_tls(), config);
        listening.set_scope(Arc::new(identities.live.scope(identities.members())));
        let admission = Admission {
            policies,
            forward: Forward::Authority,
        };
        tasks.spawn(async move {
            listening
                .serve(listener, Watched { admission, tell }, ordered(stopped))
                .await;
        });
        Ok(Self {
            server,
            sightings,
            counts,
            stop,
            tasks,
        })
    }

    /// Has the client's node take connections to `destination`; answers where.
    pub(super) async fn capture(&mut self, identities: &Identities, destination: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let relay = Relay {
            key: PoolKey::new(identities.client.clone(), identities.servers(), self.server),
            identities: {
                let tls = identities.client_tls();
                move |_: &_| tls()
            },
            live: identities.live.clone(),
            config: Config::default(),
            pool: PoolConfig::default(),
            request: TunnelRequest::new(destination.try_into().map_err(io::Error::other)?),
        };
        let stopped = self.stop.subscribe();
        self.tasks.spawn(relay.run(listener, ordered(stopped)));
        Ok(addr)
    }

    /// What the server's node saw of the next tunnel, once that is over.
    pub(super) async fn sighting(&mut self) -> Option<Sighting> {
        timeout(SIGHTING_TIMEOUT, self.sightings.recv()).await.ok().flatten()
    }

    /// Connections that the server's node has accepted so far.
    pub(super) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Drains both nodes.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn ordered(mut stopped: watch::Receiver<bool>) {
    // Gone nodes stop as well.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// A tunnel, as the server saw it.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) peer: SpiffeId,
    /// What it carried, or why it was not carried.
    pub(super) result: Result<CopyOutcome, Stopped>,
}

/// The server's tunnels, each told of when it is over.
struct Watched {
    admission: Admission,
    tell: mpsc::Sender<Sighting>,
}

impl Handler for Watched {
    async fn handle(&self, tunnel: IncomingTunnel) {
        // A tunnel without a verified peer is reset.
        let Some(peer) = tunnel.peer().identity().map(|peer| peer.id().clone()) else {
            return;
        };
        let result = self.admission.carry(tunnel).await;
        // Nobody may ask any more.
        drop(self.tell.try_send(Sighting { peer, result }));
    }
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
}

impl Observer for Counts {
    fn event(&self, event: &Event) {
        if let Event::ConnectionOpened { .. } = event {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}
