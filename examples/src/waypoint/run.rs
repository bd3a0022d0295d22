//! The program's threads: those that keep up with the control plane, those that carry, and one that
//! answers operators.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_identity::{SpiffeId, provider};
use mesh_xds::store::Identity;
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Failure;
use super::config::Config;
use super::external::Services;
use super::gateway::Gateway;
use super::inbound::{self, Worker};
use super::objects::folder;
use super::ready::Ready;
use super::requests::Requests;
use super::room::Room;
use super::snapshot::{Frame, Terms};
use super::upstream::{Endpoints, Upstream};
use crate::accept;
use crate::events::Log;
use crate::proxy::access_log::AccessLog;
use crate::proxy::admin::Admin;
use crate::proxy::chance::Chance;
use crate::proxy::config::MeshSource;
use crate::proxy::credentials::{self, Credentials};
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
    let (keepers, signals) = (Keepers::new(), Signals::catch()?);
    let (gateway, drivers) = load(config, &signals, &keepers)?;
    let admin = config
        .admin
        .as_ref()
        .map(|admin| bind("admin.bind", admin.bind, 1))
        .transpose()?;
    let listeners = config.inbound.iter();
    let listeners = listeners.map(|inbound| bind("inbound.bind", inbound.bind, settings.threads));
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
    keepers.drive("control-plane", drivers)?;
    let addrs = listeners.iter().map(|sockets| sockets.addr).collect();
    let ready = Ready::new(
        &config.namespace,
        &config.name,
        addrs,
        admin.as_ref().map(|admin| admin.addr),
    );
    ready.print(json)?;
    let result = signals.run(workers(&gateway, listeners, (admin, level), settings.threads), keepers);
    if let Err(reason) = gateway.telemetry.log.finish(LOG_PATIENCE) {
        tracing::warn!(%reason, "access log incomplete");
    }
    result
}

/// Reads all that the configuration names.
fn load(config: &Config, signals: &Signals, keepers: &Keepers) -> Result<(Arc<Gateway>, Vec<Driver>), Failure> {
    let settings = &config.settings;
    let (credentials, mut drivers) = Credentials::load(
        &config.identity,
        credentials::Terms {
            trust_domain: &config.trust_domain,
            cluster: &settings.cluster,
            lifetime: settings.certificate_lifetime(),
            patience: settings.demand(),
        },
    )?;
    let id = identity(config)?;
    credentials.prefetch(vec![id.clone()]);
    let (services, keys, driver) = Services::new(&config.external)?;
    drivers.push(driver);
    let (frame, snapshots) = Frame::new(terms(config), keys.clone());
    let (sync, is_ready) = watch::channel(false);
    if !config.traffic.objects.is_empty() {
        folder::follow(&config.traffic.objects, frame.clone(), keepers)?;
    }
    match &config.mesh {
        MeshSource::File(file) => {
            mesh_file::follow(file, frame, keepers)?;
            sync.send_replace(true);
        }
        MeshSource::Xds(server) => {
            let handle = Arc::new(OnceLock::new());
            drivers.push(discovery::follow(server, subscription(config), frame, sync, handle)?);
        }
    }
    let endpoints = Arc::new(Endpoints::new(settings.hbone_port, account(config)));
    drivers.push(Driver::new(
        "endpoints",
        follow(Arc::clone(&endpoints), snapshots.clone()),
    ));
    let mut tunnels = hbone::Config::default();
    tunnels
        .set_drain_timeout(settings.drain())
        .set_observer(Arc::new(Log))
        .set_timers(signals.timers());
    let gateway = Gateway {
        snapshots,
        id,
        credentials: Arc::new(credentials),
        telemetry: Arc::new(Telemetry {
            metrics: Metrics::new(),
            log: AccessLog::start(settings.access_log)?,
        }),
        tunnels,
        timers: signals.timers(),
        endpoints,
        spans: services.spans(),
        services,
        requests: Requests::new(),
        keys,
        algorithms: provider::aws_lc_rs().signature_verification_algorithms.all,
        cluster: format!("{}.{}", config.name, config.namespace),
        began: Instant::now(),
        chance: Chance::new(),
        normalization: config.traffic.normalization(),
        underscores: config.traffic.underscores,
        shows_clients: config.traffic.shows_clients,
        room: Room::new(settings.max_requests as usize),
        idle: settings.idle(),
        is_ready,
        drain: settings.drain(),
    };
    Ok((Arc::new(gateway), drivers))
}

/// Who the waypoint is.
fn identity(config: &Config) -> Result<SpiffeId, Failure> {
    let (domain, namespace, account) = (&config.trust_domain, &config.namespace, &config.service_account);
    Ok(format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse()?)
}

/// The same, as the mesh has it.
fn account(config: &Config) -> Identity {
    Identity {
        trust_domain: config.trust_domain.to_string().into(),
        namespace: config.namespace.as_str().into(),
        service_account: config.service_account.as_str().into(),
    }
}

