//! The command line.

use clap::Parser;

use crate::proxy;

/// Per-node layer-4 proxy of an ambient mesh: what ztunnel does.
///
/// Takes connections of this node's workloads by SOCKS5 and carries them to their destinations by
/// HBONE, under the workload's own identity; takes tunnels and plain connections for this node's
/// workloads, lets pass what their authorization policies let pass, and closes it when they do not
/// any more.
///
/// Prints one line on stderr when it is ready; ended connections on stdout; RUST_LOG=info shows
/// more. SIGTERM and SIGINT drain; a second one does not wait. Exit code 2: a flag, file or
/// certificate is bad.
#[derive(Debug, Parser)]
#[command(name = "node-proxy", version, max_term_width = 100, after_long_help = LONG_HELP)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) launch: proxy::args::Launch,
}

const LONG_HELP: &str = concat!(
    "The configuration:\n\n",
    include_str!("config.toml"),
    "\nThe admin address answers GET /healthz/ready, /metrics and /config_dump (no keys), and\n\
     POST /logging?level=FILTER, where FILTER is what RUST_LOG takes."
);
