//! Tunnels that are meant to be refused, and what else may go wrong.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hbone::tls::DialError;
use hbone::{Config, CopyAbort, OpenError, TunnelRequest};
use mesh_identity::SpiffeId;
use mesh_identity::tls::ClientTls;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::identities::IdentitiesError;
use super::policies::PoliciesError;
use super::report::{Checksums, Decision, Outcome};
use crate::admission::Stopped;

/// A tunnel that was asked for and not opened.
pub(super) struct Attempt {
    error: AttemptError,
    time: Duration,
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl Attempt {
    /// Asks `server` for a tunnel to `destination`, which has to fail.
    pub(super) async fn make(server: SocketAddr, tls: &ClientTls, destination: SocketAddr) -> Result<Self, Undeclared> {
        let began = Instant::now();
        let request = TunnelRequest::new(destination.try_into().map_err(io::Error::other)?);
        match open(server, tls, request).await {
            Ok(()) => Err(Undeclared::Opened),
            Err(error) => Ok(Self {
                error,
                time: began.elapsed(),
            }),
        }
    }

    /// It was answered with this status.
    pub(super) fn refused(self, decision: Decision, expected: u16) -> Result<Outcome, Undeclared> {
        match &self.error {
            AttemptError::Open(OpenError::Refused(refusal)) if refusal.status().as_u16() == expected => {
                Ok(self.outcome(decision, Some(expected)))
            }
            other => Err(Undeclared::Refusal(other.to_string())),
        }
    }

    /// It did not come to a request.
    pub(super) fn not_trusted(self) -> Result<Outcome, Undeclared> {
        match &self.error {
            AttemptError::Dial(DialError::Tls(_)) => Ok(self.outcome(Decision::NotTrusted, None)),
            other => Err(Undeclared::Refusal(other.to_string())),
        }
    }

    fn outcome(self, decision: Decision, status: Option<u16>) -> Outcome {
        Outcome {
            status,
            refusal: Some(self.error.to_string()),
            ..Outcome::new(decision, self.time)
        }
    }
}

async fn open(server: SocketAddr, tls: &ClientTls, request: TunnelRequest) -> Result<(), AttemptError> {
    let (client, connection) = hbone::tls::dial(server, tls, &Config::default()).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    client.open(request).await?;
    Ok(())
}

impl Outcome {
    /// A tunnel that carried these bytes.
    pub(super) fn carried(sent: u64, received: u64, time: Duration) -> Self {
        Self {
            status: Some(200),
            sent,
            received,
            ..Self::new(Decision::Allowed, time)
        }
    }

    /// A tunnel that was open, and was ended for this reason.
    pub(super) fn ended(decision: Decision, reason: String, time: Duration) -> Self {
        Self {
            refusal: Some(reason),
            ..Self::new(decision, time)
        }
    }

    pub(super) fn with_checksums(self, checksums: Checksums) -> Self {
        Self {
            checksums: Some(checksums),
            ..self
        }
    }

    fn new(decision: Decision, time: Duration) -> Self {
        Self {
            decision,
            status: None,
            refusal: None,
            sent: 0,
            received: 0,
            checksums: None,
            milliseconds: time.as_secs_f64() * 1e3,
        }
    }
}

/// What was not as declared.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undeclared {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    #[error("the service did not answer as it should")]
    NoGreeting,
    #[error("the server saw no end of the tunnel")]
    Unseen,
    #[error("the server saw `{seen}`")]
    Peer { seen: SpiffeId },
    #[error(transparent)]
    Policies(#[from] PoliciesError),
    #[error("the server did not carry the tunnel: {0}")]
    Stopped(#[from] Stopped),
    #[error("the server aborted the tunnel: {0}")]
    Aborted(#[from] CopyAbort),
    #[error("the server carried {up} bytes up and {down} bytes down")]
    Bytes { up: u64, down: u64 },
    #[error("{connections} connections were made, more or fewer than needed")]
    Connections { connections: u64 },
    #[error("checksums differ")]
    Checksums,
    #[error("the tunnel was opened")]
    Opened,
    #[error("refused in another way: {0}")]
    Refusal(String),
}
