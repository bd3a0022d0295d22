//! Whom the server's node admits: policies as Kubernetes has them, and a change of them.

use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{self, ReadError};
use mesh_policy::authz::{CompileError, Compiler, Dialect, PolicySet};
use tokio::sync::watch;

/// The client is on the list, and nobody else.
const LIST: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: demo}
spec:
  action: ALLOW
  rules:
  - from:
    - source: {serviceAccounts: [demo/client]}
";

/// Nobody may use the service for now.
const MAINTENANCE: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: maintenance, namespace: demo}
spec:
  action: DENY
  rules:
  - {}
";

/// The policies in force.
pub(super) struct Policies(watch::Sender<Arc<PolicySet>>);

impl Policies {
    pub(super) fn new() -> Result<Self, PoliciesError> {
        let manifests = k8s::read("list.yaml", LIST, &Budget::new())?;
        let set = Compiler::new(Dialect::Strict).compile(manifests.authorization)?;
        Ok(Self(watch::Sender::new(Arc::new(set))))
    }

    pub(super) fn follow(&self) -> watch::Receiver<Arc<PolicySet>> {
        self.0.subscribe()
    }

    /// Adds the policy that lets nobody in.
    pub(super) fn close(&self) -> Result<(), PoliciesError> {
        let manifests = k8s::read("maintenance.yaml", MAINTENANCE, &Budget::new())?;
        let closed = self.0.borrow().with(manifests.authorization)?;
        self.0.send_replace(Arc::new(closed));
        Ok(())
    }

    /// Takes it away again.
    pub(super) fn open(&self) -> Result<(), PoliciesError> {
        let added = k8s::read("maintenance.yaml", MAINTENANCE, &Budget::new())?.authorization;
        let names: Vec<_> = added.iter().map(|policy| policy.name().clone()).collect();
        let opened = self.0.borrow().without(&names)?;
        self.0.send_replace(Arc::new(opened));
        Ok(())
    }
}

/// Why there are no policies.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoliciesError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Compile(#[from] CompileError),
}
