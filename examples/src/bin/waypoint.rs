//! The proxy that a service's requests pass: HTTP behind HBONE.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_examples::waypoint::main(std::env::args_os())
}
