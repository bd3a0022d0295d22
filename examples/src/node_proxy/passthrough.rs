//! Connections without a tunnel for the workloads of this node.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::guard::Admitted;
use super::inbound::denied;
use super::node::Node;
use crate::admission::Caller;
use crate::proxy::connect::ConnectError;
use crate::proxy::labels::Reporter;
use crate::proxy::party::Party;
use crate::proxy::plain::{self, PlainProgress};
use crate::proxy::traffic::{Ends, Failure, Traffic};

/// Carries a connection to the workload that it was made to, if policies let whoever shows no
/// certificate pass.
pub(super) async fn carry(node: &Node, tcp: TcpStream, from: SocketAddr, destination: SocketAddr) {
    let resident = node.resident_at(destination.ip()).await;
    let Some(resident) = resident.filter(|_| !node.is_own(destination)) else {
        return tracing::warn!(%from, %destination, reason = "no workload of this node", "connection refused");
    };
    let progress = Arc::new(PlainProgress::default());
    let ends = Ends {
        reporter: Reporter::Destination,
        source: node.party_at(from.ip()).unwrap_or_default(),
        is_claimed: false,
        source_addr: from,
        destination: Party::from(&*resident.workload),
        destination_addr: destination.to_string(),
        authority: None,
        service: None,
        is_mutual_tls: false,
    };
    let traffic = node.telemetry.begin(ends, Arc::clone(&progress));
    let caller = Caller::new(
        None,
        Some(from.ip().to_canonical()),
        Some(destination.ip()),
        destination.port(),
    );
    match Admitted::new(&resident, caller) {
        Ok(admitted) => {
            let server = node.connect(destination, Some(from.ip().to_canonical())).await;
            join(tcp, server, admitted, traffic, &progress).await;
        }
        Err(refused) => traffic.end(Some(denied(&refused))),
    }
}

/// Copies to a workload of this node for as long as that is admitted.
async fn join(
    tcp: TcpStream,
    connected: Result<TcpStream, ConnectError>,
    admitted: Admitted,
    traffic: Traffic,
    progress: &PlainProgress,
) {
    let server = match connected {
        Ok(server) => server,
        Err(error) => return traffic.end(Some(Failure::of_connection(&error))),
    };
    let failed = tokio::select! {
        biased;
        refused = admitted.withdrawn() => Some(denied(&refused)),
        joined = plain::join(tcp, server, progress) => joined.err().map(|error| Failure::of_connection(&error)),
    };
    traffic.end(failed);
}
