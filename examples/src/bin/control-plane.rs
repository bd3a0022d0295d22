//! The control plane: xDS and certificates from a directory of Kubernetes objects.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_examples::control_plane::main(std::env::args_os())
}
