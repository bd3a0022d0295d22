//! Who lives on this node, and who may reach them, as the mesh changes.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use mesh_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use mesh_policy::authz::xds::{self, ReadError};
use mesh_policy::authz::{CompileError, Compiler, Dialect, PolicySet, TrustDomains};
use mesh_xds::delta::{Push, Refusal};
use mesh_xds::store::{Policy, Snapshot, Workload};
use tokio::sync::watch;

use super::mesh::{Mesh, Protection, Resident};
use crate::proxy::view::View;

/// Keeps the node's view of a mesh. What did not change stays the same value, so that connections
/// are looked at again only where their own workload's policies changed.
pub(super) struct Residents {
    node: String,
    network: Arc<str>,
    trust_domain: TrustDomain,
    /// Of the policies that were compiled last; permits carry it.
    version: u64,
    known: HashMap<Arc<str>, Known>,
    /// Whoever is somebody else now: their connections hear of it once the mesh is without them.
    leaving: Vec<Known>,
    publish: watch::Sender<Arc<Mesh>>,
}

struct Known {
    resident: Arc<Resident>,
    policies: Result<Vec<Arc<Policy>>, Missing>,
    protect: watch::Sender<Protection>,
}

impl Residents {
    pub(super) fn new(node: &str, network: &str, trust_domain: TrustDomain) -> (Self, watch::Receiver<Arc<Mesh>>) {
        let network = Arc::from(network);
        let (publish, mesh) = watch::channel(Arc::new(Mesh {
            snapshot: mesh_xds::store::Store::new().snapshot(),
            network: Arc::clone(&network),
            residents: HashMap::new(),
        }));
        let residents = Self {
            node: node.to_owned(),
            network,
            trust_domain,
            version: 0,
            known: HashMap::new(),
            leaving: Vec::new(),
            publish,
        };
        (residents, mesh)
    }

    fn known(&mut self, snapshot: &Snapshot, workload: &Arc<Workload>, before: Option<Known>) -> Result<Known, Unfit> {
        let policies: Result<Vec<_>, _> = snapshot
            .policies_of(workload)
            .map(|policy| policy.cloned().map_err(|key| Missing(Arc::clone(key))))
            .collect();
        let (id, protect) = match before {
            Some(known) if is_same(&known.resident.workload, workload) => {
                if known.policies != policies {
                    known.protect.send_replace(self.protection(&policies));
                }
                (known.resident.id.clone(), known.protect)
            }
            other => {
                self.leaving.extend(other);
                let id: SpiffeId = workload.identity.spiffe_id().parse()?;
                if *id.trust_domain() != self.trust_domain {
                    return Err(Unfit::TrustDomain(id.trust_domain().clone()));
                }
                (id, watch::Sender::new(self.protection(&policies)))
            }
        };
        let resident = Resident {
            workload: Arc::clone(workload),
            id,
            protection: protect.subscribe(),
        };
        Ok(Known {
            resident: Arc::new(resident),
            policies,
            protect,
        })
    }

    fn protection(&mut self, policies: &Result<Vec<Arc<Policy>>, Missing>) -> Protection {
        let policies = match policies {
            Ok(policies) => policies,
            Err(missing) => return Protection::Closed(missing.to_string().into()),
        };
        self.version += 1;
        let compiler = Compiler::new(Dialect::Ztunnel)
            .trust_domains(TrustDomains::new(self.trust_domain.as_str()))
            .version(self.version);
        match compile(compiler, policies) {
            Ok(set) => Protection::Policies(Arc::new(set)),
            Err(reason) => {
                tracing::warn!(%reason, "policies cannot be enforced");
                Protection::Closed(reason.to_string().into())
            }
        }
    }
}

impl View for Residents {
    fn update(&mut self, snapshot: Snapshot) {
        let mut here = Vec::new();
        snapshot.visit_workloads(|workload| {
            if *workload.node == *self.node {
                here.push(Arc::clone(workload));
            }
            ControlFlow::<()>::Continue(())
        });
        let mut before = std::mem::take(&mut self.known);
        for workload in here {
            let known = self.known(&snapshot, &workload, before.remove(&workload.uid));
            match known {
                Ok(known) => drop(self.known.insert(Arc::clone(&workload.uid), known)),
                Err(reason) => tracing::warn!(workload = %workload.uid, %reason, "workload not served"),
            }
        }
        let residents = self.known.iter();
        let mesh = Mesh {
            residents: residents
                .map(|(uid, known)| (Arc::clone(uid), Arc::clone(&known.resident)))
                .collect(),
            network: Arc::clone(&self.network),
            snapshot,
        };
        self.publish.send_replace(Arc::new(mesh));
        self.leaving.clear();
    }

    /// Nothing else is asked for.
    fn take(&mut self, _: &Push) -> Vec<Refusal> {
        Vec::new()
    }

    fn is_wanted(&self) -> bool {
        !self.publish.is_closed()
    }
}

/// Whether connections to a workload may stay, as far as it is the same one.
fn is_same(before: &Workload, now: &Workload) -> bool {
    before.identity == now.identity && before.addresses == now.addresses && before.network == now.network
}

