//! Where identities and bundles come from, and how their changes reach those who use them.
//!
//! Every [`Source`] publishes [`Snapshot`]s: all that one process presents and trusts, coherent at
//! one moment. Whoever follows a source sees whole snapshots only, so a new certificate never meets
//! an old bundle. A source that cannot renew keeps what is still valid and says what is wrong; a
//! source whose material was withdrawn publishes an empty snapshot, under which nothing is
//! presented and nobody is believed.

#[cfg(feature = "dev-ca")]
pub mod dev_ca;
pub mod files;
#[cfg(feature = "source")]
mod fixed;
#[cfg(feature = "source")]
mod follower;
#[cfg(feature = "istio-ca")]
pub mod istio_ca;
#[cfg(feature = "source")]
mod merged;
#[cfg(feature = "source")]
mod snapshot;
#[cfg(feature = "workload-api")]
pub mod workload_api;

#[cfg(feature = "source")]
pub use self::{
    fixed::FixedSource,
    follower::{Follower, Problem, Publisher, Source, SourceEnded},
    merged::{MergedSource, Share},
    snapshot::Snapshot,
};
