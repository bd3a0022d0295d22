//! What the program is made of, and what one of its threads does.

use std::future::pending;
use std::sync::Arc;

use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use tokio::sync::watch;

use super::Failure;
use super::config::{Config, OriginalSource};
use super::demand::Demand;
use super::mesh::Mesh;
use super::node::Node;
use super::outbound::Outbound;
use super::proxy::Role;
use super::ready::Ready;
use super::residents::Residents;
use crate::proxy::chance::Chance;
use crate::proxy::config::MeshSource;
use crate::proxy::connect::{self, NotTransparent};
use crate::proxy::credentials::{Credentials, Terms};
use crate::proxy::discovery::{self, Subscription};
use crate::proxy::level::Level;
use crate::proxy::listeners::{self, ListenError, Listeners, Share};
use crate::proxy::program::{self, Program};
use crate::proxy::tunnels::Tunnels;
use crate::workers::{Driver, Stop};

pub(super) fn run(config: &Config, json: bool, level: Level) -> Result<(), Failure> {
    let settings = &config.settings;
    let mut program = Program::new(level, settings.access_log)?;
    let terms = Terms {
        trust_domain: &config.trust_domain,
        cluster: &settings.cluster,
        lifetime: settings.certificate_lifetime,
        patience: settings.demand,
    };
    let credentials = program.credentials(&config.identity, terms)?;
    let (residents, mesh) = Residents::new(&config.node, &settings.network, config.trust_domain.clone());
    let (is_synced, handle) = program.follow(&config.mesh, subscription(config), residents)?;
    // A file says all that there is.
    let asks = settings.on_demand && matches!(config.mesh, MeshSource::Xds(_));
    let listeners = listeners(config).map_err(program::Failure::from)?;
    let certificates = keep_certificates(Arc::clone(&credentials), mesh.clone());
    program.drivers.push(Driver::new("certificates", certificates));
    let node = Arc::new(Node {
        mesh,
        credentials,
        telemetry: Arc::clone(&program.telemetry),
        tunnels: program.tunnels(settings.drain),
        timers: program.timers(),
        hbone_port: settings.hbone_port,
        listens: listeners.addrs().map(|(_, addr)| addr).collect(),
        admin: listeners.admin(),
        chance: Chance::new(),
        shows_sources: shows_sources(settings.original_source)?,
        is_synced,
        demand: asks.then(|| Demand::new(handle, settings.demand)),
        drain: settings.drain,
    });
    let ready = Ready::new(&config.node, listeners.admin());
    let ready = listeners
        .addrs()
        .fold(ready, |ready, (role, addr)| ready.with(role, addr));
    Ok(program.run(&node, listeners, carry, || ready.print(json))?)
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

/// Has certificates for all who live here, as the mesh changes, and for nobody who left.
async fn keep_certificates(credentials: Arc<Credentials>, mut mesh: watch::Receiver<Arc<Mesh>>) {
    loop {
        let residents = mesh.borrow_and_update().identities();
        credentials.prefetch(residents);
        if mesh.changed().await.is_err() {
            // The end of what the mesh comes from is told by that.
            return pending().await;
        }
    }
}

fn listeners(config: &Config) -> Result<Listeners<Role>, ListenError> {
    let mut listeners = Listeners::new(config.admin.as_ref(), config.settings.threads)?;
    for inbound in &config.inbound {
        listeners.listen(Role::Inbound, "inbound.bind", inbound.bind)?;
    }
    for plaintext in &config.plaintext {
        let role = Role::Plaintext(plaintext.destination);
        listeners.listen(role, "plaintext.bind", plaintext.bind)?;
    }
    for outbound in &config.outbound {
        listeners.listen(Role::Outbound, "outbound.bind", outbound.bind)?;
    }
    for socks5 in &config.socks5 {
        let workload = socks5.workload.as_deref().map(Arc::from);
        listeners.listen(Role::Socks5(workload), "socks5.bind", socks5.bind)?;
    }
    Ok(listeners)
}

/// Carries connections until it is to stop, and then those that are open, though not for ever.
async fn carry(node: Arc<Node>, share: Share<Role>, stop: Stop) -> Result<(), program::Failure> {
    let (drain, credentials) = (node.drain, Arc::clone(&node.credentials));
    let tunnels = Tunnels::new(credentials, node.tunnels.clone(), node.timers.clone());
    let outbound = Outbound {
        tunnels: tunnels.clone(),
        node,
    };
    let serve = move |role: Role, tcp, from, stop| role.serve(outbound.clone(), tcp, from, stop);
    // Connections that are being opened still need tunnels.
    let left = listeners::serve(share, stop, drain, serve).await?;
    tunnels.drain(left).await;
    Ok(())
}
