//! Entries for fuzzers to what is not reached by a peer's bytes alone.

mod tunnel;

use crate::pool::script;

/// Runs the events that `data` spells on a pool's state.
///
/// # Panics
///
/// If the state breaks a promise.
pub fn pool_ops(data: &[u8]) {
    script::run(data);
}

/// Plays the peer and the users that `data` spells against one side of a connection.
///
/// # Panics
///
/// If a byte is lost or invented, an abort is shown as an end, or something never ends.
pub fn tunnel_frames(data: &[u8]) {
    tunnel::run(data);
}
