//! Objects of Kubernetes to the resources that a node asks for, by the rules of Istio's control
//! plane.

mod backends;
mod callers;
mod enrolment;
mod labels;
mod octets;
mod policies;
mod programs;
mod services;
mod status;
mod waypoints;
mod workloads;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use clap::ValueEnum;
use mesh_identity::TrustDomain;
use mesh_policy::authz::{CompileError, Diagnostic, Invalid};
use mesh_xds_types::security::Authorization;
use mesh_xds_types::workload::{Service, Workload};

use self::backends::Backends;
pub(super) use self::callers::Caller;
use self::labels::Labelled;
pub(super) use self::octets::address;
use self::policies::Policies;
use self::programs::Library;
pub(super) use self::programs::Program;
use self::status::Judge;
pub(super) use self::status::{Condition, Status};
use self::waypoints::Waypoints;
use super::objects::{Bearer, Key, Objects, Place, Rejected, Traffic};

/// What objects do not say.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The name of the cluster.
    pub(super) cluster: String,
    pub(super) trust_domain: TrustDomain,
    /// The namespace whose policies are about the whole mesh.
    pub(super) root_namespace: String,
    /// The service account that speaks for the workloads of its node.
    pub(super) node_account: Key,
    pub(super) unusable_waypoint: UnusableWaypoint,
}

impl Settings {
    /// Istio's, for a trust domain.
    pub(super) fn of_mesh(trust_domain: TrustDomain) -> Self {
        let node_account = Key {
            namespace: "istio-system".to_owned(),
            name: "ztunnel".to_owned(),
        };
        Self {
            cluster: "Kubernetes".to_owned(),
            trust_domain,
            root_namespace: node_account.namespace.clone(),
            node_account,
            unusable_waypoint: UnusableWaypoint::Refuse,
        }
    }
}

/// What becomes of traffic that has to pass a waypoint which nobody can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum UnusableWaypoint {
    /// It is refused: what the waypoint would have checked goes around it by no mistake.
    Refuse,
    /// It goes on without one, as Istio has it.
    Bypass,
}

/// What a directory comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Mesh {
    /// By their UIDs.
    pub(super) workloads: BTreeMap<String, Workload>,
    /// By namespace and hostname.
    pub(super) services: BTreeMap<String, Service>,
    /// By namespace and name.
    pub(super) policies: BTreeMap<String, Authorization>,
    /// What each waypoint is told.
    pub(super) programs: BTreeMap<Key, Program>,
    /// What there is to tell waypoints.
    pub(super) traffic: Traffic,
    /// What became of that.
    pub(super) statuses: Vec<Status>,
    /// Who calls, by the token that they bring. By a secret hash, so that the time of a look-up
    /// says nothing about the tokens.
    pub(super) callers: HashMap<Bearer, Caller>,
    /// What is likely not to be as its author thinks.
    pub(super) notices: Vec<Notice>,
    /// How many objects there are of kinds that have no part in this.
    pub(super) passed_over: BTreeMap<String, usize>,
}

/// Why objects make no mesh.
#[derive(Debug, thiserror::Error)]
pub(super) enum MeshError {
    #[error(transparent)]
    Invalid(Box<Invalid>),
    #[error(transparent)]
    Policies(Box<CompileError>),
    #[error("{place}: `spec.serviceAccountName`: there is no ServiceAccount `{account}`")]
    NoAccount { place: Place, account: Key },
    #[error("{place}: `stringData.token` is the token of Secret `{other}`, too")]
    SharedToken { place: Place, other: Key },
}

/// Something that has no effect, or another one than it seems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// A waypoint is named that nobody can use.
    Waypoint {
        place: Place,
        waypoint: Key,
        then: UnusableWaypoint,
        reason: &'static str,
    },
    /// A canary is named that gets nothing.
    Canary {
        place: Place,
        canary: Key,
        reason: &'static str,
    },
    /// A label that is known and has no effect here.
    Label { place: Place, label: &'static str },
    /// A token that nobody is let in with.
    Token { place: Place, reason: &'static str },
    /// A policy that names what it is for, and no waypoint carries out.
    Idle { place: Place },
    /// Something about a policy.
    Policy(Box<Diagnostic>),
    /// What waypoints would be told is wrong.
    Rejected(Box<Rejected>),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waypoint {
                place,
                waypoint,
                then,
                reason,
            } => {
                let then = match then {
                    UnusableWaypoint::Refuse => "what has to pass it is refused",
                    UnusableWaypoint::Bypass => "it is bypassed",
                };
                write!(f, "{place}: waypoint `{waypoint}` cannot be used, and {then}: {reason}")
            }
            Self::Canary { place, canary, reason } => {
                write!(f, "{place}: waypoint `{canary}` gets no share: {reason}")
            }
            Self::Label { place, label } => write!(f, "{place}: label `{label}` has no effect here"),
            Self::Token { place, reason } => write!(f, "{place}: the token lets nobody in: {reason}"),
            Self::Idle { place } => write!(
                f,
                "{place}: no waypoint serves what the policy names, so nobody carries it out"
            ),
            Self::Policy(diagnostic) => diagnostic.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
        }
    }
}

/// Compiles all objects of a directory.
pub(super) fn compile(objects: &Objects, settings: &Settings) -> Result<Mesh, MeshError> {
    let mut notices = Vec::new();
    let policies = Policies::compile(objects, settings, &mut notices)?;
    let waypoints = Waypoints::new(objects, settings);
    let backends = Backends::new(objects);
    let (services, served) = services::compile(objects, &waypoints, &mut notices);
    let context = workloads::Context {
        objects,
        settings,
        waypoints: &waypoints,
        backends: &backends,
        policies: &policies,
    };
    let workloads = context.compile(&mut notices)?;
    let labelled = Labelled::new(objects, &services, &workloads, &settings.cluster);
    let judge = Judge::new(objects);
    let library = Library::new(objects, &judge, &services, &labelled, &settings.root_namespace);
    let programs = library.programs(objects.gateways.keys(), &served);
    let statuses = judge.statuses(&programs);
    notices.extend(statuses.iter().filter(|status| status.is_idle_policy()).map(|status| {
        let place = status.place.clone();
        Notice::Idle { place }
    }));
    let mut mesh = Mesh {
        statuses,
        traffic: objects.traffic.clone(),
        workloads,
        services,
        programs,
        callers: callers::compile(objects, settings, &mut notices)?,
        passed_over: objects.passed_over.clone(),
        ..Mesh::default()
    };
    mesh.policies = policies.into_messages();
    let rejected = objects.traffic.rejected.iter().cloned();
    notices.extend(rejected.map(|rejected| Notice::Rejected(Box::new(rejected))));
    mesh.notices = notices;
    Ok(mesh)
}

/// The name of a Kubernetes Service in DNS.
fn hostname(service: &Key) -> String {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace)
}
