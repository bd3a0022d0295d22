//! What goes to stderr beside the ready line: what a program shows by default, more with RUST_LOG.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Shows what `default` says, unless RUST_LOG says something else.
pub(crate) fn init(default: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(filter(default))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// What RUST_LOG says, or `default`.
pub(crate) fn filter(default: &str) -> EnvFilter {
    match std::env::var_os(EnvFilter::DEFAULT_ENV) {
        Some(_) => EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .from_env_lossy(),
        None => EnvFilter::new(default),
    }
}