fn compile(compiler: Compiler, policies: &[Arc<Policy>]) -> Result<PolicySet, Unenforceable> {
    let mut read = Vec::new();
    for policy in policies {
        let received = xds::read(policy.wire.as_ref().clone()).map_err(|error| Unenforceable::Read {
            policy: Arc::clone(&policy.key),
            error,
        })?;
        read.push(received.policy);
    }
    Ok(compiler.compile(read)?)
}

/// Why a workload cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
    #[error("it is of trust domain `{0}`")]
    TrustDomain(TrustDomain),
}

/// A policy that a workload names and nobody has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy `{0}` is not known")]
struct Missing(Arc<str>);

/// Why policies cannot be enforced.
#[derive(Debug, thiserror::Error)]
enum Unenforceable {
    #[error("policy `{policy}`: {error}")]
    Read {
        policy: Arc<str>,
        #[source]
        error: ReadError,
    },
    #[error(transparent)]
    Compile(#[from] CompileError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH: &str = "
workloads:
- {uid: a, namespace: shop, serviceAccount: a, workloadIps: [10.0.0.1], node: here, protocol: HBONE}
- {uid: b, namespace: shop, serviceAccount: b, workloadIps: [10.0.0.2], node: there, protocol: HBONE}
- {uid: c, namespace: bank, serviceAccount: c, workloadIps: [10.0.0.3], node: here, protocol: HBONE}
policies:
- {name: p, namespace: shop, scope: Namespace, action: Deny, dryRun: false, rules: []}
";

    fn read(text: &str) -> Snapshot {
        mesh_xds::local::read("mesh.yaml", text).unwrap().snapshot()
    }

    fn here() -> (Residents, watch::Receiver<Arc<Mesh>>) {
        Residents::new("here", "", "cluster.local".parse().unwrap())
    }

    #[test]
    fn only_the_workloads_of_the_node_live_here() {
        let (mut residents, mesh) = here();
        residents.update(read(MESH));
        let mesh = mesh.borrow();
        assert!(mesh.resident("a").is_some() && mesh.resident("c").is_some());
        assert!(mesh.resident_at([10, 0, 0, 2].into()).is_none());
        assert!(mesh.workload_at([10, 0, 0, 2].into()).is_some());
        assert_eq!(
            mesh.resident_at([10, 0, 0, 1].into()).unwrap().id.path(),
            "/ns/shop/sa/a"
        );
    }

    #[test]
    fn only_those_whose_policies_changed_are_told() {
        let (mut residents, mesh) = here();
        residents.update(read(MESH));
        let (mut a, mut c) = {
            let mesh = mesh.borrow();
            let protection = |uid| mesh.resident(uid).unwrap().protection.clone();
            (protection("a"), protection("c"))
        };
        a.mark_unchanged();
        c.mark_unchanged();
        residents.update(read(&MESH.replace("namespace: bank", "name: other, namespace: bank")));
        assert!(!a.has_changed().unwrap() && !c.has_changed().unwrap());
        residents.update(read(
            &MESH.replace("rules: []", "rules: [[[{namespaces: [Presence]}]]]"),
        ));
        assert!(a.has_changed().unwrap() && !c.has_changed().unwrap());
    }

    #[test]
    fn whoever_leaves_or_is_somebody_else_is_gone() {
        for (from, to) in [
            ("node: here", "node: there"),
            ("serviceAccount: a", "serviceAccount: z"),
        ] {
            let (mut residents, mesh) = here();
            residents.update(read(MESH));
            let protection = mesh.borrow().resident("a").unwrap().protection.clone();
            residents.update(read(&MESH.replace(from, to)));
            assert!(protection.has_changed().is_err(), "{to}");
        }
    }

    #[test]
    fn connections_are_for_whom_they_were_made_to_where_it_was() {
        let at = [10, 0, 0, 1].into();
        for (from, to, is_still) in [
            ("namespace: bank", "name: other, namespace: bank", true),
            ("rules: []", "rules: [[[{namespaces: [Presence]}]]]", true),
            ("uid: a,", "uid: a, services: {shop/s: {80: 80}},", true),
            ("10.0.0.1", "10.0.0.4", false),
            ("10.0.0.1", "10.0.0.1, 10.0.0.4", false),
            ("serviceAccount: a", "serviceAccount: z", false),
            ("node: here", "node: there", false),
        ] {
            let (mut residents, mesh) = here();
            residents.update(read(MESH));
            let before = Arc::clone(mesh.borrow().resident_at(at).unwrap());
            residents.update(read(&MESH.replacen(from, to, 1)));
            assert_eq!(mesh.borrow().still(&before, at).is_some(), is_still, "{to}");
        }
    }

    #[test]
    fn a_missing_policy_lets_nobody_in() {
        let (mut residents, mesh) = here();
        residents.update(read(
            &MESH.replace("uid: a,", "uid: a, authorizationPolicies: [shop/q],"),
        ));
        let protection = mesh.borrow().resident("a").unwrap().protection.borrow().clone();
        assert!(matches!(protection, Protection::Closed(reason) if &*reason == "policy `shop/q` is not known"));
    }
}
