//! Policies, and which workloads they are attached to.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mesh_policy::Budget;
use mesh_policy::authz::attach::Recipient;
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, Labels, PeerAuthentication, Target, xds};
use mesh_xds_types::security::{Authorization, Scope};

use super::super::objects::Objects;
use super::{MeshError, Notice, Settings};

/// What Istio calls the policy for those PeerAuthentications that all say the same: no connection
/// without a certificate. Names of objects have no underscores.
const STRICT: &str = "istio_converted_static_strict";

/// What Istio calls the others, with the name of the object.
const CONVERTED: &str = "converted_peer_authentication_";

/// The policies of a mesh.
pub(super) struct Policies {
    root_namespace: String,
    messages: BTreeMap<String, Authorization>,
    /// Those that select workloads, by namespace, with the names that they are attached by.
    selecting: BTreeMap<String, Vec<(String, AuthorizationPolicy)>>,
    peer_authentication: Vec<PeerAuthentication>,
    /// What PeerAuthentications come to for the workloads so far.
    converted: RefCell<BTreeMap<String, Authorization>>,
}

impl Policies {
    /// Checks all policies as Istio's webhook does, and says what of them nodes will not know.
    pub(super) fn compile(
        objects: &Objects,
        settings: &Settings,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, MeshError> {
        let root_namespace = settings.root_namespace.clone();
        let mut messages = BTreeMap::new();
        let mut selecting: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, policy) in &objects.authorization {
            if let Some(invalid) = policy.validate(&Budget::new()).into_iter().next() {
                return Err(MeshError::Invalid(Box::new(invalid)));
            }
            let Some(message) = xds::write(policy, &root_namespace) else {
                continue;
            };
            if message.scope() == Scope::WorkloadSelector {
                let of_namespace = selecting.entry(key.namespace.clone()).or_default();
                of_namespace.push((key.to_string(), policy.clone()));
            }
            messages.insert(key.to_string(), message);
        }
        // What waypoints carry out is nothing that a node leaves undone.
        let of_nodes = objects
            .authorization
            .values()
            .filter(|policy| !matches!(policy.target(), Target::Refs(_)));
        let set = Compiler::new(Dialect::Ztunnel)
            .compile(of_nodes.cloned())
            .map_err(|error| MeshError::Policies(Box::new(error)))?;
        let diagnostics = set.diagnostics().cloned();
        notices.extend(diagnostics.map(|diagnostic| Notice::Policy(Box::new(diagnostic))));
        Ok(Self {
            root_namespace,
            messages,
            selecting,
            peer_authentication: objects
                .peer_authentication
                .values()
                .map(|(_, object)| object.clone())
                .collect(),
            converted: RefCell::default(),
        })
    }

    /// The names of the policies that are attached to a workload.
    pub(super) fn of(&self, namespace: &str, labels: &Labels) -> Vec<String> {
        let recipient = Recipient::Workload { namespace, labels };
        let root = Some(&*self.root_namespace).filter(|root| *root != namespace);
        let selecting = [Some(namespace), root].into_iter().flatten();
        let mut names: Vec<String> = selecting
            .flat_map(|namespace| self.selecting.get(namespace).into_iter().flatten())
            .filter(|(_, policy)| recipient.is_subject_to(policy, &self.root_namespace))
            .map(|(name, _)| name.clone())
            .collect();
        names.extend(self.peer_authentication_of(namespace, labels));
        names.sort();
        names
    }

    /// All messages, by their names.
    pub(super) fn into_messages(self) -> BTreeMap<String, Authorization> {
        let mut messages = self.messages;
        messages.append(&mut self.converted.into_inner());
        messages
    }

    /// The name of the policy that stands for what PeerAuthentications demand of a workload.
    fn peer_authentication_of(&self, namespace: &str, labels: &Labels) -> Option<String> {
        let objects = &self.peer_authentication;
        let policy = PeerAuthentication::to_policy(objects, namespace, labels, &self.root_namespace)?;
        let mut message = xds::write(&policy, &self.root_namespace)?;
        message.scope = Scope::WorkloadSelector.into();
        // Without exceptions for ports it is the same for everybody.
        let is_static = policy.rules().iter().all(|rule| rule.operations().is_empty());
        (message.namespace, message.name) = match is_static {
            true => (self.root_namespace.clone(), STRICT.to_owned()),
            // Exceptions come from the objects that select the workload; in one namespace the rest
            // is the same for all.
            false => {
                let mut names: Vec<&str> = objects
                    .iter()
                    .filter(|object| object.selects(namespace, labels))
                    .map(|object| &*object.name().name)
                    .collect();
                names.sort_unstable();
                (namespace.to_owned(), format!("{CONVERTED}{}", names.join("_")))
            }
        };
        let name = format!("{}/{}", message.namespace, message.name);
        self.converted.borrow_mut().insert(name.clone(), message);
        Some(name)
    }
}
