//! Policies from files and folders.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_policy::Budget;
use mesh_policy::authz::attach::{Recipient, Service, ServiceKind};
use mesh_policy::authz::k8s::{self, Manifests, ReadError};
use mesh_policy::authz::{AuthorizationPolicy, Labels, PeerAuthentication};

use super::args;
use crate::folder::{self, FolderError};
use crate::manifest::{self, Twice, Unreadable};

/// The policies of files and folders that apply to a recipient, if there is one. What a
/// PeerAuthentication demands of it is one of them.
pub(super) fn load(paths: &[PathBuf], recipient: &args::Recipient) -> Result<Vec<AuthorizationPolicy>, LoadError> {
    select(load_all(paths)?, recipient)
}

/// Those of some objects.
pub(super) fn select(manifests: Manifests, recipient: &args::Recipient) -> Result<Vec<AuthorizationPolicy>, LoadError> {
    let Manifests {
        mut authorization,
        peer_authentication,
        ..
    } = manifests;
    manifest::check_names(&authorization)?;
    let Some(namespace) = &recipient.namespace else {
        return match peer_authentication.first() {
            None => Ok(authorization),
            Some(object) => Err(LoadError::NoNamespace {
                name: object.name().to_string(),
            }),
        };
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
    Ok(authorization)
}

/// The objects of files and folders, in the order of the files' names. What is neither policy nor
/// meant for one belongs to others who use the folder.
pub(super) fn load_all(paths: &[PathBuf]) -> Result<Manifests, LoadError> {
    let mut all = Manifests::default();
    for path in paths {
        let mut found = 0;
        for file in files(path)? {
            let manifests = k8s::read(&file.display().to_string(), &manifest::read(&file)?, &Budget::new())?;
            found += manifests.authorization.len() + manifests.peer_authentication.len();
            all.authorization.extend(manifests.authorization);
            all.peer_authentication.extend(manifests.peer_authentication);
        }
        if found == 0 {
            return Err(LoadError::NoPolicy { path: path.clone() });
        }
    }
    Ok(all)
}

/// A file itself, or the files of a folder.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error| Unreadable {
        path: path.to_owned(),
        error,
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    Ok(folder::manifests(path)?)
}

/// Why there are no policies.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    File(#[from] Unreadable),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{}: there is no policy", path.display())]
    NoPolicy { path: PathBuf },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Twice(#[from] Twice),
    #[error("--namespace: what PeerAuthentication `{name}` demands depends on it")]
    NoNamespace { name: String },
}
