//! Own identity and trust from an agent, as they change.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mesh_identity::source::workload_api::{Config, Driver, Endpoint, WorkloadApi};
use mesh_identity::source::{Follower, Source};
use mesh_identity::{SpiffeId, Svid};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Time for the agent to say who this process is.
const FIRST_IDENTITY: Duration = Duration::from_secs(10);

/// An agent that has said who this process is, asked by a thread of its own for as long as this
/// lives.
pub(super) struct Agent {
    api: WorkloadApi,
    svid: Arc<Svid>,
}

impl Agent {
    pub(super) fn connect(endpoint: &Endpoint, provider: Arc<CryptoProvider>) -> Result<Self, AgentError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (api, mut driver) = WorkloadApi::new(endpoint, Config::new(provider));
        let svid = runtime.block_on(first_identity(api.follow(), &mut driver))?;
        let changes = follow(api.follow(), Arc::clone(&svid));
        thread::Builder::new()
            .name("workload-api".to_owned())
            .spawn(move || run(&runtime, driver, changes))?;
        Ok(Self { api, svid })
    }

    /// Who this process is. What the agent calls the default later changes nothing about that.
    pub(super) fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    pub(super) fn follower(&self) -> Follower {
        self.api.follow()
    }
}

async fn first_identity(mut follower: Follower, driver: &mut Driver) -> Result<Arc<Svid>, AgentError> {
    let problem = follower.clone();
    let found = timeout(FIRST_IDENTITY, async {
        tokio::select! {
            ready = follower.ready() => ready.ok(),
            () = driver => None,
        }
    });
    let snapshot = found.await.ok().flatten();
    let svid = snapshot.and_then(|snapshot| snapshot.default_svid().cloned());
    svid.ok_or_else(|| AgentError::NoIdentity {
        problem: problem
            .problem()
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default(),
    })
}

fn run(runtime: &Runtime, driver: Driver, changes: impl Future<Output = ()>) {
    runtime.block_on(async {
        tokio::select! {
            () = driver => {}
            () = changes => {}
        }
    });
}

/// Logs what happens to an identity.
async fn follow(mut follower: Follower, mut last: Arc<Svid>) {
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
            tracing::warn!(reason = %problem, identity = if kept { "kept" } else { "gone" }, "workload api");
        }
        reported = problem;
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    #[error("no identity in {} s{problem}", FIRST_IDENTITY.as_secs())]
    NoIdentity { problem: String },
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
