//! One end of a connection, as telemetry names it.

use std::sync::Arc;

use hbone::metadata::{Baggage, BaggageKey, WorkloadKind};
use mesh_identity::SpiffeId;
use mesh_xds::store::{Workload, WorkloadType};

/// The length of a name that a peer gives itself: no object of Kubernetes has a longer one.
const MAX_NAME: usize = 253;

/// Who is at one end, as far as that is known: what is not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Party {
    pub(crate) name: Arc<str>,
    pub(crate) workload: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) canonical_name: Arc<str>,
    pub(crate) canonical_revision: Arc<str>,
    pub(crate) cluster: Arc<str>,
    pub(crate) region: Arc<str>,
    pub(crate) zone: Arc<str>,
    /// Shown in a handshake, or to be.
    pub(crate) identity: Option<SpiffeId>,
}

impl Party {
    pub(crate) fn authenticated(self, identity: Option<&SpiffeId>) -> Self {
        Self {
            identity: identity.cloned(),
            ..self
        }
    }

    /// As counters name it: pods of one workload are one.
    pub(crate) fn of_any_pod(self) -> Self {
        Self {
            name: Arc::default(),
            ..self
        }
    }

    /// What is known without the peer's own word.
    pub(crate) fn nameless(self) -> Self {
        Self {
            identity: self.identity,
            ..Self::default()
        }
    }

    /// Whoever a peer says that it is, where nothing else is known. What is too long for a name is
    /// none.
    pub(crate) fn of_baggage(baggage: &Baggage) -> Self {
        let name = |text: Option<&str>| match text {
            Some(text) if text.len() <= MAX_NAME => text.into(),
            _ => Arc::default(),
        };
        let get = |key| name(baggage.get(key));
        Self {
            workload: name(baggage.workload().map(|(_, name)| name)),
            namespace: get(BaggageKey::Namespace),
            canonical_name: get(BaggageKey::ServiceName),
            canonical_revision: get(BaggageKey::ServiceVersion),
            cluster: get(BaggageKey::Cluster),
            region: get(BaggageKey::Region),
            zone: get(BaggageKey::Zone),
            ..Self::default()
        }
    }
}

impl From<&Workload> for Party {
    fn from(workload: &Workload) -> Self {
        Self {
            name: workload.name().into(),
            workload: Arc::clone(&workload.workload_name),
            namespace: Arc::clone(&workload.identity.namespace),
            canonical_name: Arc::clone(&workload.canonical_name),
            canonical_revision: Arc::clone(&workload.canonical_revision),
            cluster: Arc::clone(&workload.cluster),
            region: Arc::clone(&workload.locality.region),
            zone: Arc::clone(&workload.locality.zone),
            identity: None,
        }
    }
}

/// What a workload says of itself on a tunnel. A value that no header may have is left out: it is
/// for telemetry alone.
pub(crate) fn baggage(workload: &Workload) -> Baggage {
    let kind = match workload.workload_type {
        WorkloadType::CronJob => WorkloadKind::CronJob,
        WorkloadType::Job => WorkloadKind::Job,
        WorkloadType::Pod => WorkloadKind::Pod,
        _ => WorkloadKind::Deployment,
    };
    let fields: [(BaggageKey, &str); 7] = [
        (BaggageKey::Cluster, &workload.cluster),
        (BaggageKey::Namespace, &workload.identity.namespace),
        (BaggageKey::Workload(kind), &workload.workload_name),
        (BaggageKey::ServiceName, &workload.canonical_name),
        (BaggageKey::ServiceVersion, &workload.canonical_revision),
        (BaggageKey::Region, &workload.locality.region),
        (BaggageKey::Zone, &workload.locality.zone),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty());
    fields.fold(Baggage::new(), |baggage, (key, value)| {
        baggage.clone().with(key, value).unwrap_or(baggage)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_a_name_is_none() {
        let [fits, long] = [MAX_NAME, MAX_NAME + 1].map(|length| "n".repeat(length));
        let text = format!("k8s.namespace.name={fits},k8s.pod.name={long},service.name={long},cloud.region=r");
        let party = Party::of_baggage(&text.parse().unwrap());
        assert_eq!((&*party.namespace, &*party.region), (&*fits, "r"));
        assert_eq!((&*party.workload, &*party.canonical_name), ("", ""));
    }
}
