//! Labels of workloads that the mesh itself tells, in another form.

/// What is told of a workload in place of some of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Substitute {
    CanonicalName,
    CanonicalRevision,
    Region,
    Zone,
    Subzone,
    Network,
    Cluster,
    Node,
}

impl Substitute {
    /// What is told in place of a label, if anything is. It need not say the same: a canonical name
    /// is that of one of three labels.
    pub(crate) fn of(label: &str) -> Option<Self> {
        Some(match label {
            "app" | "app.kubernetes.io/name" | "service.istio.io/canonical-name" => Self::CanonicalName,
            "version" | "app.kubernetes.io/version" | "service.istio.io/canonical-revision" => Self::CanonicalRevision,
            "topology.kubernetes.io/region" => Self::Region,
            "topology.kubernetes.io/zone" => Self::Zone,
            "topology.istio.io/subzone" => Self::Subzone,
            "topology.istio.io/network" => Self::Network,
            "topology.istio.io/cluster" => Self::Cluster,
            "kubernetes.io/hostname" => Self::Node,
            _ => return None,
        })
    }
}
