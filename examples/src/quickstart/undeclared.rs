//! What was not as declared.

use std::io;
use std::process::ExitStatus;

use mesh_identity::source::dev_ca::DevCaError;
use mesh_identity::source::istio_ca::{CaAddressError, RequestError};
use mesh_identity::tls::BuildError;
use mesh_identity::{BundleError, SpiffeIdError, SvidError, TrustDomainError};

use super::program::Role;
use crate::topology::ScrapeError;

#[derive(Debug, thiserror::Error)]
pub(super) enum Undeclared {
    #[error("operating system: {0}")]
    System(#[from] io::Error),
    #[error("{role} ended before it was ready, with {status}: {last}")]
    NotStarted {
        role: Role,
        status: ExitStatus,
        last: String,
    },
    #[error("{0} was started anew, or has ended")]
    Restarted(Role),
    #[error("{0}: not in time")]
    Late(&'static str),
    #[error("SOCKS5 answered with {0}")]
    Refused(&'static str),
    #[error("{wanted}, but {seen}")]
    Other { wanted: &'static str, seen: String },
    #[error("an admin address did not answer: {0}")]
    Admin(#[from] ScrapeError),
    #[error("an admin address answered with no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("HTTP: {0}")]
    Unasked(#[from] http::Error),
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
    #[error(transparent)]
    Authority(#[from] DevCaError),
    #[error(transparent)]
    Svid(#[from] SvidError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Tls(#[from] BuildError),
    #[error(transparent)]
    Address(#[from] CaAddressError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("no port is free at the addresses of all workloads")]
    NoPort,
    #[error("stopped by a signal")]
    Interrupted,
    #[error("the crypto provider has no SHA-256")]
    NoHash,
}
