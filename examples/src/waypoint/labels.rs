//! What workloads are labelled with.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_policy::authz::Labels;
use mesh_xds::store::Workload;

use crate::labels::Substitute;

/// Labels of workloads, as objects have them: the mesh tells what it makes of some, and nothing of
/// others.
///
/// By kind, namespace and name, which uids of Istio's form end with: `CLUSTER/GROUP/KIND/NAMESPACE/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WorkloadLabels(Arc<HashMap<Arc<str>, Arc<Labels>>>);

impl WorkloadLabels {
    /// What a workload's label says. What is written about it counts before what the mesh is told; an
    /// empty value is none.
    pub(super) fn get<'a>(&'a self, workload: &'a Workload, name: &str) -> Option<&'a str> {
        let written = self.of(&workload.uid).and_then(|labels| labels.get(name));
        let value = match written {
            Some(value) => value,
            None => told(workload, name)?,
        };
        Some(value).filter(|value| !value.is_empty())
    }

    fn of(&self, uid: &str) -> Option<&Labels> {
        let object = uid.splitn(3, '/').nth(2)?;
        self.0.get(object).map(|labels| &**labels)
    }
}

impl FromIterator<(Arc<str>, Arc<Labels>)> for WorkloadLabels {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<Labels>)>>(labels: I) -> Self {
        Self(Arc::new(labels.into_iter().collect()))
    }
}

fn told<'a>(workload: &'a Workload, label: &str) -> Option<&'a str> {
    Some(match Substitute::of(label)? {
        Substitute::CanonicalName => &workload.canonical_name,
        Substitute::CanonicalRevision => &workload.canonical_revision,
        Substitute::Region => &workload.locality.region,
        Substitute::Zone => &workload.locality.zone,
        Substitute::Subzone => &workload.locality.subzone,
        Substitute::Network => &workload.network,
        Substitute::Cluster => &workload.cluster,
        Substitute::Node => &workload.node,
    })
}