fn terms(config: &Config) -> Terms {
    Terms {
        namespace: config.namespace.clone(),
        name: config.name.clone(),
        service_account: config.service_account.clone(),
        trust_domain: config.trust_domain.to_string(),
        network: config.settings.network.as_str().into(),
        root_namespace: config.traffic.root_namespace.clone(),
        asks_about_limits: config.external.asks_about_limits(),
    }
}

/// What a discovery server is asked for.
fn subscription(config: &Config) -> Subscription {
    let Config { namespace, name, .. } = config;
    let id = format!("waypoint~0.0.0.0~{name}.{namespace}~{namespace}.svc.cluster.local");
    let fields = [
        ("NAMESPACE", &**namespace),
        ("WORKLOAD_NAME", &**name),
        ("CLUSTER_ID", &*config.settings.cluster),
    ];
    let mut all = vec![AUTHORIZATION_TYPE_URL, ADDRESS_TYPE_URL];
    if config.traffic.objects.is_empty() {
        all.push(MANIFEST_TYPE_URL);
    }
    Subscription {
        node: discovery::introduction(id, &fields),
        all,
        on_demand: Vec::new(),
    }
}

/// Tells what is known about endpoints who they are, as that changes.
async fn follow(endpoints: Arc<Endpoints>, mut snapshots: watch::Receiver<Arc<super::snapshot::Snapshot>>) {
    let mut kept = std::pin::pin!(endpoints.keep());
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        endpoints.update(&snapshot);
        tokio::select! {
            () = &mut kept => return,
            changed = snapshots.changed() => {
                if changed.is_err() {
                    // The end of what snapshots come from is told by that.
                    return kept.await;
                }
            }
        }
    }
}

fn bind(field: &'static str, addr: SocketAddr, count: u16) -> Result<Sockets, Failure> {
    sockets::bind(addr, count).map_err(|error| Failure::Bind { field, error })
}

/// A thread's work.
type Work = Box<dyn FnOnce(Stop) -> Working + Send>;
type Working = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

fn workers(
    gateway: &Arc<Gateway>,
    listeners: Vec<Sockets>,
    (admin, level): (Option<Sockets>, Level),
    threads: u16,
) -> Vec<Work> {
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for sockets in listeners {
        for (share, listener) in shares.iter_mut().zip(sockets.listeners) {
            share.push(listener);
        }
    }
    let (carrying, carried) = mpsc::channel::<()>(1);
    let mut workers: Vec<Work> = Vec::new();
    for share in shares {
        let (gateway, carrying) = (Arc::clone(gateway), carrying.clone());
        workers.push(Box::new(|stop| {
            Box::pin(async move {
                let _carrying = carrying;
                carry(gateway, share, stop).await
            })
        }));
    }
    if let Some(listener) = admin.and_then(|admin| admin.listeners.into_iter().next()) {
        let proxy = Arc::clone(gateway);
        workers.push(Box::new(|_| {
            Box::pin(operate(Admin { proxy, level }, listener, carried))
        }));
    }
    workers
}

/// Carries connections until it is to stop, and then those that are open, though not for ever.
async fn carry(gateway: Arc<Gateway>, share: Vec<std::net::TcpListener>, stop: Stop) -> Result<(), Failure> {
    let credentials = Arc::clone(&gateway.credentials);
    let tunnels = Tunnels::new(credentials, gateway.tunnels.clone(), gateway.timers.clone());
    let upstream = Upstream::new(Arc::clone(&gateway.endpoints), tunnels.clone(), gateway.id.clone());
    let worker = Worker {
        external: Arc::new(gateway.services.connect()),
        upstream: Arc::new(upstream),
        tunnels,
        gateway,
    };
    let drain = worker.gateway.drain;
    let mut serving = JoinSet::new();
    for listener in share {
        let listener = TcpListener::from_std(listener)?;
        let (worker, stop) = (worker.clone(), stop.clone());
        serving.spawn(async move {
            let ordered = stop.clone();
            let open = accept::until(stop.draining(), listener, |tcp, from| {
                inbound::serve(worker.clone(), tcp, from, ordered.clone())
            })
            .await;
            if timeout(drain, open.ended()).await.is_err() {
                tracing::warn!("connections closed that did not end in time");
            }
        });
    }
    stop.draining().await;
    let began = Instant::now();
    // Requests that are under way still need tunnels.
    while serving.join_next().await.is_some() {}
    worker.upstream.close();
    worker.tunnels.drain(drain.saturating_sub(began.elapsed())).await;
    Ok(())
}

/// Answers operators for as long as connections are carried.
async fn operate(
    admin: Admin<Gateway>,
    listener: std::net::TcpListener,
    mut carried: mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let listener = TcpListener::from_std(listener)?;
    // Nothing is sent: it ends with the last that carries.
    let ended = async move { while carried.recv().await.is_some() {} };
    admin.serve(listener, ended).await;
    Ok(())
}
