//! A namespace is labelled while it is in use.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::quickstart::evidence::{Decision, Manner};
use crate::quickstart::objects;
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::{ECHO, Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "The namespace is labelled while traffic flows",
    "`istio.io/dataplane-mode: ambient` is put on it. The same attempt, made again and again, is \
     mutual TLS from one moment to the next. Nothing is started anew.",
);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Attempts on either side of the change that have to be there.
const ENOUGH: usize = 10;

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let mut open = stage.connect(Workload::Cart, Workload::Stock, ECHO).await?;
    open.echo().await?;
    let log = stage.cluster.node_1.log.clone();
    let before = log.count();
    let (stop, stopped) = watch::channel(false);
    let is_attempt = |line: &Value| line.get("src.workload").and_then(Value::as_str) == Some(Workload::Web.name());
    let attempts = |is_tunnel: bool| {
        let is = |line: &Value| is_attempt(line) && line.get("dst.hbone_addr").is_some() == is_tunnel;
        log.all(before, is).len()
    };
    let changes = async {
        until("attempts in plaintext", async || {
            Ok((attempts(false) >= ENOUGH).then_some(()))
        })
        .await?;
        let labelled = Instant::now();
        stage.cluster.write("namespace.yaml", objects::namespace(true))?;
        until("the first attempt by mutual TLS", async || {
            Ok((attempts(true) > 0).then_some(()))
        })
        .await?;
        let took = labelled.elapsed();
        until("attempts by mutual TLS", async || {
            Ok((attempts(true) >= ENOUGH).then_some(()))
        })
        .await?;
        stop.send_replace(true);
        Ok::<_, Undeclared>(took)
    };
    let (tried, took) = tokio::try_join!(attempt_until(stage, stopped), changes)?;
    until("lines of all attempts", async || {
        Ok((attempts(false) + attempts(true) >= tried).then_some(()))
    })
    .await?;
    let (plain, tunnels) = (attempts(false), attempts(true));
    scene.fact(format!(
        "web -> till, {tried} attempts in a row: {plain} in plaintext, then {tunnels} by mutual TLS, none failed; \
         the first by mutual TLS {} ms after the label was written",
        took.as_millis()
    ));
    open.echo().await?;
    open.finish().await?;
    scene.fact("a connection cart -> stock that was open went on in plaintext, and was not cut");
    stage.cluster.still_run()?;
    scene.fact(format!(
        "the node proxies are still processes {} and {}",
        stage.cluster.node_1.pid(),
        stage.cluster.node_2.pid()
    ));
    let evidence = stage.ask(Workload::Web, Workload::Till, ECHO).await?;
    scene.connection(evidence.is(Decision::Allowed, Manner::MutualTls)?);
    let evidence = stage.ask(Workload::Web, Workload::Cart, ECHO).await?;
    scene.connection(evidence.is(Decision::Allowed, Manner::SameNode)?);
    Ok(())
}

/// Makes the same connection again and again; answers how often. Each has to work.
async fn attempt_until(stage: &Stage, stopped: watch::Receiver<bool>) -> Result<usize, Undeclared> {
    let mut tried = 0;
    while !*stopped.borrow() {
        let mut connection = stage.connect(Workload::Web, Workload::Till, ECHO).await?;
        connection.echo().await?;
        connection.finish().await?;
        tried += 1;
        sleep(PAUSE).await;
    }
    Ok(tried)
}
