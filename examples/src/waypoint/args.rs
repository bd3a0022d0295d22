//! The command line.

use clap::Parser;

use crate::proxy;

/// Layer-7 proxy of an ambient mesh: what Istio's waypoint does.
///
/// Takes tunnels (HBONE) for the services that it serves, decides about each HTTP request by the
/// mesh's policies and routes, and sends it on through a tunnel to an endpoint, whose own identity it
/// expects there. What is no HTTP passes through, as far as policies let connections pass. So it does
/// for the addresses of workloads that it stands before, by the policies of its Gateway.
///
/// Prints one line on stderr when it is ready; ended requests and connections on stdout;
/// RUST_LOG=info shows more. SIGTERM and SIGINT drain; a second one does not wait. Exit code 2: a
/// flag, file or certificate is bad.
#[derive(Debug, Parser)]
#[command(name = "waypoint", version, max_term_width = 100, after_long_help = LONG_HELP)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) launch: proxy::args::Launch,
}

const LONG_HELP: &str = concat!(
    "The configuration:\n\n",
    include_str!("config.toml"),
    "\n",
    include_str!("external/config.toml"),
    "\nThe admin address answers GET /healthz/ready, /metrics and /config_dump (no keys), and\n\
     POST /logging?level=FILTER, where FILTER is what RUST_LOG takes."
);
