//! Who is let in: whoever brings a token of a service account.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::compile::Caller;
use super::objects::Bearer;
use super::state::State;

/// Tells callers by their tokens.
#[derive(Clone)]
pub(super) struct Tokens(watch::Receiver<Arc<State>>);

impl Tokens {
    pub(super) fn new(state: watch::Receiver<Arc<State>>) -> Self {
        Self(state)
    }

    /// Who brings a request.
    pub(super) fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let refused = || Status::unauthenticated("no valid bearer token");
        let header = metadata.get("authorization").ok_or_else(refused)?;
        let token = header.to_str().ok().and_then(|header| header.strip_prefix("Bearer "));
        let token = Bearer(token.ok_or_else(refused)?.to_owned());
        let state = self.0.borrow();
        state.mesh.callers.get(&token).cloned().ok_or_else(refused)
    }

    /// Lets requests pass that bring a token.
    pub(super) fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        self.caller(request.metadata())?;
        Ok(request)
    }
}
