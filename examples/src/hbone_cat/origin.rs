//! Own identity and trust as they change, from files or from an agent.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesh_identity::Svid;
use mesh_identity::source::files::{FileLayout, FileSource};
use mesh_identity::source::workload_api::{Config, Endpoint, WorkloadApi};
use mesh_identity::source::{Follower, Problem, Source};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::settle::IDENTITY_INTERVAL;
use crate::workers::Keepers;

/// Time for an agent to say who this process is.
const FIRST_IDENTITY: Duration = Duration::from_secs(10);

/// A source that has said who this process is, driven by a keeper.
pub(super) struct Origin {
    follower: Follower,
    svid: Arc<Svid>,
    /// Asked for as long as this lives.
    agent: Option<WorkloadApi>,
}

impl Origin {
    pub(super) fn agent(
        endpoint: &Endpoint,
        provider: Arc<CryptoProvider>,
        keepers: &Keepers,
    ) -> Result<Self, OriginError> {
        let (api, driver) = WorkloadApi::new(endpoint, Config::new(provider));
        let first = first_identity(api.follow());
        let svid = drive(("workload-api", keepers), api.follow(), driver, async {
            timeout(FIRST_IDENTITY, first).await.unwrap_or(None)
        })?;
        let svid = svid.ok_or_else(|| OriginError::NoIdentity {
            problem: api
                .follow()
                .problem()
                .map(|problem| format!(": {problem}"))
                .unwrap_or_default(),
        })?;
        Ok(Self {
            follower: api.follow(),
            svid,
            agent: Some(api),
        })
    }

    pub(super) fn files(
        layout: FileLayout,
        provider: Arc<CryptoProvider>,
        keepers: &Keepers,
    ) -> Result<Self, OriginError> {
        let (source, driver) = FileSource::builder(layout, provider)
            .interval(IDENTITY_INTERVAL)
            .build();
        let (first, refused) = (first_identity(source.follow()), first_problem(source.follow()));
        let svid = drive(("files", keepers), source.follow(), driver, async {
            tokio::select! {
                svid = first => svid,
                () = refused => None,
            }
        })?;
        let svid = svid.ok_or_else(|| OriginError::Refused(source.follow().problem()))?;
        Ok(Self {
            follower: source.follow(),
            svid,
            agent: None,
        })
    }

    /// Who this process is. What a source calls the default later changes nothing about that.
    pub(super) fn svid(&self) -> &Svid {
        &self.svid
    }

    pub(super) fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Whether roots of a trust domain that is not known may come yet.
    pub(super) fn may_learn_roots(&self) -> bool {
        self.agent.is_some()
    }
}

/// Waits for the first identity, and then has a keeper drive the source.
fn drive(
    (name, keepers): (&'static str, &Keepers),
    follower: Follower,
    driver: impl Future<Output = ()> + Send + 'static,
    first: impl Future<Output = Option<Arc<Svid>>>,
) -> io::Result<Option<Arc<Svid>>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut driver = Box::pin(driver);
    let svid = runtime.block_on(async {
        tokio::select! {
            svid = first => svid,
            () = &mut driver => None,
        }
    });
    if let Some(svid) = &svid {
        let changes = log_changes(name, follower, Arc::clone(svid));
        keepers.start(name, move || {
            runtime.block_on(async {
                tokio::select! {
                    () = driver => {}
                    () = changes => {}
                }
            });
        })?;
    }
    Ok(svid)
}

async fn first_identity(mut follower: Follower) -> Option<Arc<Svid>> {
    follower.ready().await.ok()?.default_svid().cloned()
}

async fn first_problem(mut follower: Follower) {
    while follower.problem().is_none() && follower.changed().await.is_ok() {}
}

/// Logs what happens to an identity.
async fn log_changes(source: &'static str, mut follower: Follower, mut last: Arc<Svid>) {
    let mut reported = String::new();
    while follower.changed().await.is_ok() {
        let snapshot = follower.snapshot();
        match snapshot.svid(last.id()) {
            Some(svid) if svid.chain() != last.chain() => {
                let left = svid.not_after().as_secs().saturating_sub(UnixTime::now().as_secs());
                tracing::info!("svid rotated: {}, expires in {left} s", svid.id());
                last = Arc::clone(svid);
            }
            _ => {}
        }
        let problem = follower
            .problem()
            .map(|problem| problem.to_string())
            .unwrap_or_default();
        if problem != reported && !problem.is_empty() {
            let kept = snapshot.svid(last.id()).is_some();
            tracing::warn!(reason = %problem, identity = if kept { "kept" } else { "gone" }, "{source}");
        }
        reported = problem;
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum OriginError {
    #[error("no identity in {} s{problem}", FIRST_IDENTITY.as_secs())]
    NoIdentity { problem: String },
    #[error("{}", .0.as_ref().map_or("no identity".to_owned(), ToString::to_string))]
    Refused(Option<Problem>),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
