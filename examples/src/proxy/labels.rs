//! What tells series of a counter apart.

use std::borrow::Cow;
use std::sync::Arc;

use mesh_xds::store::Service;

use super::party::Party;

/// The labels that Istio's proxies put on what they count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Labels {
    pub(crate) reporter: Reporter,
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) service: Option<ServiceName>,
    pub(crate) protocol: &'static str,
    pub(crate) flags: Cow<'static, str>,
    pub(crate) is_mutual_tls: bool,
}

/// Who counts: which end, as a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reporter {
    Source,
    Destination,
    /// Neither end.
    Waypoint,
}

/// The service that a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceName {
    pub(crate) hostname: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
}

impl Reporter {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

impl Labels {
    /// A connection between nobody that is named.
    pub(crate) fn unnamed(reporter: Reporter, flags: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reporter,
            source: Party::default(),
            destination: Party::default(),
            service: None,
            protocol: "tcp",
            flags: flags.into(),
            is_mutual_tls: false,
        }
    }

    /// Hands out all labels with their values.
    pub(crate) fn visit<E>(&self, each: &mut impl FnMut(&'static str, &str) -> Result<(), E>) -> Result<(), E> {
        let Self {
            source, destination, ..
        } = self;
        let [source_id, destination_id] =
            [source, destination].map(|party| party.identity.as_ref().map(ToString::to_string));
        let service = self.service.as_ref();
        let part = |get: fn(&ServiceName) -> &Arc<str>| service.map_or("", |service| get(service));
        let labels: [(&'static str, &str); 22] = [
            ("reporter", self.reporter.as_str()),
            ("source_workload", &source.workload),
            ("source_canonical_service", &source.canonical_name),
            ("source_canonical_revision", &source.canonical_revision),
            ("source_workload_namespace", &source.namespace),
            ("source_principal", source_id.as_deref().unwrap_or_default()),
            ("source_app", &source.canonical_name),
            ("source_version", &source.canonical_revision),
            ("source_cluster", &source.cluster),
            ("destination_service", part(|service| &service.hostname)),
            ("destination_service_namespace", part(|service| &service.namespace)),
            ("destination_service_name", part(|service| &service.name)),
            ("destination_workload", &destination.workload),
            ("destination_canonical_service", &destination.canonical_name),
            ("destination_canonical_revision", &destination.canonical_revision),
            ("destination_workload_namespace", &destination.namespace),
            ("destination_principal", destination_id.as_deref().unwrap_or_default()),
            ("destination_app", &destination.canonical_name),
            ("destination_version", &destination.canonical_revision),
            ("destination_cluster", &destination.cluster),
            ("request_protocol", self.protocol),
            ("response_flags", &self.flags),
        ];
        for (name, value) in labels {
            each(name, if value.is_empty() { "unknown" } else { value })?;
        }
        let security = if self.is_mutual_tls { "mutual_tls" } else { "unknown" };
        each("connection_security_policy", security)?;
        for (name, value) in [
            ("source_region", &source.region),
            ("source_zone", &source.zone),
            ("destination_region", &destination.region),
            ("destination_zone", &destination.zone),
        ] {
            if !value.is_empty() {
                each(name, value)?;
            }
        }
        Ok(())
    }
}

impl From<&Service> for ServiceName {
    fn from(service: &Service) -> Self {
        Self {
            hostname: Arc::clone(&service.hostname),
            name: Arc::clone(&service.name),
            namespace: Arc::clone(&service.namespace),
        }
    }
}
