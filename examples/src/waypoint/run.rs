//! What the program is made of, and what one of its threads does.

use std::sync::Arc;

use mesh_identity::{SpiffeId, provider};
use mesh_xds::store::Identity;
use mesh_xds_types::{ADDRESS_TYPE_URL, MANIFEST_TYPE_URL};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Failure;
use super::config::Config;
use super::external::Services;
use super::gateway::Gateway;
use super::inbound::{self, Worker};
use super::objects::folder;
use super::ready::Ready;
use super::requests::Requests;
use super::room::Room;
use super::snapshot::{Frame, Snapshot, Terms};
use super::upstream::{Endpoints, Upstream};
use crate::proxy::chance::Chance;
use crate::proxy::credentials;
use crate::proxy::discovery::{self, Subscription};
use crate::proxy::level::Level;
use crate::proxy::listeners::{self, ListenError, Listeners, Share};
use crate::proxy::program::{self, Program};
use crate::proxy::tunnels::Tunnels;
use crate::workers::{Driver, Stop};

pub(super) fn run(config: &Config, json: bool, level: Level) -> Result<(), Failure> {
    let mut program = Program::new(level, config.settings.access_log)?;
    let gateway = load(config, &mut program)?;
    let listeners = listeners(config).map_err(program::Failure::from)?;
    let addrs = listeners.addrs().map(|((), addr)| addr).collect();
    let ready = Ready::new(&config.namespace, &config.name, addrs, listeners.admin());
    Ok(program.run(&gateway, listeners, carry, || ready.print(json))?)
}

fn listeners(config: &Config) -> Result<Listeners<()>, ListenError> {
    let mut listeners = Listeners::new(config.admin.as_ref(), config.settings.threads)?;
    for inbound in &config.inbound {
        listeners.listen((), "inbound.bind", inbound.bind)?;
    }
    Ok(listeners)
}

/// Reads all that the configuration names.
fn load(config: &Config, program: &mut Program) -> Result<Arc<Gateway>, Failure> {
    let settings = &config.settings;
    let of_certificates = credentials::Terms {
        trust_domain: &config.trust_domain,
        cluster: &settings.cluster,
        lifetime: settings.certificate_lifetime,
        patience: settings.demand,
    };
    let credentials = program.credentials(&config.identity, of_certificates)?;
    let id = identity(config)?;
    credentials.prefetch(vec![id.clone()]);
    let (services, keys, driver) = Services::new(&config.external)?;
    program.drivers.push(driver);
    let (frame, snapshots) = Frame::new(terms(config), keys.clone());
    // Reading a mesh takes more memory than it has in the end, which is then there for objects.
    let (is_ready, _) = program.follow(&config.mesh, subscription(config), frame.clone())?;
    if !config.traffic.objects.is_empty() {
        folder::follow(&config.traffic.objects, frame, &program.keepers)?;
    }
    let endpoints = Arc::new(Endpoints::new(settings.hbone_port, account(config)));
    let followed = follow(Arc::clone(&endpoints), snapshots.clone());
    program.drivers.push(Driver::new("endpoints", followed));
    Ok(Arc::new(Gateway {
        snapshots,
        id,
        credentials,
        telemetry: Arc::clone(&program.telemetry),
        tunnels: program.tunnels(settings.drain),
        timers: program.timers(),
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
        drain: settings.drain,
    }))
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

/// What a discovery server is asked for. Policies for nodes are not a waypoint's to enforce.
fn subscription(config: &Config) -> Subscription {
    let Config { namespace, name, .. } = config;
    let id = format!("waypoint~0.0.0.0~{name}.{namespace}~{namespace}.svc.cluster.local");
    let fields = [
        ("NAMESPACE", &**namespace),
        ("WORKLOAD_NAME", &**name),
        ("CLUSTER_ID", &*config.settings.cluster),
    ];
    let mut all = vec![ADDRESS_TYPE_URL];
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
async fn follow(endpoints: Arc<Endpoints>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
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

/// Carries connections until it is to stop, and then those that are open, though not for ever.
async fn carry(gateway: Arc<Gateway>, share: Share<()>, stop: Stop) -> Result<(), program::Failure> {
    let (drain, credentials) = (gateway.drain, Arc::clone(&gateway.credentials));
    let tunnels = Tunnels::new(credentials, gateway.tunnels.clone(), gateway.timers.clone());
    let upstream = Upstream::new(Arc::clone(&gateway.endpoints), tunnels.clone(), gateway.id.clone());
    let worker = Worker {
        external: Arc::new(gateway.services.connect()),
        upstream: Arc::new(upstream),
        gateway,
    };
    let upstream = Arc::clone(&worker.upstream);
    let serve = move |(), tcp, from, stop| inbound::serve(worker.clone(), tcp, from, stop);
    // Requests that are under way still need tunnels.
    let left = listeners::serve(share, stop, drain, serve).await?;
    upstream.close();
    tunnels.drain(left).await;
    Ok(())
}
