//! Who may connect, and for how long.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::quickstart::evidence::{Decision, Manner};
use crate::quickstart::objects;
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::{CLOSED, ECHO, Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const ADDED: (&str, &str) = (
    "A policy says who may connect",
    "An AuthorizationPolicy of action ALLOW lets the service accounts of web and cart connect to till.",
);

pub(super) const CHANGED: (&str, &str) = (
    "A policy change closes what it forbids, and nothing else",
    "Three tunnels are open. Then web is struck from the list of those who may connect to till.",
);

const FILE: &str = "till-callers.yaml";

/// Time between two attempts that may be refused: each is counted.
const PAUSE: Duration = Duration::from_millis(100);

const NAME: &str = "shop/till-callers";

pub(super) async fn add(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    stage.cluster.write(FILE, &objects::allow(&["web", "cart"]))?;
    until("the policy at node 2", async || {
        let names = stage.cluster.policies_of(Workload::Till.name()).await?;
        Ok(names.iter().any(|name| name == NAME).then_some(()))
    })
    .await?;
    let allowed = stage.ask(Workload::Web, Workload::Till, ECHO).await?;
    scene.connection(allowed.is(Decision::Allowed, Manner::MutualTls)?);
    let denied = stage.ask(Workload::Spy, Workload::Till, ECHO).await?;
    scene.connection(denied.is(Decision::Denied, Manner::MutualTls)?);
    let absent = stage.ask(Workload::Cart, Workload::Till, CLOSED).await?;
    scene.connection(absent.is(Decision::Unreachable, Manner::MutualTls)?);
    Ok(())
}

pub(super) async fn change(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let mut forbidden = stage.connect(Workload::Web, Workload::Till, ECHO).await?;
    let mut listed = stage.connect(Workload::Cart, Workload::Till, ECHO).await?;
    let mut other = stage.connect(Workload::Web, Workload::Stock, ECHO).await?;
    for tunnel in [&mut forbidden, &mut listed, &mut other] {
        tunnel.echo().await?;
    }
    let mut attempt = stage.attempt(Workload::Web, Workload::Till);
    let changed = Instant::now();
    stage.cluster.write(FILE, &objects::allow(&["cart"]))?;
    forbidden.lost().await?;
    let took = changed.elapsed();
    for tunnel in [&mut listed, &mut other] {
        tunnel.echo().await?;
    }
    scene.fact(format!(
        "web -> till was closed {} ms after the file was written",
        took.as_millis()
    ));
    scene.fact("cart -> till, still on the list, and web -> stock, another service, still carry data");
    attempt.took(forbidden.local, Some("the open connection is reset"));
    scene.connection(attempt.evidence(stage).await?.is(Decision::Denied, Manner::MutualTls)?);
    listed.finish().await?;
    other.finish().await?;
    stage.cluster.write(FILE, &objects::allow(&["web", "cart"]))?;
    until("web on the list again", async || {
        sleep(PAUSE).await;
        Ok(stage.try_connect(Workload::Web, Workload::Till, ECHO).await?.ok())
    })
    .await?
    .finish()
    .await?;
    scene.fact("web was put back on the list, and may connect again");
    Ok(())
}
