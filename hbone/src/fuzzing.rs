//! Entries for fuzzers and tests to what is not reached by a peer's bytes alone.

mod tunnel;

use crate::config::Config;
use crate::engine::EngineKind;
use crate::pool::script;

/// Has connections speak HTTP/2 with the [`h2`] crate, the oracle of the engine that they have
/// otherwise.
#[must_use]
pub fn with_h2(mut config: Config) -> Config {
    config.set_engine(EngineKind::H2);
    config
}

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

/// As [`tunnel_frames`], with a peer that keeps to the protocol, and with both engines, whose users
/// must see the same.
///
/// # Panics
///
/// If a promise is broken, or the engines differ.
pub fn tunnel_engines(data: &[u8]) {
    tunnel::compare(data);
}
