//! The state of a mesh: what a control plane has told, indexed for those who route and decide.
//!
//! A [`Store`] takes changes; a [`Snapshot`] is the state at one moment. Snapshots cost next to
//! nothing to take and never change, so a reader sees one mesh from the beginning of a decision to
//! its end, and never waits.

pub(crate) mod blocks;
pub(crate) mod convert;
mod groups;
pub(crate) mod map;
mod members;
mod model;
mod names;
mod occupants;
mod parts;
mod policies;
mod snapshot;

pub use convert::{FieldFault, ResourceError};
pub(crate) use members::Found;
pub use members::{Endpoint, Endpoints};
pub use model::{
    Addresses, ApplicationTunnel, Balancing, Families, Gateway, GatewayDestination, Identity, Locality, Membership,
    Mode, NetworkAddress, Policy, PolicyScope, PortMapping, Protocol, Scope, Service, Workload, WorkloadType,
};
pub use snapshot::{Resource, Snapshot};

use std::sync::Arc;

use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, security, workload as wire};
use prost::Message;

use crate::delta::{Push, Refusal};
use convert::Interner;
use names::{Key, Names};

/// Takes changes of a mesh, and hands out [`Snapshot`]s.
///
/// The size of the mesh is bounded by whoever brings the changes, as
/// [`ClientConfig::max_resources`](crate::delta::ClientConfig::max_resources) does.
#[derive(Debug)]
pub struct Store {
    snapshot: Snapshot,
    names: Names,
    texts: Interner,
}

