//! Whether those without a certificate are let in.

use crate::quickstart::evidence::{Decision, Manner};
use crate::quickstart::objects;
use crate::quickstart::patience::until;
use crate::quickstart::report::Scene;
use crate::quickstart::stage::{Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "Plaintext from outside is let in, until it is not",
    "legacy connects to stock without a proxy of its own. Then a PeerAuthentication makes STRICT the \
     mode of the namespace.",
);

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let permitted = stage.ask_directly(Workload::Legacy).await?;
    scene.connection(permitted.is(Decision::Allowed, Manner::Plaintext)?);
    stage.cluster.write("strict.yaml", objects::STRICT)?;
    until("the mode at node 2", async || {
        let policies = stage.cluster.policies_of(Workload::Stock.name()).await?;
        Ok((!policies.is_empty()).then_some(()))
    })
    .await?;
    let refused = stage.ask_directly(Workload::Legacy).await?;
    scene.connection(refused.is(Decision::Denied, Manner::Plaintext)?);
    Ok(())
}
