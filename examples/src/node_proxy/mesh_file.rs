//! The mesh from a file, as it changes.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io, thread};

use mesh_xds::local::{self, LocalError};
use mesh_xds::store::Snapshot;
use tokio::time::Instant;

use super::residents::Residents;
use crate::settle::{INTERVAL, Settling};
use crate::workers::Keepers;

/// Reads a mesh, and has a keeper follow its file until nobody asks any more.
pub(super) fn follow(file: &Path, mut residents: Residents, keepers: &Keepers) -> Result<(), MeshFileError> {
    let stamp = Stamp::of(file)?;
    residents.update(read(file)?);
    let file = file.to_owned();
    keepers.start("mesh", move || keep_up(&file, stamp, residents))?;
    Ok(())
}

/// What tells one state of a file from another, so that a large mesh is read only when it changed.
#[derive(Clone, PartialEq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(file: &Path) -> Result<Self, MeshFileError> {
        let stamp = || {
            let metadata = fs::metadata(file)?;
            Ok(Self {
                inode: metadata.ino(),
                length: metadata.len(),
                modified: metadata.modified()?,
            })
        };
        stamp().map_err(|error| MeshFileError::File {
            file: file.to_owned(),
            error,
        })
    }
}

/// Takes what the file comes to say, and keeps the last good mesh otherwise.
fn keep_up(file: &Path, stamp: Stamp, mut residents: Residents) {
    let mut settling = Settling::new(Ok(stamp));
    let mut reported = String::new();
    while residents.is_wanted() {
        thread::sleep(INTERVAL);
        let stamp = Stamp::of(file).map_err(|error| error.to_string());
        let Some(taken) = settling.take(stamp, Instant::now()) else {
            continue;
        };
        let read = |_: &Stamp| read(file).map_err(|error| error.to_string());
        match taken.as_ref().map_err(String::clone).and_then(read) {
            Ok(mesh) => {
                let (workloads, services) = (mesh.workload_count(), mesh.service_count());
                let policies = mesh.policy_count();
                residents.update(mesh);
                tracing::info!(workloads, services, policies, "mesh changed");
                reported.clear();
            }
            Err(reason) if reason != reported => {
                tracing::warn!(%reason, "mesh kept as it was");
                reported = reason;
            }
            Err(_) => {}
        }
    }
}

fn read(file: &Path) -> Result<Snapshot, MeshFileError> {
    let text = fs::read_to_string(file).map_err(|error| MeshFileError::File {
        file: file.to_owned(),
        error,
    })?;
    Ok(local::read(&file.display().to_string(), &text)?.snapshot())
}

/// Why a file is no mesh.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeshFileError {
    #[error("{}: {error}", file.display())]
    File {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(transparent)]
    Content(#[from] LocalError),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