impl Store {
    /// A mesh with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            snapshot: Snapshot::new(),
            names: Names::default(),
            texts: Interner::default(),
        }
    }

    /// The mesh as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Applies a response of the discovery protocol: workloads and services, or policies. The answer
    /// names what cannot be taken, for [`Client::settle`](crate::delta::Client::settle); of those
    /// resources the earlier version stays in force. Resources of other types are all refused.
    ///
    /// Of a policy that is refused when it is first seen there is nothing to stay in force, and what
    /// it was to deny must not pass: [`Snapshot::policies_of`] has an error for the workloads that it
    /// may be for. It is forgotten when it is replaced or removed, or when a stream after a
    /// [`disconnect`](Self::disconnected) has brought all policies and not this one.
    pub fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for resource in push.resources() {
            let body = resource.resource.as_ref().map_or(&[][..], |body| &body.value);
            let result = match push.type_url() {
                ADDRESS_TYPE_URL => self.decode_address(&resource.name, body),
                AUTHORIZATION_TYPE_URL => self.decode_policy(&resource.name, body),
                _ => Err(ResourceError::new(
                    "type_url",
                    FieldFault::Unsupported("of another kind"),
                )),
            };
            if let Err(error) = result {
                if push.type_url() == AUTHORIZATION_TYPE_URL {
                    self.snapshot
                        .policies
                        .refuse(&resource.name, scope_of(&resource.name, body));
                }
                refusals.push(Refusal {
                    name: resource.name.clone(),
                    reason: error.to_string(),
                });
            }
        }
        for name in push.removed() {
            match push.type_url() {
                ADDRESS_TYPE_URL => self.remove_address(name),
                AUTHORIZATION_TYPE_URL => self.remove_policy(name),
                _ => {}
            }
        }
        if push.type_url() == AUTHORIZATION_TYPE_URL {
            for name in push.unfit() {
                self.snapshot.policies.refuse(name, None);
            }
            if !push.is_part() {
                self.snapshot.policies.forget_doubted();
            }
        }
        refusals
    }

    /// Whoever tells of the mesh is lost. Everything stays as it is; but what was refused may be gone
    /// by the time of the next stream, and nobody would say so.
    pub fn disconnected(&mut self) {
        self.snapshot.policies.doubt_refused();
    }

    /// Adds or replaces a workload that is known under its uid.
    ///
    /// # Errors
    ///
    /// A field that cannot be taken; then nothing changes.
    pub fn insert_workload(&mut self, workload: &wire::Workload) -> Result<(), ResourceError> {
        self.insert_named_workload(&workload.uid, workload)
    }

    /// Adds or replaces a service that is known under its key, `namespace/hostname`.
    ///
    /// # Errors
    ///
    /// A field that cannot be taken; then nothing changes.
    pub fn insert_service(&mut self, service: &wire::Service) -> Result<(), ResourceError> {
        self.insert_named_service(&format!("{}/{}", service.namespace, service.hostname), service)
    }

    /// Adds or replaces a policy that is known under its key, `namespace/name`.
    ///
    /// # Errors
    ///
    /// A field that cannot be taken; then nothing changes.
    pub fn insert_policy(&mut self, policy: security::Authorization) -> Result<(), ResourceError> {
        let key = format!("{}/{}", policy.namespace, policy.name);
        self.insert_named_policy(&key, policy)
    }

    /// Forgets that a workload or service is known under a name, and forgets it when that was the
    /// last one: its uid, its `namespace/hostname`, or `network/IP` if it was sent under that.
    pub fn remove_address(&mut self, name: &str) {
        let keys = if self.names.is_alias(name) {
            [self.names.release_alias(name), None]
        } else {
            [Key::Workload(name.into()), Key::Service(name.into())].map(|key| self.names.release_key(key))
        };
        for key in keys.into_iter().flatten() {
            self.forget(&key);
        }
    }

    /// Removes a policy by its key.
    pub fn remove_policy(&mut self, key: &str) {
        self.snapshot.policies.remove(key);
    }

    fn decode_address(&mut self, name: &str, body: &[u8]) -> Result<(), ResourceError> {
        let address =
            wire::Address::decode(body).map_err(|_| ResourceError::new("resource", FieldFault::Undecodable))?;
        match address.r#type {
            Some(wire::address::Type::Workload(workload)) => self.insert_named_workload(name, &workload),
            Some(wire::address::Type::Service(service)) => self.insert_named_service(name, &service),
            None => Err(ResourceError::new("type", FieldFault::Missing)),
        }
    }

    fn decode_policy(&mut self, name: &str, body: &[u8]) -> Result<(), ResourceError> {
        let policy = security::Authorization::decode(body)
            .map_err(|_| ResourceError::new("resource", FieldFault::Undecodable))?;
        self.insert_named_policy(name, policy)
    }

    fn insert_named_workload(&mut self, name: &str, wire: &wire::Workload) -> Result<(), ResourceError> {
        let workload = Arc::new(convert::workload(wire, &mut self.texts)?);
        let key = Key::Workload(Arc::clone(&workload.uid));
        let is_known = self.snapshot.workload(&workload.uid).is_some();
        self.snapshot.insert_workload(workload)?;
        // A name means one resource, so what it meant before is gone.
        if *wire.uid == *name {
            self.names.hold_key(&key);
            self.snapshot.remove_service(name);
        } else if let Some(before) = self.names.hold(name, key, is_known) {
            self.forget(&before);
        }
        Ok(())
    }

    fn insert_named_service(&mut self, name: &str, wire: &wire::Service) -> Result<(), ResourceError> {
        let service = Arc::new(convert::service(wire, &mut self.texts)?);
        let own = Arc::clone(&service.key);
        let key = Key::Service(Arc::clone(&own));
        let is_known = self.snapshot.service(&own).is_some();
        self.snapshot.insert_service(&service)?;
        if *own == *name {
            self.names.hold_key(&key);
            self.snapshot.remove_workload(name);
        } else if let Some(before) = self.names.hold(name, key, is_known) {
            self.forget(&before);
        }
        Ok(())
    }

    fn insert_named_policy(&mut self, name: &str, wire: security::Authorization) -> Result<(), ResourceError> {
        let policy = convert::policy(wire, &mut self.texts)?;
        // Policies are removed by name, so a name has to tell which one it is.
        if *policy.key != *name {
            return Err(ResourceError::new("name", FieldFault::Key(name.to_owned())));
        }
        self.snapshot.policies.insert(Arc::new(policy));
        Ok(())
    }

    fn forget(&mut self, key: &Key) {
        match key {
            Key::Workload(uid) => self.snapshot.remove_workload(uid),
            Key::Service(key) => self.snapshot.remove_service(key),
        }
    }
}

/// For whom a policy is that is not understood otherwise.
fn scope_of(name: &str, body: &[u8]) -> Option<PolicyScope> {
    let wire = security::Authorization::decode(body).ok()?;
    let is_called_so = name.split_once('/') == Some((&wire.namespace, &wire.name));
    convert::policy_scope(&wire).ok().filter(|_| is_called_so)
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}
