//! Those who claim to be somebody else.

use std::sync::Arc;

use hbone::Config;
use hbone::tls::DialError;
use mesh_identity::source::dev_ca::DevCa;
use mesh_identity::source::files::load_bundle;
use mesh_identity::source::istio_ca::{CaAddress, CaConfig, CaRoots, IstioCa, Priority};
use mesh_identity::tls::ClientTls;
use mesh_identity::{PeerPolicy, TrustBundles, provider};
use rustls::pki_types::UnixTime;
use tokio::task::JoinSet;

use crate::quickstart::cluster::{NODE_1, address};
use crate::quickstart::patience::soon;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::{Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "Nobody can pass for somebody else",
    "A name is worth what its certificate is worth, and nodes get certificates of their own workloads.",
);

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let refusal = forged(stage).await?;
    scene.fact(format!(
        "a certificate that says `{}`, signed by an authority of somebody's own: node-2 ends the TLS \
         handshake ({refusal})",
        Workload::Cart.identity()
    ));
    let refusal = foreign(stage).await?;
    scene.fact(format!(
        "node-1 asks for the certificate of till, which runs on node-2: {refusal}"
    ));
    Ok(())
}

/// Knocks at node 2 with a certificate that nobody there has roots for.
async fn forged(stage: &Stage) -> Result<String, Undeclared> {
    let (provider, now) = (provider::aws_lc_rs(), UnixTime::now());
    let trust_domain: mesh_identity::TrustDomain = "cluster.local".parse()?;
    let authority = DevCa::new(trust_domain.clone(), now)?;
    let svid = authority
        .issue(&Workload::Cart.identity().parse()?, now)?
        .svid(&provider, now)?;
    let roots = load_bundle(trust_domain, &stage.cluster.roots()).map_err(std::io::Error::other)?;
    let tls = ClientTls::builder(provider)
        .identity(Arc::new(svid))
        .trust(Arc::new(TrustBundles::new([roots])?))
        .authorize(PeerPolicy::exact(Workload::Till.identity().parse()?))
        .build()?;
    let addr = (Workload::Till.ip(stage.block), stage.cluster.hbone_port).into();
    match soon("answer of node 2", hbone::tls::dial(addr, &tls, &Config::default())).await? {
        Err(DialError::Tls(refusal)) => Ok(refusal.to_string()),
        Err(other) => Err(unlike("the TLS handshake is ended", other.to_string())),
        // With TLS 1.3, a client that has heard of no refusal may think that it was let in.
        Ok((client, connection)) => {
            let mut driver = JoinSet::new();
            driver.spawn(connection);
            drop(client);
            match soon("end of the connection", driver.join_next()).await? {
                Some(Ok(Err(lost))) => Ok(lost.to_string()),
                _ => Err(unlike("the TLS handshake is ended", "it was let in".to_owned())),
            }
        }
    }
}

/// Asks the authority, as node 1, for an identity of node 2.
async fn foreign(stage: &Stage) -> Result<String, Undeclared> {
    let server = address(&stage.cluster.control_plane, "addr")?;
    let address = CaAddress::new(
        &server.ip().to_string(),
        server.port(),
        CaRoots::file(stage.cluster.roots()),
    )?;
    let token = stage.cluster.token(NODE_1.0);
    let config = CaConfig::node_agent(address, token, "cluster.local".parse()?);
    let (authority, driver) = IstioCa::new(config, provider::aws_lc_rs());
    let mut task = JoinSet::new();
    task.spawn(driver.run());
    let mut lease = authority.request(&Workload::Till.identity().parse()?, Priority::RealTime)?;
    match soon("answer of the authority", lease.svid()).await? {
        Err(refusal) => Ok(refusal.to_string()),
        Ok(_) => Err(unlike("the authority refuses", "it signed".to_owned())),
    }
}

fn unlike(wanted: &'static str, seen: String) -> Undeclared {
    Undeclared::Other { wanted, seen }
}
