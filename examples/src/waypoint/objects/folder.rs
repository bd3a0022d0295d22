//! Objects in folders, as they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{io, thread};

use tokio::time::Instant;

use crate::folder::{self, FolderError};
use crate::manifest::{self, Unreadable};
use crate::settle::{INTERVAL, Settling};
use crate::waypoint::snapshot::Frame;
use crate::workers::Keepers;

/// The texts of files, by their names.
type Texts = BTreeMap<PathBuf, String>;

/// Reads the objects of folders, and has a keeper follow them until nobody asks any more. At first
/// each has to be good.
pub(in crate::waypoint) fn follow(folders: &[PathBuf], frame: Frame, keepers: &Keepers) -> Result<(), ObjectsError> {
    let texts = read(folders)?;
    let problems = frame.objects(|objects| {
        let problems = texts
            .iter()
            .flat_map(|(path, text)| objects.take(&path.display().to_string(), text));
        problems.collect::<Vec<_>>()
    });
    if let Some(problem) = problems.into_iter().next() {
        return Err(ObjectsError::Object(problem));
    }
    let folders = folders.to_owned();
    keepers.start("traffic", move || keep_up(&folders, texts, &frame))?;
    Ok(())
}

/// Takes what the files come to say, each by itself.
fn keep_up(folders: &[PathBuf], texts: Texts, frame: &Frame) {
    let mut settling = Settling::new(Ok(texts.clone()));
    let mut known = texts;
    while frame.is_wanted() {
        thread::sleep(INTERVAL);
        let found = read(folders).map_err(|error| error.to_string());
        match settling.take(found, Instant::now()) {
            Some(Ok(texts)) => {
                take(frame, &known, texts);
                known.clone_from(texts);
            }
            Some(Err(reason)) => tracing::warn!(%reason, "routes and policies kept as they were"),
            None => {}
        }
    }
}

fn take(frame: &Frame, before: &Texts, texts: &Texts) {
    let problems = frame.objects(|objects| {
        objects.retain(|name| texts.contains_key(Path::new(name)));
        let changed = texts.iter().filter(|(path, text)| before.get(*path) != Some(text));
        let problems = changed.flat_map(|(path, text)| objects.take(&path.display().to_string(), text));
        problems.collect::<Vec<_>>()
    });
    for reason in problems {
        tracing::warn!(%reason, "object kept as it was");
    }
    frame.publish();
    tracing::info!(files = texts.len(), "routes and policies changed");
}

fn read(folders: &[PathBuf]) -> Result<Texts, ObjectsError> {
    let mut texts = Texts::new();
    for folder in folders {
        for path in folder::manifests(folder)? {
            let text = manifest::read(&path)?;
            texts.insert(path, text);
        }
    }
    Ok(texts)
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
