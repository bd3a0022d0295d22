//! What is done to the mesh, one thing after the other.

mod bulk;
mod enrolment;
mod outage;
mod policy;
mod requests;
mod rotation;
mod strangers;
mod strict;

use super::evidence::{Decision, Manner};
use super::report::Teller;
use super::stage::{ECHO, Stage, Workload};
use super::undeclared::Undeclared;

/// Plays everything.
pub(super) async fn play(stage: &mut Stage, teller: &mut Teller) -> Result<(), Undeclared> {
    teller
        .act(
            (
                "Before: plaintext",
                "The namespace is not enrolled. Connections reach the services as they are.",
            ),
            async |scene| {
                let evidence = stage.ask(Workload::Web, Workload::Till, ECHO).await?;
                scene.connection(evidence.is(Decision::Allowed, Manner::Plaintext)?);
                Ok(())
            },
        )
        .await?;
    teller
        .act(enrolment::TITLE, async |scene| enrolment::play(stage, scene).await)
        .await?;
    teller
        .act(policy::ADDED, async |scene| policy::add(stage, scene).await)
        .await?;
    teller
        .act(policy::CHANGED, async |scene| policy::change(stage, scene).await)
        .await?;
    teller
        .act(strict::TITLE, async |scene| strict::play(stage, scene).await)
        .await?;
    teller
        .act(strangers::TITLE, async |scene| strangers::play(stage, scene).await)
        .await?;
    teller
        .act(bulk::TITLE, async |scene| bulk::play(stage, scene).await)
        .await?;
    teller
        .act(rotation::TITLE, async |scene| rotation::play(stage, scene).await)
        .await?;
    teller
        .act(outage::TITLE, async |scene| outage::play(stage, scene).await)
        .await?;
    teller
        .act(requests::ROUTED, async |scene| requests::route(stage, scene).await)
        .await?;
    teller
        .act(requests::DENIED, async |scene| requests::deny(stage, scene).await)
        .await?;
    teller
        .act(requests::RETRIED, async |scene| requests::retry(stage, scene).await)
        .await?;
    teller
        .act(requests::LIMITED, async |scene| requests::limit(stage, scene).await)
        .await?;
    teller
        .act(requests::BROKEN, async |scene| requests::eject(stage, scene).await)
        .await?;
    teller
        .act(requests::OVERLOADED, async |scene| {
            requests::overload(stage, scene).await
        })
        .await
}
