//! The project's main job in one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh_examples::quickstart::main(std::env::args_os())
}
