//! The objects of a directory, as Kubernetes has them.
//!
//! A field that a kind does not have is an error, as is one that would matter and is not supported:
//! what restricts must not be left out in silence. Fields without a meaning for the mesh are listed
//! with their kinds.

mod entry;
mod fields;
mod gateway;
mod metadata;
mod pod;
mod secret;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{self, Object, Problem, ReadError, ReadFault};
use mesh_policy::authz::{AuthorizationPolicy, PeerAuthentication};

pub(super) use self::entry::{Endpoint, Resolution, ServiceEntry, WorkloadEntry};
pub(super) use self::gateway::{Gateway, GatewayAt};
pub(super) use self::metadata::{Key, Metadata};
pub(super) use self::pod::{DEFAULT_ACCOUNT, Pod};
pub(super) use self::secret::{Bearer, MIN_TOKEN_BYTES, Secret};
pub(super) use self::service::{Service, ServicePort, TargetPort};

/// All objects of all files.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) namespaces: BTreeMap<Key, Namespace>,
    pub(super) accounts: BTreeMap<Key, ServiceAccount>,
    pub(super) pods: BTreeMap<Key, Pod>,
    pub(super) services: BTreeMap<Key, Service>,
    pub(super) service_entries: BTreeMap<Key, ServiceEntry>,
    pub(super) workload_entries: BTreeMap<Key, WorkloadEntry>,
    /// Those of waypoints; other classes are passed over.
    pub(super) gateways: BTreeMap<Key, Gateway>,
    /// Those that hold tokens; other types are passed over.
    pub(super) secrets: BTreeMap<Key, Secret>,
    pub(super) authorization: BTreeMap<Key, AuthorizationPolicy>,
    pub(super) peer_authentication: BTreeMap<Key, (Place, PeerAuthentication)>,
    /// How many objects there are of kinds, types and classes that have no part in this.
    pub(super) passed_over: BTreeMap<String, usize>,
}

/// What all workloads of a namespace have in common.
#[derive(Debug)]
pub(super) struct Namespace(pub(super) Metadata);

/// Somebody to be.
#[derive(Debug)]
pub(super) struct ServiceAccount(Metadata);

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<str>,
    pub(super) line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why files hold no objects: in one line the file, the line, and what is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ObjectError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{place}: {fault}")]
    Field { place: Place, fault: ReadFault },
    #[error("{place}: {kind} `{key}` is at {other} already")]
    Twice {
        place: Place,
        kind: &'static str,
        key: Key,
        other: Place,
    },
}

