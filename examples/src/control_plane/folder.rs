//! The objects of a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::compile::{Mesh, MeshError, Settings, compile};
use super::objects::{ObjectError, Objects, Traffic};
use crate::folder::{self, FolderError};
use crate::manifest::{self, Unreadable};

/// The texts of a directory's files, by their names.
pub(super) type Texts = BTreeMap<PathBuf, String>;

/// Reads all files of a directory and of those in it.
pub(super) fn read(dir: &Path) -> Result<Texts, LoadError> {
    let mut texts = Texts::new();
    for path in folder::manifests(dir)? {
        let text = manifest::read(&path)?;
        texts.insert(path, text);
    }
    Ok(texts)
}

/// What the files come to, where those things stay as they were `before` that may do so alone.
pub(super) fn mesh(dir: &Path, texts: &Texts, settings: &Settings, before: &Traffic) -> Result<Mesh, LoadError> {
    let mut objects = Objects::default();
    for (path, text) in texts {
        let name = path.strip_prefix(dir).unwrap_or(path);
        objects.add(&name.display().to_string(), text)?;
    }
    objects.traffic.keep(before);
    Ok(compile(&objects, settings)?)
}

/// Why a directory holds no mesh.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
}
