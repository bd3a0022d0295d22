//! The mesh from a file, as it changes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io, thread};

use mesh_xds::local::{self, LocalError};
use mesh_xds::store::Snapshot;
use tokio::time::Instant;

use super::view::View;
use crate::manifest::{self, Unreadable};
use crate::settle::{INTERVAL, Settling};
use crate::workers::Keepers;

/// Reads a mesh, and has a keeper follow its file until nobody asks any more.
pub(crate) fn follow(file: &Path, mut view: impl View, keepers: &Keepers) -> Result<(), MeshFileError> {
    let stamp = Stamp::of(file)?;
    view.update(parse(file, &text(file)?)?);
    let file = file.to_owned();
    keepers.start("mesh", move || keep_up(&file, stamp, view))?;
    Ok(())
}

/// What tells one state of a file from another, so that a large one is read only when it changed.
#[derive(Clone, PartialEq)]
pub(crate) struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

impl Stamp {
    pub(crate) fn of(file: &Path) -> Result<Self, Unreadable> {
        let stamp = || {
            let metadata = fs::metadata(file)?;
            Ok(Self {
                inode: metadata.ino(),
                length: metadata.len(),
                modified: metadata.modified()?,
            })
        };
        let path = file.to_owned();
        stamp().map_err(|error| Unreadable { path, error })
    }
}

/// Takes what the file comes to say, and keeps the last good mesh otherwise.
fn keep_up(file: &Path, stamp: Stamp, mut view: impl View) {
    let mut settling = Settling::new(Ok(stamp));
    let mut reported = String::new();
    while view.is_wanted() {
        thread::sleep(INTERVAL);
        let stamp = Stamp::of(file).map_err(|error| error.to_string());
        let Some(taken) = settling.take(stamp, Instant::now()) else {
            continue;
        };
        let text = taken
            .clone()
            .and_then(|_| text(file).map_err(|error| error.to_string()));
        // Half of a mesh may lack policies. What is written meanwhile is seen by the next looks.
        let is_half = Stamp::of(file).map_err(|error| error.to_string()) != *taken;
        if is_half || text.is_err() {
            settling.take_again();
        }
        if is_half {
            continue;
        }
        match text.and_then(|text| parse(file, &text).map_err(|error| error.to_string())) {
            Ok(mesh) => {
                let (workloads, services) = (mesh.workload_count(), mesh.service_count());
                let policies = mesh.policy_count();
                view.update(mesh);
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

fn text(file: &Path) -> Result<String, MeshFileError> {
    Ok(manifest::read_at_most(file, local::MAX_LENGTH)?)
}

fn parse(file: &Path, text: &str) -> Result<Snapshot, MeshFileError> {
    Ok(local::read(&file.display().to_string(), text)?.snapshot())
}

/// Why a file is no mesh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshFileError {
    #[error(transparent)]
    File(#[from] Unreadable),
    #[error(transparent)]
    Content(#[from] LocalError),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