impl Objects {
    /// Adds the objects of a file.
    pub(super) fn add(&mut self, file: &str, text: &str) -> Result<(), ObjectError> {
        let manifests = k8s::read(file, text, &Budget::new())?;
        let file: Arc<str> = file.into();
        for policy in manifests.authorization {
            let (name, line) = (policy.name(), policy.line());
            let key = Key::new(line, &name.namespace, &name.name).map_err(|problem| at(&file, problem))?;
            if let Some(other) = self.authorization.get(&key) {
                return Err(ObjectError::Twice {
                    place: place_of(&policy),
                    kind: "AuthorizationPolicy",
                    key,
                    other: place_of(other),
                });
            }
            self.authorization.insert(key, policy);
        }
        for object in manifests.peer_authentication {
            let (name, line) = (object.name(), object.line());
            let key = Key::new(line, &name.namespace, &name.name).map_err(|problem| at(&file, problem))?;
            let place = Place {
                file: Arc::clone(&file),
                line,
            };
            if let Some((other, _)) = self.peer_authentication.get(&key) {
                return Err(ObjectError::Twice {
                    place,
                    kind: "PeerAuthentication",
                    key,
                    other: other.clone(),
                });
            }
            self.peer_authentication.insert(key, (place, object));
        }
        // Tokens are for waypoints to verify: a node does not see requests.
        for _ in manifests.request_authentication {
            self.pass_over("RequestAuthentication".to_owned());
        }
        for other in manifests.others {
            let (group, version) = other.api_version.split_once('/').unwrap_or(("", &other.api_version));
            match Kind::of(group, &other.kind) {
                Some(kind) if kind.versions().contains(&version) => self.read(kind, &file, other.object)?,
                Some(_) => {
                    let api_version = other.api_version.as_str().into();
                    return Err(at(&file, (other.line, ReadFault::Version { api_version })));
                }
                None => self.pass_over(other.kind),
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, kind: String) {
        *self.passed_over.entry(kind).or_default() += 1;
    }

    fn read(&mut self, kind: Kind, file: &Arc<str>, mut object: Object) -> Result<(), ObjectError> {
        let at = |problem| at(file, problem);
        let metadata = metadata::read(file, &mut object).map_err(at)?;
        match kind {
            Kind::Namespace => {
                object.pass_over(&["spec", "status"]);
                object.finish().map_err(at)?;
                let namespace = metadata.without_namespace();
                declare(&mut self.namespaces, "Namespace", Namespace(namespace), |found| {
                    &found.0
                })
            }
            Kind::ServiceAccount => {
                object.pass_over(&["automountServiceAccountToken", "imagePullSecrets", "secrets"]);
                object.finish().map_err(at)?;
                declare(
                    &mut self.accounts,
                    "ServiceAccount",
                    ServiceAccount(metadata),
                    |found| &found.0,
                )
            }
            Kind::Pod => {
                let pod = pod::read(metadata, object).map_err(at)?;
                declare(&mut self.pods, "Pod", pod, |found| &found.metadata)
            }
            Kind::Service => {
                let service = service::read(metadata, object).map_err(at)?;
                declare(&mut self.services, "Service", service, |found| &found.metadata)
            }
            Kind::ServiceEntry => {
                let entry = entry::read_service(metadata, object).map_err(at)?;
                declare(&mut self.service_entries, "ServiceEntry", entry, |found| {
                    &found.metadata
                })
            }
            Kind::WorkloadEntry => {
                let entry = entry::read_workload(metadata, object).map_err(at)?;
                declare(&mut self.workload_entries, "WorkloadEntry", entry, |found| {
                    &found.metadata
                })
            }
            Kind::Gateway => match gateway::read(metadata, object).map_err(at)? {
                Some(gateway) => declare(&mut self.gateways, "Gateway", gateway, |found| &found.metadata),
                None => {
                    self.pass_over("Gateway of another class".to_owned());
                    Ok(())
                }
            },
            Kind::Secret => match secret::read(metadata, object).map_err(at)? {
                Some(secret) => declare(&mut self.secrets, "Secret", secret, |found| &found.metadata),
                None => {
                    self.pass_over("Secret of another type".to_owned());
                    Ok(())
                }
            },
        }
    }
}

/// The kinds that are read here.
#[derive(Clone, Copy)]
enum Kind {
    Namespace,
    ServiceAccount,
    Pod,
    Service,
    Secret,
    ServiceEntry,
    WorkloadEntry,
    Gateway,
}

impl Kind {
    fn of(group: &str, kind: &str) -> Option<Self> {
        Some(match (group, kind) {
            ("", "Namespace") => Self::Namespace,
            ("", "ServiceAccount") => Self::ServiceAccount,
            ("", "Pod") => Self::Pod,
            ("", "Service") => Self::Service,
            ("", "Secret") => Self::Secret,
            ("networking.istio.io", "ServiceEntry") => Self::ServiceEntry,
            ("networking.istio.io", "WorkloadEntry") => Self::WorkloadEntry,
            ("gateway.networking.k8s.io", "Gateway") => Self::Gateway,
            _ => return None,
        })
    }

    fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Namespace | Self::ServiceAccount | Self::Pod | Self::Service | Self::Secret => &["v1"],
            Self::ServiceEntry | Self::WorkloadEntry => &["v1", "v1beta1", "v1alpha3"],
            Self::Gateway => &["v1", "v1beta1"],
        }
    }
}

/// Adds an object, unless there is one of that name.
fn declare<T>(
    known: &mut BTreeMap<Key, T>,
    kind: &'static str,
    object: T,
    metadata: impl Fn(&T) -> &Metadata,
) -> Result<(), ObjectError> {
    let Metadata { key, place, .. } = metadata(&object).clone();
    if let Some(other) = known.get(&key) {
        let other = metadata(other).place.clone();
        return Err(ObjectError::Twice {
            place,
            kind,
            key,
            other,
        });
    }
    known.insert(key, object);
    Ok(())
}

fn at(file: &Arc<str>, (line, fault): Problem) -> ObjectError {
    let place = Place {
        file: Arc::clone(file),
        line,
    };
    ObjectError::Field { place, fault }
}

fn place_of(policy: &AuthorizationPolicy) -> Place {
    Place {
        file: policy.file().cloned().unwrap_or_default(),
        line: policy.line(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_line_and_field() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  nodeNames: b\n";
        let error = Objects::default().add("a.yaml", text).unwrap_err();
        assert_eq!(error.to_string(), "a.yaml:5: there is no field `spec.nodeNames`");
    }
}
