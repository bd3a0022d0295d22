//! The files of a directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_policy::{Budget, Resource};

use super::compile::{Mesh, MeshError, Settings, compile};
use super::objects::{ObjectError, Objects};

/// What files of objects end in.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The texts of a directory's files, by their names.
pub(super) type Texts = BTreeMap<PathBuf, String>;

/// Reads all files of a directory and of those in it. What begins with two dots is not one of them:
/// that is how mounted ConfigMaps keep what their links lead to.
pub(super) fn read(dir: &Path) -> Result<Texts, FolderError> {
    let mut texts = Texts::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| FolderError::unreadable(&folder, error);
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
            if is_hidden {
                continue;
            }
            let kind = fs::symlink_metadata(&path).map_err(|error| FolderError::unreadable(&path, error))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && path.is_dir() {
                // It could lead back here.
                return Err(FolderError::Linked { path });
            } else if is_manifest(&path) {
                let text = read_file(&path).map_err(|error| FolderError::unreadable(&path, error))?;
                texts.insert(path, text);
            }
        }
    }
    Ok(texts)
}

/// What the files come to.
pub(super) fn mesh(dir: &Path, texts: &Texts, settings: &Settings) -> Result<Mesh, FolderError> {
    let mut objects = Objects::default();
    for (path, text) in texts {
        let name = path.strip_prefix(dir).unwrap_or(path);
        objects.add(&name.display().to_string(), text)?;
    }
    Ok(compile(&objects, settings)?)
}

/// The text of a file, which is cut where it is too long to be taken.
fn read_file(path: &Path) -> io::Result<String> {
    let most = Budget::new().limit(Resource::DocumentBytes) as u64 + 1;
    let mut text = String::new();
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Why a directory holds no mesh.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("{}: {error}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{}: a link to a folder is not followed", path.display())]
    Linked { path: PathBuf },
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl FolderError {
    fn unreadable(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unreadable { path, error }
    }
}
