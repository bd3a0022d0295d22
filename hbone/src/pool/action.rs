//! What comes out of a pool's state.

use std::sync::Arc;
use std::time::Instant;

use super::backoff::Backoff;
use super::group::{GroupId, WaiterId};
use crate::observe::Event;
use crate::slot::ConnId;

/// What has to be done, in order.
#[derive(Debug)]
pub(super) enum Action<K, H, W, E> {
    /// Dial `key`, and tell how it went.
    Dial { group: GroupId, key: Arc<K> },
    /// A waiting call has its place.
    Grant { call: W, place: Place<H> },
    /// A waiting call gets none.
    Fail { call: W, refusal: Refusal<E> },
    /// Close a connection without tunnels.
    Close(H),
    /// Tell the observer.
    Observe(Event),
    /// Something is due earlier than it was.
    Rearm,
}

/// A place on a connection, taken until it is given back.
#[derive(Debug)]
pub(super) struct Place<H> {
    pub(super) conn: ConnId,
    pub(super) handle: H,
    /// The connection has carried a tunnel before.
    pub(super) proven: bool,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) enum Acquired<H, E> {
    Ready(Place<H>),
    Waiting(WaiterId),
    Refused(Refusal<E>),
}

/// Why a call got no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal<E> {
    /// The dial that it waited for failed.
    Dial(E),
    /// Dials have failed just before.
    HeldOff { error: E, retry_at: Instant },
    /// Too many wait.
    Crowded,
    /// The pool is closed.
    Closed,
}

impl<E: Clone> From<&Backoff<E>> for Refusal<E> {
    fn from(backoff: &Backoff<E>) -> Self {
        Self::HeldOff {
            error: backoff.error().clone(),
            retry_at: backoff.retry_at(),
        }
    }
}
