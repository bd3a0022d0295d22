use mesh_xds_types::security;

use crate::authz::model::AuthorizationPolicy;

/// A policy that was read, and where it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The policy.
    pub policy: AuthorizationPolicy,
    /// Where it counts.
    pub scope: Scope,
}

/// Where a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// For all workloads of the mesh.
    Mesh,
    /// For those of the policy's namespace.
    Namespace,
    /// For those that name it among their policies; what they were selected by is not sent.
    Workloads,
}

impl From<Scope> for security::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Mesh => Self::Global,
            Scope::Namespace => Self::Namespace,
            Scope::Workloads => Self::WorkloadSelector,
        }
    }
}
