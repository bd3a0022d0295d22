use std::sync::Arc;

use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use super::{
    jwt::read_bundles,
    stream::{Feed, StreamError},
    wire::{FETCH_JWT_BUNDLES, JwtBundlesResponse},
};
use crate::{jwt::JwtBundles, source::follower::SourceEnded};

/// Sees the JWT bundles of a Workload API. Cloning is cheap, and each clone follows by itself.
#[derive(Clone, Debug)]
pub struct JwtFollower {
    states: watch::Receiver<JwtState>,
}

#[derive(Clone, Debug, Default)]
struct JwtState {
    bundles: Arc<JwtBundles>,
    problem: Option<StreamError>,
}

impl JwtFollower {
    /// The bundles of this moment, to validate tokens with; none until the first have come, and
    /// after they were withdrawn, as they are when they are not asked for again.
    pub fn bundles(&self) -> Arc<JwtBundles> {
        Arc::clone(&self.states.borrow().bundles)
    }

    /// Why there are no newer bundles; `None` when the last message was taken.
    pub fn problem(&self) -> Option<StreamError> {
        self.states.borrow().problem.clone()
    }

    /// Waits for bundles, or a problem, that this follower has not waited for yet.
    ///
    /// # Errors
    ///
    /// The source is gone. What it last had stays to be read.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: the next call answers for what this one was dropped with.
    pub async fn changed(&mut self) -> Result<(), SourceEnded> {
        self.states.changed().await.map_err(|_| SourceEnded)
    }
}

/// Publishes what the JWT bundles stream says. Bundles have no end of their own.
#[derive(Default)]
pub(super) struct Bundles {
    states: watch::Sender<JwtState>,
}

impl Bundles {
    pub(super) fn follow(&self) -> JwtFollower {
        JwtFollower {
            states: self.states.subscribe(),
        }
    }
}

impl Feed for Bundles {
    type Message = JwtBundlesResponse;
    const PATH: &'static str = FETCH_JWT_BUNDLES;

    fn take(&mut self, message: &JwtBundlesResponse, _: UnixTime) -> Result<(), StreamError> {
        let bundles = Arc::new(read_bundles(message)?);
        self.states.send_replace(JwtState { bundles, problem: None });
        Ok(())
    }

    fn report(&mut self, problem: StreamError) {
        self.states.send_modify(|state| state.problem = Some(problem));
    }

    fn withdraw(&mut self, reason: StreamError) {
        self.states.send_replace(JwtState {
            bundles: Arc::default(),
            problem: Some(reason),
        });
    }

    fn expire(&mut self, _: UnixTime) {}

    fn expires(&self) -> Option<UnixTime> {
        None
    }
}
