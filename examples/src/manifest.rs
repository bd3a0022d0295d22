//! Files as the programs take them: of no more bytes than they may have; and those of policies, of
//! nothing else, and each policy once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_policy::authz::AuthorizationPolicy;
use mesh_policy::authz::k8s::{self, Manifests, ReadError};
use mesh_policy::{Budget, Resource};

/// The text of a file, which has no more bytes than a file of policies may have, or one more.
pub(crate) fn read(path: &Path) -> Result<String, Unreadable> {
    read_at_most(path, Budget::new().limit(Resource::DocumentBytes))
}

/// The text of a file, which has no more bytes than that, or one more.
pub(crate) fn read_at_most(path: &Path, bytes: usize) -> Result<String, Unreadable> {
    let most = bytes as u64 + 1;
    let mut text = String::new();
    let result = File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    match result {
        Ok(_) => Ok(text),
        Err(error) => Err(Unreadable {
            path: path.to_owned(),
            error,
        }),
    }
}

/// The objects of a file. One of another kind is a mistake: it may have been meant to restrict
/// something.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Manifests, ParseError> {
    let manifests = k8s::read(&path.display().to_string(), text, &Budget::new())?;
    match manifests.others.first() {
        None => Ok(manifests),
        Some(other) => Err(ParseError::Other {
            path: path.to_owned(),
            line: other.line,
            kind: other.kind.clone(),
            api_version: other.api_version.clone(),
        }),
    }
}

/// Checks that no two policies have a name: a set would take the later one only.
pub(crate) fn check_names(policies: &[AuthorizationPolicy]) -> Result<(), Twice> {
    let mut seen = BTreeMap::new();
    for policy in policies {
        if let Some(first) = seen.insert(policy.name(), policy) {
            return Err(Twice {
                name: policy.name().to_string(),
                first: place(first),
                second: place(policy),
            });
        }
    }
    Ok(())
}

fn place(policy: &AuthorizationPolicy) -> String {
    match policy.file() {
        Some(file) => format!("{file}:{}", policy.line()),
        None => "a file of another format".to_owned(),
    }
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) error: io::Error,
}

/// A file holds something else than policies.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{}:{line}: `{kind}` of `{api_version}` is no policy", path.display())]
    Other {
        path: PathBuf,
        line: u32,
        kind: String,
        api_version: String,
    },
}

/// Two policies have the same name.
#[derive(Debug, thiserror::Error)]
#[error("{second}: policy `{name}` is at {first}, too")]
pub(crate) struct Twice {
    name: String,
    first: String,
    second: String,
}
