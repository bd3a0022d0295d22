//! The files of a folder that hold objects.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::Unreadable;

/// What files of objects end in.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The files of a folder and of those in it, in the order of their names. What begins with two dots
/// is not one of them: that is how mounted ConfigMaps keep what their links lead to. None at all is
/// more likely a folder that is not mounted than one that is meant to be empty.
pub(crate) fn manifests(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |error| Unreadable {
            path: folder.clone(),
            error,
        };
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_name().as_encoded_bytes().starts_with(b"..") {
                continue;
            }
            let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && path.is_dir() {
                // It could lead back here.
                return Err(FolderError::Linked { path });
            } else if is_manifest(&path) {
                check_kind(&path)?;
                found.push(path);
            }
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(FolderError::Empty {
            path: folder.to_owned(),
        }),
        false => Ok(found),
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Reading something else than a file may wait for ever.
fn check_kind(path: &Path) -> Result<(), FolderError> {
    let path = path.to_owned();
    match fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(FolderError::NoFile { path }),
        Err(error) => Err(Unreadable { path, error }.into()),
    }
}

/// Why the files of a folder are not all known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{}: a link to a folder is not followed: name the folder itself", path.display())]
    Linked { path: PathBuf },
    #[error("{}: this is no regular file", path.display())]
    NoFile { path: PathBuf },
    #[error("{}: there is no file that ends in .yaml, .yml or .json", path.display())]
    Empty { path: PathBuf },
}
