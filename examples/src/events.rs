//! What happens to connections below their handlers, as log lines.

use hbone::{Blame, Event, Observer, Rejection, Role};
use mesh_identity::live::Urgency;

/// Logs what no handler sees.
pub(crate) struct Log;

impl Observer for Log {
    fn event(&self, event: &Event) {
        match event {
            Event::TlsFailed { addr, error } => {
                let from = addr.map(tracing::field::display);
                match error {
                    Some(reason) => tracing::warn!(from, %reason, "connection refused"),
                    None => tracing::warn!(from, reason = "TLS handshake timed out", "connection refused"),
                }
            }
            Event::IdentityUnavailable { addr, error } => {
                let from = addr.map(tracing::field::display);
                tracing::warn!(from, reason = %error, "connection refused");
            }
            Event::PeerDistrusted { addr, reason } => {
                let from = addr.map(tracing::field::display);
                tracing::warn!(from, %reason, "connection refused");
            }
            Event::TrustLost { closing, .. } => match closing.urgency() {
                Urgency::Abort => tracing::warn!(reason = %closing, "connection aborted"),
                Urgency::Drain => tracing::warn!(reason = %closing, "connection drained"),
            },
            Event::ConnectionFailed {
                role: Role::Server,
                error,
            } => tracing::warn!(reason = %error, "connection refused"),
            // The rejections that are made below the handler, which logs its own.
            Event::TunnelRejected {
                stream,
                status,
                reason:
                    Some(
                        reason @ (Rejection::NotConnect
                        | Rejection::MalformedAuthority(_)
                        | Rejection::MalformedHead(_)),
                    ),
                ..
            } => {
                tracing::warn!(stream, status = status.as_u16(), %reason, "tunnel refused");
            }
            Event::ConnectionClosed { lost: Some(lost), .. } => match lost.blame() {
                Blame::Local => tracing::info!(reason = %lost, "connection ended"),
                Blame::Peer | Blame::Network => tracing::warn!(reason = %lost, "connection lost"),
            },
            Event::HandlerPanicked => tracing::error!("tunnel reset after a panic"),
            other => tracing::debug!(event = ?other),
        }
    }
}
