//! Entries for fuzzers to what is not reached by a peer's bytes alone.

use crate::pool::script;

/// Runs the events that `data` spells on a pool's state.
///
/// # Panics
///
/// If the state breaks a promise.
pub fn pool_ops(data: &[u8]) {
    script::run(data);
}
