//! Objects in folders, as they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{io, thread};

use tokio::time::Instant;

use crate::folder::{self, FolderError};
use crate::manifest::{self, Unreadable};
use crate::proxy::mesh_file::Stamp;
use crate::settle::{INTERVAL, Settling};
use crate::waypoint::snapshot::Frame;
use crate::workers::Keepers;

/// The files of folders, as they were looked at.
type Stamps = BTreeMap<PathBuf, Stamp>;

/// Reads the objects of folders, and has a keeper follow them until nobody asks any more. At first
/// each has to be good.
pub(in crate::waypoint) fn follow(folders: &[PathBuf], frame: Frame, keepers: &Keepers) -> Result<(), ObjectsError> {
    let stamps = look(folders)?;
    let texts = read(&Stamps::new(), &stamps)?;
    let problems = take(&frame, &stamps, &texts);
    if let Some(problem) = problems.into_iter().next() {
        return Err(ObjectsError::Object(problem));
    }
    frame.publish();
    let folders = folders.to_owned();
    keepers.start("traffic", move || keep_up(&folders, stamps, &frame))?;
    Ok(())
}

/// Takes what the files come to say, each by itself.
fn keep_up(folders: &[PathBuf], mut known: Stamps, frame: &Frame) {
    let mut settling = Settling::new(Ok(known.clone()));
    let mut reported = String::new();
    while frame.is_wanted() {
        thread::sleep(INTERVAL);
        let found = look(folders).map_err(|error| error.to_string());
        let Some(stamps) = settling.take(found, Instant::now()).cloned() else {
            continue;
        };
        let read = stamps.and_then(|stamps| {
            let texts = read(&known, &stamps).map_err(|error| error.to_string())?;
            Ok((stamps, texts))
        });
        let (stamps, texts) = match read {
            Ok(read) => read,
            Err(reason) => {
                if reason != reported {
                    tracing::warn!(%reason, "routes and policies kept as they were");
                }
                settling.take_again();
                reported = reason;
                continue;
            }
        };
        // Half of a file may lack policies. What is written meanwhile is seen by the next looks.
        if look(folders).ok().as_ref() != Some(&stamps) {
            settling.take_again();
            continue;
        }
        for reason in take(frame, &stamps, &texts) {
            tracing::warn!(%reason, "object kept as it was");
        }
        frame.publish();
        tracing::info!(files = stamps.len(), "routes and policies changed");
        known = stamps;
        reported.clear();
    }
}

/// Takes the files that there are, and the texts of those that changed.
fn take(frame: &Frame, stamps: &Stamps, texts: &[(String, String)]) -> Vec<String> {
    frame.objects(|objects| {
        objects.retain(|name| stamps.contains_key(Path::new(name)));
        let problems = texts.iter().flat_map(|(name, text)| objects.take(name, text));
        problems.collect()
    })
}

fn look(folders: &[PathBuf]) -> Result<Stamps, ObjectsError> {
    let mut stamps = Stamps::new();
    for folder in folders {
        for path in folder::manifests(folder)? {
            let stamp = Stamp::of(&path)?;
            stamps.insert(path, stamp);
        }
    }
    Ok(stamps)
}

/// The names and texts of files that are not as they were known.
fn read(known: &Stamps, stamps: &Stamps) -> Result<Vec<(String, String)>, Unreadable> {
    let changed = stamps.iter().filter(|(path, stamp)| known.get(*path) != Some(stamp));
    let texts = changed.map(|(path, _)| Ok((path.display().to_string(), manifest::read(path)?)));
    texts.collect()
}

/// Why folders hold no objects.
#[derive(Debug, thiserror::Error)]
pub(in crate::waypoint) enum ObjectsError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{0}")]
    Object(String),
    #[error("operating system: {0}")]
    System(#[from] io::Error),
}
