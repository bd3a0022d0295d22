//! The proxy of a node: HBONE for the workloads that run on it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_examples::node_proxy::main(std::env::args_os())
}
