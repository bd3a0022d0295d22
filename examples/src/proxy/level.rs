//! What goes to stderr beside the ready line, and how much of it.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt;

use crate::logging;

/// Refusals and failures, and what becomes of the mesh and of objects.
const DEFAULT: &str = "warn,mesh_examples::proxy::mesh_file=info,mesh_examples::proxy::discovery=info,\
                       mesh_examples::waypoint::objects=info";

/// Says how much is logged.
#[derive(Clone)]
pub(crate) struct Level(Arc<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl Level {
    /// Has as much logged as a text says that RUST_LOG could be. False where that is impossible by now.
    pub(crate) fn set(&self, directives: &str) -> Result<bool, ParseError> {
        Ok((self.0)(EnvFilter::try_new(directives)?))
    }
}

pub(crate) fn init() -> Level {
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_env_filter(logging::filter(DEFAULT))
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.finish().init();
    Level(Arc::new(move |filter| handle.reload(filter).is_ok()))
}
