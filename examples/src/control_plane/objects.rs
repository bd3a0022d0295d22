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
mod protocol;
mod secret;
mod service;
mod traffic;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{self, Manifests};
use mesh_policy::authz::{AuthorizationPolicy, PeerAuthentication};
use mesh_policy::manifest::{self, Item, Problem, ReadError, ReadFault};

pub(super) use self::entry::{Endpoint, Resolution, ServiceEntry, WorkloadEntry};
pub(super) use self::gateway::{Gateway, GatewayAt};
pub(super) use self::metadata::{Key, Metadata};
pub(super) use self::pod::{DEFAULT_ACCOUNT, Pod};
pub(super) use self::secret::{Bearer, MIN_TOKEN_BYTES, Secret};
pub(super) use self::service::{Service, ServicePort, TargetPort};
use self::traffic::Outcome;
pub(super) use self::traffic::{Meaning, Name, Rejected, Told, Traffic};

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
    pub(super) traffic: Traffic,
    /// How many objects there are of kinds, types and classes that have no part in this.
    pub(super) passed_over: BTreeMap<String, usize>,
}

/// What all workloads of a namespace have in common.
#[derive(Debug)]
pub(super) struct Namespace(pub(super) Metadata);

/// Somebody to be.
#[derive(Debug)]
pub(super) struct ServiceAccount(pub(super) Metadata);

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
        kind: String,
        key: Key,
        other: Place,
    },
}

impl Objects {
    /// Adds the objects of a file.
    pub(super) fn add(&mut self, file: &str, text: &str) -> Result<(), ObjectError> {
        let is_known = |group: &str, kind: &str| Kind::of(group, kind).is_some() || LISTED.contains(&kind);
        let items = manifest::read(file, text, &Budget::new(), is_known)?;
        let file: Arc<str> = file.into();
        for item in items {
            self.add_item(&file, item)?;
        }
        Ok(())
    }

    fn add_item(&mut self, file: &Arc<str>, item: Item) -> Result<(), ObjectError> {
        if let Some(kind) = Kind::of(item.group(), &item.kind) {
            let (_, version) = item.api_version.split_once('/').unwrap_or(("", &item.api_version));
            if !kind.versions().contains(&version) {
                let api_version = item.api_version.as_str().into();
                return Err(at(file, (item.line, ReadFault::Version { api_version })));
            }
            return self.read(kind, file, item);
        }
        let Manifests {
            authorization,
            peer_authentication,
            request_authentication,
            others,
            ..
        } = k8s::read_items(file, [item.clone()])?;
        for policy in authorization {
            self.add_authorization(file, &item, policy)?;
        }
        for object in peer_authentication {
            self.add_peer_authentication(file, object)?;
        }
        for object in request_authentication {
            let outcome = traffic::tell_authentication(file, &item, object);
            self.add_traffic(outcome.map_err(|problem| at(file, problem))?, &item)?;
        }
        for other in others {
            let outcome = traffic::read(file, &other).map_err(|problem| at(file, problem))?;
            self.add_traffic(outcome, &other)?;
        }
        Ok(())
    }

    fn add_authorization(
        &mut self,
        file: &Arc<str>,
        item: &Item,
        policy: AuthorizationPolicy,
    ) -> Result<(), ObjectError> {
        let (name, line) = (policy.name(), policy.line());
        let key = Key::new(line, &name.namespace, &name.name).map_err(|problem| at(file, problem))?;
        let meaning = Meaning::Authorization(policy.clone());
        self.add_traffic(traffic::tell(file, item, key.clone(), meaning), item)?;
        self.authorization.insert(key, policy);
        Ok(())
    }

    fn add_peer_authentication(&mut self, file: &Arc<str>, object: PeerAuthentication) -> Result<(), ObjectError> {
        let (name, line) = (object.name(), object.line());
        let key = Key::new(line, &name.namespace, &name.name).map_err(|problem| at(file, problem))?;
        let place = Place {
            file: Arc::clone(file),
            line,
        };
        if let Some((other, _)) = self.peer_authentication.get(&key) {
            return Err(ObjectError::Twice {
                place,
                kind: "PeerAuthentication".to_owned(),
                key,
                other: other.clone(),
            });
        }
        self.peer_authentication.insert(key, (place, object));
        Ok(())
    }

    /// Adds what waypoints may be told.
    fn add_traffic(&mut self, outcome: Outcome, item: &Item) -> Result<(), ObjectError> {
        let (name, place) = match &outcome {
            Outcome::Told(told) => (&told.name, &told.place),
            Outcome::Rejected(rejected, _) => (&rejected.name, &rejected.place),
            Outcome::Unknown => {
                self.pass_over(item.kind.clone());
                return Ok(());
            }
        };
        if let Some(other) = self.traffic.place(name) {
            return Err(ObjectError::Twice {
                place: place.clone(),
                kind: name.kind.clone(),
                key: name.key.clone(),
                other: other.clone(),
            });
        }
        self.traffic.add(outcome);
        Ok(())
    }

    fn pass_over(&mut self, kind: String) {
        *self.passed_over.entry(kind).or_default() += 1;
    }

    fn read(&mut self, kind: Kind, file: &Arc<str>, item: Item) -> Result<(), ObjectError> {
        let at = |problem| at(file, problem);
        let whole = matches!(kind, Kind::Gateway).then(|| item.clone());
        let mut object = item.object;
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
                Some(gateway) => {
                    if let Some(whole) = &whole {
                        let outcome = traffic::read(file, whole).map_err(at)?;
                        self.add_traffic(outcome, whole)?;
                    }
                    declare(&mut self.gateways, "Gateway", gateway, |found| &found.metadata)
                }
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

/// Kinds that others read, whose lists are taken apart.
const LISTED: [&str; 10] = [
    "AuthorizationPolicy",
    "DestinationRule",
    "GRPCRoute",
    "HTTPRoute",
    "PeerAuthentication",
    "RateLimitPolicy",
    "ReferenceGrant",
    "RequestAuthentication",
    "VirtualService",
    "XBackendTrafficPolicy",
];

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
        let kind = kind.to_owned();
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
