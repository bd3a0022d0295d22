//! All certificates are replaced, and the root with them.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::quickstart::client::Connection;
use crate::quickstart::evidence::{Decision, Manner};
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::services::fill;
use crate::quickstart::stage::{ECHO, Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "Certificates and their root are replaced under load",
    "Certificates live for 4 s here. A next root is handed out, then signs; both are believed in \
     the meantime. At last the old one is not believed any more.",
);

/// Bytes of one message, and the time between two.
const MESSAGE: usize = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let old = stage.connect(Workload::Cart, Workload::Stock, ECHO).await?;
    let loaded = stage.connect(Workload::Web, Workload::Till, ECHO).await?;
    let (stop, stopped) = watch::channel(false);
    let cluster = &stage.cluster;
    let replaced = async {
        let result = async {
            cluster.replace_root("prepare").await?;
            let handed_out = cluster.renewed().await?;
            cluster.replace_root("activate").await?;
            Ok((handed_out, cluster.renewed().await?))
        };
        let result: Result<_, Undeclared> = result.await;
        stop.send_replace(true);
        result
    };
    let (bytes, (handed_out, signed)) = tokio::try_join!(load(loaded, stopped), replaced)?;
    scene.fact(format!(
        "{handed_out} certificates were renewed when the next root was handed out, {signed} when it signed"
    ));
    scene.fact(format!(
        "meanwhile web -> till carried {} KiB each way in one tunnel, every byte echoed and compared, none lost",
        bytes / 1024
    ));
    cluster.replace_root("revoke").await?;
    revoked(stage, old).await?;
    scene.fact("with the old root gone, a tunnel cart -> stock that was opened under it was closed");
    let evidence = until("a tunnel under the new root", async || {
        let evidence = stage.ask(Workload::Cart, Workload::Stock, ECHO).await?;
        Ok(evidence.is(Decision::Allowed, Manner::MutualTls).ok())
    })
    .await?;
    scene.connection(evidence);
    Ok(())
}

/// Has every byte echoed until it is to stop; answers how many.
async fn load(mut connection: Connection, stopped: watch::Receiver<bool>) -> Result<u64, Undeclared> {
    let (mut message, mut state) = (vec![0; MESSAGE], 3);
    while !*stopped.borrow() {
        fill(&mut message, &mut state);
        connection.echo_of(&message).await?;
        sleep(PAUSE).await;
    }
    let bytes = connection.echoed;
    connection.finish().await?;
    Ok(bytes)
}

/// The tunnel ends once no certificate of the old root is in use any more.
async fn revoked(stage: &Stage, mut old: Connection) -> Result<(), Undeclared> {
    old.lost().await?;
    stage.cluster.renewed().await?;
    Ok(())
}
