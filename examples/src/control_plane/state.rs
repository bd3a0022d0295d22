//! The mesh as it is now.

use std::path::PathBuf;
use std::sync::Arc;
use std::{io, thread};

use tokio::sync::watch;
use tokio::time::Instant;

use super::compile::{Mesh, Notice, Settings};
use super::folder::{self, LoadError, Texts};
use super::objects::Traffic;
use crate::settle::{INTERVAL, Settling};
use crate::workers::Keepers;

/// What is in force, and why that is not what the directory says, if it is not.
#[derive(Debug)]
pub(super) struct State {
    pub(super) mesh: Arc<Mesh>,
    pub(super) problem: Option<String>,
}

/// Where the mesh comes from.
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) settings: Settings,
}

impl Directory {
    pub(super) fn load(&self) -> Result<(Texts, Mesh), LoadError> {
        let texts = folder::read(&self.path)?;
        let mesh = folder::mesh(&self.path, &texts, &self.settings, &Traffic::default())?;
        Ok((texts, mesh))
    }

    /// Has a keeper follow the directory until nobody asks any more. `publish` gets each mesh, the
    /// first one included, after it is in force here: whoever hears of a workload by it may ask for
    /// the workload's certificate at once.
    pub(super) fn follow(
        self,
        publish: impl Fn(&Mesh) + Send + 'static,
        keepers: &Keepers,
    ) -> Result<watch::Receiver<Arc<State>>, FollowError> {
        let (texts, mesh) = self.load()?;
        publish(&mesh);
        let (mesh, problem) = (Arc::new(mesh), None);
        let (state, follower) = watch::channel(Arc::new(State { mesh, problem }));
        keepers.start("directory", move || self.keep_up(texts, &publish, &state))?;
        Ok(follower)
    }

    fn keep_up(&self, texts: Texts, publish: &impl Fn(&Mesh), state: &watch::Sender<Arc<State>>) {
        let (mut settling, mut reported) = (Settling::new(Ok(texts)), String::new());
        while !state.is_closed() {
            thread::sleep(INTERVAL);
            let read = folder::read(&self.path).map_err(|error| error.to_string());
            let Some(taken) = settling.take(read, Instant::now()) else {
                continue;
            };
            let before = Arc::clone(&state.borrow().mesh);
            let compiled = taken.as_ref().map_err(String::clone).and_then(|texts| {
                let mesh = folder::mesh(&self.path, texts, &self.settings, &before.traffic);
                mesh.map_err(|error| error.to_string())
            });
            match compiled {
                Ok(mesh) => {
                    let mesh = Arc::new(mesh);
                    reported.clear();
                    state.send_replace(Arc::new(State {
                        mesh: Arc::clone(&mesh),
                        problem: None,
                    }));
                    publish(&mesh);
                    tell(&mesh, &before.notices);
                }
                Err(problem) => {
                    state.send_replace(Arc::new(State {
                        mesh: before,
                        problem: Some(problem.clone()),
                    }));
                    if problem != reported {
                        tracing::warn!(reason = %problem, "the mesh stays as it is");
                        reported = problem;
                    }
                }
            }
        }
    }
}

/// Says what is in force now, and what about it has not been said.
pub(super) fn tell(mesh: &Mesh, said: &[Notice]) {
    for notice in mesh.notices.iter().filter(|notice| !said.contains(notice)) {
        tracing::warn!("{notice}");
    }
    tracing::info!(
        workloads = mesh.workloads.len(),
        services = mesh.services.len(),
        policies = mesh.policies.len(),
        "mesh in force"
    );
}

/// Why a directory cannot be followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
