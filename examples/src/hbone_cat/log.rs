//! What goes to stderr beside the ready line: refusals and failures, more with RUST_LOG.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Failures, and what becomes of the own identity and policies.
const DEFAULT: &str = "warn,mesh_examples::hbone_cat::origin=info,mesh_examples::hbone_cat::policy=info";

pub(super) fn init() {
    let filter = match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .from_env_lossy(),
        None => EnvFilter::new(DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}
