//! Policies from files and folders.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mesh_policy::authz::attach::{Recipient, Service, ServiceKind};
use mesh_policy::authz::k8s::{self, Manifests, ReadError};
use mesh_policy::authz::{AuthorizationPolicy, Labels, PeerAuthentication};
use mesh_policy::{Budget, Resource};

use super::args;

/// What files of policies end in.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The policies of files and folders that apply to a recipient, if there is one. What a
/// PeerAuthentication demands of it is one of them.
pub(super) fn load(paths: &[PathBuf], recipient: &args::Recipient) -> Result<Vec<AuthorizationPolicy>, LoadError> {
    Ok(select(load_all(paths)?, recipient))
}

/// Those of some objects.
pub(super) fn select(manifests: Manifests, recipient: &args::Recipient) -> Vec<AuthorizationPolicy> {
    let Manifests {
        mut authorization,
        peer_authentication,
        ..
    } = manifests;
    let Some(namespace) = &recipient.namespace else {
        return authorization;
    };
    let labels: Labels = recipient
        .labels
        .iter()
        .map(|label| (label.0.clone(), label.1.clone()))
        .collect();
    let service = recipient.service.as_deref().map(|service| {
        let (namespace, name) = service.split_once('/').unwrap_or((namespace, service));
        let kind = ServiceKind::Service;
        Service { namespace, name, kind }
    });
    let attached = match (&recipient.gateway, &recipient.waypoint) {
        (Some(name), _) => Recipient::Gateway {
            namespace,
            name,
            labels: &labels,
        },
        (None, Some(name)) => Recipient::Waypoint {
            namespace,
            name,
            service,
        },
        (None, None) => Recipient::Workload {
            namespace,
            labels: &labels,
        },
    };
    let root = &recipient.root_namespace;
    authorization.retain(|policy| attached.is_subject_to(policy, root));
    let demanded = PeerAuthentication::to_policy(&peer_authentication, namespace, &labels, root);
    authorization.extend(demanded.map(|policy| policy.selector(labels)));
    authorization
}

/// The objects of files and folders, in the order of the files' names.
pub(super) fn load_all(paths: &[PathBuf]) -> Result<Manifests, LoadError> {
    let mut all = Manifests::default();
    for path in paths {
        for file in files(path)? {
            let manifests = k8s::read(&file.display().to_string(), &read(&file)?, &Budget::new())?;
            all.authorization.extend(manifests.authorization);
            all.peer_authentication.extend(manifests.peer_authentication);
        }
    }
    Ok(all)
}

/// The text of a file, which has no more bytes than a file of policies may have, or one more.
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |error| LoadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let most = Budget::new().limit(Resource::DocumentBytes) as u64 + 1;
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A file itself, or the files of a folder.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error| LoadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            // A link to a folder could lead back here.
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(entry.path());
            } else if is_manifest(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    if found.is_empty() {
        return Err(LoadError::Empty { path: path.to_owned() });
    }
    found.sort();
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Why there are no policies.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{}: {error}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{}: there is no file that ends in .yaml, .yml or .json", path.display())]
    Empty { path: PathBuf },
    #[error(transparent)]
    Read(#[from] ReadError),
}
