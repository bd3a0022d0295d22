use std::sync::Arc;

use super::{
    endpoint::{Endpoint, EndpointId},
    load::Load,
};

/// An endpoint in a set.
#[derive(Debug)]
pub(super) struct Member<T> {
    pub(super) id: EndpointId,
    /// The endpoint's, where a pick finds it.
    pub(super) weight: u32,
    pub(super) endpoint: Arc<Endpoint<T>>,
    pub(super) load: Arc<Load>,
}
