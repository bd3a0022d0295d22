//! What tells waypoints what to do with requests: read by what reads it there, and passed on as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::{AuthorizationPolicy, RequestAuthentication};
use mesh_policy::jwt::{Authenticator, InvalidRule};
use mesh_policy::manifest::{Item, Problem};
use mesh_policy::traffic::k8s::{self, Manifests};
use mesh_policy::traffic::rate::RateLimitPolicy;
use mesh_policy::traffic::upstream::BackendTrafficPolicy;
use mesh_policy::traffic::{DestinationRule, ReferenceGrant, Route, VirtualService};
use serde_json::json;

use super::{Key, Place, metadata};

/// What is told of an object, and what it means. It may have keys in it, so it is not shown.
#[derive(Clone)]
pub(in crate::control_plane) struct Told {
    pub(in crate::control_plane) name: Name,
    pub(in crate::control_plane) place: Place,
    /// The object as JSON.
    pub(in crate::control_plane) text: Arc<str>,
    pub(in crate::control_plane) meaning: Meaning,
    /// What of it cannot be carried out, so that requests fail.
    pub(in crate::control_plane) impaired: Vec<String>,
    /// Why it says nothing good. Waypoints are told nevertheless, to fail the requests that it is
    /// about, and `meaning` says no more than which these are.
    pub(in crate::control_plane) fault: Option<String>,
}

/// The name of an object among all that waypoints are told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control_plane) struct Name {
    pub(in crate::control_plane) kind: String,
    pub(in crate::control_plane) key: Key,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("name", &self.name)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.key.namespace, self.key.name)
    }
}

#[derive(Clone)]
pub(in crate::control_plane) enum Meaning {
    Route(Arc<Route>),
    VirtualService(VirtualService),
    DestinationRule(Arc<DestinationRule>),
    BackendPolicy(Arc<BackendTrafficPolicy>),
    RateLimit(RateLimitPolicy),
    /// What it says is known elsewhere.
    Gateway,
    Grant(ReferenceGrant),
    Authorization(AuthorizationPolicy),
    RequestAuthentication(RequestAuthentication),
}

/// An object that is not taken, and that stays as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control_plane) struct Rejected {
    pub(in crate::control_plane) name: Name,
    pub(in crate::control_plane) place: Place,
    pub(in crate::control_plane) reason: String,
    /// Whether what it said before is in force.
    pub(in crate::control_plane) is_kept: bool,
    /// Whether the requests fail that it is about, as far as waypoints serve them.
    pub(in crate::control_plane) fails: bool,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, place, reason, ..
        } = self;
        let then = match (self.is_kept, self.fails) {
            (true, _) => "what it said before is in force, until a restart of the control plane",
            (false, true) => "the requests that it is about fail",
            (false, false) => "it is not there",
        };
        write!(f, "{place}: {}: {reason}; {then}", name.kind)
    }
}

/// All that waypoints may be told.
#[derive(Clone, Debug, Default)]
pub(in crate::control_plane) struct Traffic {
    pub(in crate::control_plane) told: BTreeMap<Name, Arc<Told>>,
    pub(in crate::control_plane) rejected: Vec<Rejected>,
}

impl Traffic {
    /// Where there is an object of this name, a good one or one that is rejected.
    pub(super) fn place(&self, name: &Name) -> Option<&Place> {
        let told = self.told.get(name).map(|told| &told.place);
        let mut rejected = self.rejected.iter().filter(|rejected| rejected.name == *name);
        told.or_else(|| rejected.next().map(|rejected| &rejected.place))
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let told = match outcome {
            Outcome::Told(told) => Some(told),
            Outcome::Rejected(rejected, told) => {
                self.rejected.push(rejected);
                told
            }
            Outcome::Unknown => None,
        };
        self.told.extend(told.map(|told| (told.name.clone(), told.into())));
    }

    /// Keeps what objects said before that say nothing good now. An API server would not have taken
    /// what they say, and neither do waypoints, which fail requests if there was nothing before.
    pub(in crate::control_plane) fn keep(&mut self, before: &Self) {
        for rejected in &mut self.rejected {
            if let Some(last) = before.told.get(&rejected.name).filter(|last| last.fault.is_none()) {
                self.told.insert(rejected.name.clone(), Arc::clone(last));
                (rejected.is_kept, rejected.fails) = (true, false);
            }
        }
    }
}

