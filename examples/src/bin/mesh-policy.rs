//! Checks, explains, lints, compares and converts Istio's authorization policies.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_examples::mesh_policy::main(std::env::args_os())
}
