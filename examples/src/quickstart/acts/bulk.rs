//! Much data, both ways at once.

use tokio::time::Instant;

use crate::quickstart::report::Scene;
use crate::quickstart::services::{Seed, exchange};
use crate::quickstart::stage::{self, Stage, Workload};
use crate::quickstart::undeclared::Undeclared;

pub(super) const TITLE: (&str, &str) = (
    "Bulk data, both ways at once",
    "Each side sends 32 MiB through one tunnel, and both compare SHA-256.",
);

const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn play(stage: &mut Stage, scene: &mut Scene) -> Result<(), Undeclared> {
    let connection = stage.connect(Workload::Cart, Workload::Till, stage::BULK).await?;
    let began = Instant::now();
    let app = exchange(connection.into_tcp(), Seed::App, stage.hash).await?;
    let took = began.elapsed();
    let service = stage.transfers.next().await?;
    if app.sent_sha256 != service.received_sha256 || app.received_sha256 != service.sent_sha256 {
        return Err(Undeclared::Other {
            wanted: "checksums agree",
            seen: "they differ".to_owned(),
        });
    }
    for (way, bytes, digest) in [
        ("cart -> till", app.sent, &app.sent_sha256),
        ("till -> cart", app.received, &app.received_sha256),
    ] {
        let mib = bytes / (1024 * 1024);
        scene.fact(format!("{way}  {mib} MiB, the same at both ends: SHA-256 {digest}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let rate = (app.sent + app.received) as f64 / MIB / took.as_secs_f64();
    scene.fact(format!("{rate:.0} MiB per second together, checksums included"));
    Ok(())
}