/// What becomes of an object.
pub(super) enum Outcome {
    Told(Box<Told>),
    /// What is told of one that is rejected fails the requests that it is about.
    Rejected(Rejected, Option<Box<Told>>),
    /// It is none of those that waypoints know.
    Unknown,
}

impl Outcome {
    fn impaired(mut self, why: Vec<String>) -> Self {
        if let Self::Told(told) = &mut self {
            told.impaired = why;
        }
        self
    }
}

/// Reads an object of the APIs about traffic. One without a name is a problem of the whole file:
/// nobody could say which object it is that stays as it was.
pub(super) fn read(file: &Arc<str>, item: &Item) -> Result<Outcome, Problem> {
    let mut manifests = k8s::read_items(file, [item.clone()], &Budget::new());
    let rejected = manifests.rejected.pop();
    if let Some(rejected) = &rejected {
        manifests.stand_in(rejected);
    }
    let Manifests {
        routes,
        gateways,
        grants,
        virtual_services,
        destination_rules,
        backend_policies,
        rate_limits,
        impaired,
        ..
    } = manifests;
    let mut meanings = (routes.into_iter().map(Meaning::Route))
        .chain(gateways.into_iter().map(|_| Meaning::Gateway))
        .chain(grants.into_iter().map(Meaning::Grant))
        .chain(virtual_services.into_iter().map(Meaning::VirtualService))
        .chain(backend_policies.into_iter().map(Meaning::BackendPolicy))
        .chain(rate_limits.into_iter().map(Meaning::RateLimit))
        .chain(destination_rules.into_iter().map(Meaning::DestinationRule));
    Ok(match (rejected, meanings.next()) {
        (Some(rejected), meaning) => {
            let reason = (rejected.error.line, rejected.error.fault.to_string());
            reject(file, item, key(item)?, reason, meaning)
        }
        (None, Some(meaning)) => {
            let impaired = impaired.into_iter().map(|rule| rule.error.to_string());
            tell(file, item, key(item)?, meaning).impaired(impaired.collect())
        }
        (None, None) => Outcome::Unknown,
    })
}

/// What is told of an object that means this.
pub(super) fn tell(file: &Arc<str>, item: &Item, key: Key, meaning: Meaning) -> Outcome {
    let mut whole = item.clone();
    // Nobody is told anew of what a controller has noted.
    whole.object.pass_over(&["status"]);
    let kind = whole.kind.clone();
    Outcome::Told(Box::new(Told {
        // Texts in mappings and lists: there is nothing that JSON does not have.
        text: json!(whole).to_string().into(),
        name: Name { kind, key },
        place: place(file, item.line),
        meaning,
        impaired: Vec::new(),
        fault: None,
    }))
}

/// What is told of an object that says whose tokens are believed.
pub(super) fn tell_authentication(
    file: &Arc<str>,
    item: &Item,
    object: RequestAuthentication,
) -> Result<Outcome, Problem> {
    let key = key(item)?;
    Ok(match Authenticator::new([&object]) {
        Ok(_) => tell(file, item, key, Meaning::RequestAuthentication(object)),
        Err(InvalidRule { line, field, fault, .. }) => {
            let reason = format!("`{field}`: {fault}");
            let meaning = Meaning::RequestAuthentication(object);
            reject(file, item, key, (line, reason), Some(meaning))
        }
    })
}

/// An object that says nothing good, and whose requests it is about if that is known.
fn reject(file: &Arc<str>, item: &Item, key: Key, (line, reason): (u32, String), meaning: Option<Meaning>) -> Outcome {
    let told = meaning.and_then(|meaning| {
        let Outcome::Told(mut told) = tell(file, item, key.clone(), meaning) else {
            return None;
        };
        told.fault = Some(reason.clone());
        Some(told)
    });
    let rejected = Rejected {
        name: Name {
            kind: item.kind.clone(),
            key,
        },
        place: place(file, line),
        reason,
        is_kept: false,
        fails: told.is_some(),
    };
    Outcome::Rejected(rejected, told)
}

fn key(item: &Item) -> Result<Key, Problem> {
    metadata::key(&mut item.object.clone().required_object("metadata")?)
}

fn place(file: &Arc<str>, line: u32) -> Place {
    let file = Arc::clone(file);
    Place { file, line }
}
