//! The program's threads: those that keep up with the control plane, those that carry, and one that
//! answers operators.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Failure;
use super::config::{Config, OriginalSource};
use super::demand::Demand;
use super::mesh::Mesh;
use super::node::Node;
use super::outbound::Outbound;
use super::proxy::Role;
use super::ready::Ready;
use super::residents::Residents;
use crate::accept;
use crate::events::Log;
use crate::proxy::access_log::AccessLog;
use crate::proxy::admin::Admin;
use crate::proxy::chance::Chance;
use crate::proxy::config::MeshSource;
use crate::proxy::connect::{self, NotTransparent};
use crate::proxy::credentials::{Credentials, Terms};
use crate::proxy::discovery::{self, Subscription};
use crate::proxy::level::Level;
use crate::proxy::mesh_file;
use crate::proxy::metrics::Metrics;
use crate::proxy::traffic::Telemetry;
use crate::proxy::tunnels::Tunnels;
use crate::sockets::{self, Sockets};
use crate::workers::{Driver, Keepers, Signals, Stop};

/// How long stdout may take for what is left of the access log.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(config: &Config, json: bool, level: Level) -> Result<(), Failure> {
    let settings = &config.settings;
    let keepers = Keepers::new();
    let (credentials, mut drivers) = Credentials::load(
        &config.identity,
        Terms {
            trust_domain: &config.trust_domain,
            cluster: &settings.cluster,
            lifetime: settings.certificate_lifetime(),
            patience: settings.demand(),
        },
    )?;
    let (residents, mesh) = Residents::new(&config.node, &settings.network, config.trust_domain.clone());
    let (sync, is_synced) = watch::channel(false);
    let mut demand = None;
    match &config.mesh {
        MeshSource::File(file) => {
            mesh_file::follow(file, residents, &keepers)?;
            sync.send_replace(true);
        }
        MeshSource::Xds(server) => {
            let handle = Arc::new(OnceLock::new());
            drivers.push(discovery::follow(
                server,
                subscription(config),
                residents,
                sync,
                Arc::clone(&handle),
            )?);
            if settings.on_demand {
                demand = Some(Demand::new(handle, settings.demand()));
            }
        }
    }
    let admin = config
        .admin
        .as_ref()
        .map(|admin| bind("admin.bind", admin.bind, 1))
        .transpose()?;
    let listeners = listeners(config)?;
    let signals = Signals::catch()?;
    let mut tunnels = hbone::Config::default();
    tunnels
        .set_drain_timeout(settings.drain())
        .set_observer(Arc::new(Log))
        .set_timers(signals.timers());
    let node = Arc::new(Node {
        mesh,
        credentials: Arc::new(credentials),
        telemetry: Arc::new(Telemetry {
            metrics: Metrics::new(),
            log: AccessLog::start(settings.access_log)?,
        }),
        tunnels,
        timers: signals.timers(),
        hbone_port: settings.hbone_port,
        listens: listeners.iter().map(|(_, sockets)| sockets.addr).collect(),
        admin: admin.as_ref().map(|admin| admin.addr),
        chance: Chance::new(),
        shows_sources: shows_sources(settings.original_source)?,
        is_synced,
        demand,
        drain: settings.drain(),
    });
    let (credentials, mesh) = (Arc::clone(&node.credentials), node.mesh.clone());
    drivers.push(Driver::new(
        "certificates",
        credentials.keep_prefetched(mesh, Mesh::identities),
    ));
    keepers.drive("control-plane", drivers)?;
    let ready = Ready::new(&config.node, admin.as_ref().map(|admin| admin.addr));
    let ready = listeners
        .iter()
        .fold(ready, |ready, (role, sockets)| ready.with(role, sockets.addr));
    ready.print(json)?;
    let result = signals.run(workers(&node, listeners, (admin, level), settings.threads), keepers);
    if let Err(reason) = node.telemetry.log.finish(LOG_PATIENCE) {
        tracing::warn!(%reason, "access log incomplete");
    }
    result
}

/// What a discovery server is asked for.
fn subscription(config: &Config) -> Subscription {
    let fields = [("NODE_NAME", &*config.node), ("CLUSTER_ID", &*config.settings.cluster)];
    let id = format!("ztunnel~0.0.0.0~{}.node~node.svc.cluster.local", config.node);
    let (all, on_demand) = match config.settings.on_demand {
        true => (vec![AUTHORIZATION_TYPE_URL], vec![ADDRESS_TYPE_URL]),
        false => (vec![AUTHORIZATION_TYPE_URL, ADDRESS_TYPE_URL], Vec::new()),
    };
    Subscription {
        node: discovery::introduction(id, &fields),
        all,
        on_demand,
    }
}

