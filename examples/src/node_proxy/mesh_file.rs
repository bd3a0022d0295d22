//! The mesh from a file, as it changes.

use std::path::{Path, PathBuf};
use std::{fs, io, thread};

use mesh_xds::local::{self, LocalError};
use mesh_xds::store::Snapshot;

use super::residents::Residents;
use crate::following::{Following, INTERVAL};

/// Reads a mesh, and has a thread follow its file until nobody asks any more.
pub(super) fn follow(file: &Path, mut residents: Residents) -> Result<(), MeshFileError> {
    let text = read(file)?;
    residents.update(parse(file, &text)?);
    let file = file.to_owned();
    thread::Builder::new()
        .name("mesh".to_owned())
        .spawn(move || keep_up(&file, text, residents))?;
    Ok(())
}

/// Takes what the file comes to say, and keeps the last good mesh otherwise.
fn keep_up(file: &Path, text: String, mut residents: Residents) {
    let mut following = Following::new(text);
    while residents.is_wanted() {
        thread::sleep(INTERVAL);
        let Some(text) = following.look(read(file).map_err(|error| error.to_string())) else {
            continue;
        };
        let parsed = text.and_then(|text| parse(file, &text).map_err(|error| error.to_string()));
        match parsed {
            Ok(mesh) => {
                let (workloads, services) = (mesh.workload_count(), mesh.service_count());
                let policies = mesh.policy_count();
                residents.update(mesh);
                tracing::info!(workloads, services, policies, "mesh changed");
                following.accepted();
            }
            Err(reason) => {
                if following.refused(&reason) {
                    tracing::warn!(%reason, "mesh kept as it was");
                }
            }
        }
    }
}

fn read(file: &Path) -> Result<String, MeshFileError> {
    fs::read_to_string(file).map_err(|error| MeshFileError::File {
        file: file.to_owned(),
        error,
    })
}

fn parse(file: &Path, text: &str) -> Result<Snapshot, MeshFileError> {
    Ok(local::read(&file.display().to_string(), text)?.snapshot())
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
