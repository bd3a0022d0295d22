//! A real Envoy.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::process::Process;

/// The Envoy that `examples/tests/install-peers.sh` installs.
pub fn installed() -> PathBuf {
    let peers = std::env::var_os("PEERS_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.peers"),
        PathBuf::from,
    );
    peers.join("bin/envoy")
}

/// What an Envoy says of its version.
pub fn version(envoy: &Path) -> io::Result<String> {
    let output = std::process::Command::new(envoy).arg("--version").output();
    let output = output.map_err(|error| {
        let problem = format!(
            "{}: {error}: run `bash examples/tests/install-peers.sh`",
            envoy.display()
        );
        io::Error::new(error.kind(), problem)
    })?;
    let printed = String::from_utf8_lossy(&output.stdout);
    // PATH version: COMMIT/VERSION/STATE/BUILD/TLS
    let version = printed.split('/').rev().nth(3).unwrap_or_default();
    Ok(version.to_owned())
}

/// Starts an Envoy with so many worker threads.
pub fn spawn(envoy: &Path, config: PathBuf, concurrency: u16) -> io::Result<Process> {
    let args: [OsString; 5] = [
        "-c".into(),
        config.into(),
        "--disable-hot-restart".into(),
        "--concurrency".into(),
        concurrency.to_string().into(),
    ];
    Process::spawn(envoy, args)
}