/// Whether destinations are to see who connects, and can.
fn shows_sources(wanted: OriginalSource) -> Result<bool, NotTransparent> {
    match wanted {
        OriginalSource::Off => Ok(false),
        OriginalSource::Try => Ok(connect::check_transparency()
            .inspect_err(|reason| tracing::warn!(%reason, "destinations see this node and not who connects"))
            .is_ok()),
        OriginalSource::Require => connect::check_transparency().map(|()| true),
    }
}

fn listeners(config: &Config) -> Result<Vec<(Role, Sockets)>, Failure> {
    let mut listeners = Vec::new();
    let mut listen = |role, field, addr| {
        listeners.push((role, bind(field, addr, config.settings.threads)?));
        Ok::<_, Failure>(())
    };
    for inbound in &config.inbound {
        listen(Role::Inbound, "inbound.bind", inbound.bind)?;
    }
    for plaintext in &config.plaintext {
        listen(Role::Plaintext(plaintext.destination), "plaintext.bind", plaintext.bind)?;
    }
    for outbound in &config.outbound {
        listen(Role::Outbound, "outbound.bind", outbound.bind)?;
    }
    for socks5 in &config.socks5 {
        let workload = socks5.workload.as_deref().map(Arc::from);
        listen(Role::Socks5(workload), "socks5.bind", socks5.bind)?;
    }
    Ok(listeners)
}

fn bind(field: &'static str, addr: SocketAddr, count: u16) -> Result<Sockets, Failure> {
    sockets::bind(addr, count).map_err(|error| Failure::Bind { field, error })
}

/// A thread's work.
type Work = Box<dyn FnOnce(Stop) -> Working + Send>;
type Working = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

fn workers(
    node: &Arc<Node>,
    listeners: Vec<(Role, Sockets)>,
    (admin, level): (Option<Sockets>, Level),
    threads: u16,
) -> Vec<Work> {
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (role, sockets) in listeners {
        for (share, listener) in shares.iter_mut().zip(sockets.listeners) {
            share.push((role.clone(), listener));
        }
    }
    let (carrying, carried) = mpsc::channel::<()>(1);
    let mut workers: Vec<Work> = Vec::new();
    for share in shares {
        let (node, carrying) = (Arc::clone(node), carrying.clone());
        workers.push(Box::new(|stop| {
            Box::pin(async move {
                let _carrying = carrying;
                carry(node, share, stop).await
            })
        }));
    }
    if let Some(listener) = admin.and_then(|admin| admin.listeners.into_iter().next()) {
        let node = Arc::clone(node);
        workers.push(Box::new(|_| {
            Box::pin(operate(Admin { proxy: node, level }, listener, carried))
        }));
    }
    workers
}

/// Carries connections until it is to stop, and then those that are open, though not for ever.
async fn carry(node: Arc<Node>, share: Vec<(Role, std::net::TcpListener)>, stop: Stop) -> Result<(), Failure> {
    let outbound = Outbound {
        tunnels: Tunnels::new(Arc::clone(&node.credentials), node.tunnels.clone(), node.timers.clone()),
        node,
    };
    let mut serving = JoinSet::new();
    for (role, listener) in share {
        let listener = TcpListener::from_std(listener)?;
        let (outbound, stop) = (outbound.clone(), stop.clone());
        let drain = outbound.node.drain;
        serving.spawn(async move {
            let ordered = stop.clone();
            let open = accept::until(stop.draining(), listener, |tcp, from| {
                role.clone().serve(outbound.clone(), tcp, from, ordered.clone())
            })
            .await;
            if timeout(drain, open.ended()).await.is_err() {
                tracing::warn!("connections closed that did not end in time");
            }
        });
    }
    stop.draining().await;
    let began = Instant::now();
    // Those that are being opened still need tunnels.
    while serving.join_next().await.is_some() {}
    let left = outbound.node.drain.saturating_sub(began.elapsed());
    outbound.tunnels.drain(left).await;
    Ok(())
}

/// Answers operators for as long as connections are carried.
async fn operate(
    admin: Admin<Node>,
    listener: std::net::TcpListener,
    mut carried: mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let listener = TcpListener::from_std(listener)?;
    // Nothing is sent: it ends with the last that carries.
    let ended = async move { while carried.recv().await.is_some() {} };
    admin.serve(listener, ended).await;
    Ok(())
}
