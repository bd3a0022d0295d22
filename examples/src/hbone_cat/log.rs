//! What goes to stderr beside the ready line: refusals and failures, more with RUST_LOG.

use std::io::{self, IsTerminal};

use hbone::{Blame, Event, Observer, Rejection, Role};
use mesh_identity::live::Urgency;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Failures, and what becomes of the own identity and policies.
const DEFAULT: &str = "warn,mesh_examples::hbone_cat::origin=info,mesh_examples::hbone_cat::policy=info";

pub(super) fn init() {
    let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .from_env_lossy(),
        None => EnvFilter::new(DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Logs what no handler sees.
pub(super) struct Log;

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
