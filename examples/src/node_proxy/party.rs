//! One end of a connection, as telemetry names it.

use std::sync::Arc;

use hbone::metadata::{Baggage, BaggageKey, WorkloadKind};
use mesh_identity::SpiffeId;
use mesh_xds::store::{Workload, WorkloadType};

/// Who is at one end, as far as that is known: what is not is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Party {
    pub(super) name: Arc<str>,
    pub(super) workload: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) canonical_name: Arc<str>,
    pub(super) canonical_revision: Arc<str>,
    pub(super) cluster: Arc<str>,
    pub(super) region: Arc<str>,
    pub(super) zone: Arc<str>,
    /// Shown in a handshake, or to be.
    pub(super) identity: Option<SpiffeId>,
}

impl Party {
    pub(super) fn authenticated(self, identity: Option<&SpiffeId>) -> Self {
        Self {
            identity: identity.cloned(),
            ..self
        }
    }

    /// Whoever a peer says that it is, where nothing else is known.
    pub(super) fn of_baggage(baggage: &Baggage) -> Self {
        let get = |key| baggage.get(key).map(Arc::from).unwrap_or_default();
        Self {
            workload: baggage.workload().map(|(_, name)| name.into()).unwrap_or_default(),
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
pub(super) fn baggage(workload: &Workload) -> Baggage {
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
