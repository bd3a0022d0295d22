//! The control plane goes, and comes back.

use tokio::time::Instant;

use crate::quickstart::evidence::{Decision, Manner};
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::{ECHO, Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "The control plane is killed, and traffic goes on",
    "What nodes know, they know: mesh, policies and certificates. Later it is started again.",
);

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let mut open = stage.connect(Workload::Cart, Workload::Till, ECHO).await?;
    open.echo().await?;
    stage.cluster.control_plane.kill()?;
    open.echo().await?;
    scene.fact("an open tunnel cart -> till goes on");
    let allowed = stage.ask(Workload::Web, Workload::Till, ECHO).await?;
    scene.connection(allowed.is(Decision::Allowed, Manner::MutualTls)?);
    let denied = stage.ask(Workload::Spy, Workload::Till, ECHO).await?;
    scene.connection(denied.is(Decision::Denied, Manner::MutualTls)?);
    let began = Instant::now();
    stage.cluster.restart_control_plane().await?;
    let renewed = stage.cluster.renewed().await?;
    until("a tunnel with certificates that the new process signed", async || {
        let evidence = stage.ask(Workload::Cart, Workload::Stock, ECHO).await?;
        Ok(evidence.is(Decision::Allowed, Manner::MutualTls).ok())
    })
    .await?;
    open.echo().await?;
    open.finish().await?;
    stage.cluster.still_run()?;
    scene.fact(format!(
        "started again as process {}: after {:.1} s both nodes had found it by themselves and renewed {renewed} \
         certificates",
        stage.cluster.control_plane.pid(),
        began.elapsed().as_secs_f64()
    ));
    scene.fact("its root was kept in a folder, so the tunnel cart -> till of before still goes on");
    Ok(())
}
