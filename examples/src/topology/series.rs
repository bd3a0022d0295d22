//! What one end of connections counted, by who speaks to whom.

use std::collections::BTreeMap;

use super::exposition::Sample;

/// What Istio's labels say where there is nothing to say.
const UNKNOWN: &str = "unknown";

/// What a connection that a policy forbids is counted with.
const DENIED: &str = "DENY";

/// A workload, as telemetry names it. Nothing is known of one whose name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Which connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) source: Name,
    pub(super) destination: Name,
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reporter {
    Source,
    Destination,
    Waypoint,
}

/// What tells connections of one key apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Variant {
    /// The service's hostname, if the connection was for one.
    pub(super) service: String,
    pub(super) is_mutual_tls: bool,
}

/// How many connections, and how much they carried.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) opened: f64,
    pub(super) failed: f64,
    /// Of those that failed, the ones that a policy forbade.
    pub(super) denied: f64,
    /// Bytes to the client.
    pub(super) sent: f64,
    /// Bytes from the client.
    pub(super) received: f64,
    pub(super) source_principal: String,
    pub(super) destination_principal: String,
}

/// The connections of one key, by who counted them.
pub(super) type Reports = BTreeMap<Reporter, BTreeMap<Variant, Tally>>;

/// Adds up what several proxies counted.
pub(super) fn tally<'s>(samples: impl IntoIterator<Item = &'s Sample>) -> BTreeMap<Key, Reports> {
    let mut keys: BTreeMap<Key, Reports> = BTreeMap::new();
    for sample in samples {
        let Some(count) = counted(&sample.name) else { continue };
        let reporter = match sample.label("reporter") {
            "source" => Reporter::Source,
            "destination" => Reporter::Destination,
            "waypoint" => Reporter::Waypoint,
            _ => continue,
        };
        let key = Key {
            source: name(sample, "source_workload_namespace", "source_workload"),
            destination: name(sample, "destination_workload_namespace", "destination_workload"),
        };
        let variant = Variant {
            service: known(sample.label("destination_service")).to_owned(),
            is_mutual_tls: sample.label("connection_security_policy") == "mutual_tls",
        };
        let reports = keys.entry(key).or_default();
        let tally = reports.entry(reporter).or_default().entry(variant).or_default();
        count(tally, sample);
        for (principal, label) in [
            (&mut tally.source_principal, "source_principal"),
            (&mut tally.destination_principal, "destination_principal"),
        ] {
            if principal.is_empty() {
                known(sample.label(label)).clone_into(principal);
            }
        }
    }
    keys
}

impl Tally {
    /// What of it a policy forbade.
    pub(super) fn of_denied(self) -> Self {
        Self {
            opened: self.denied,
            failed: self.denied,
            sent: 0.0,
            received: 0.0,
            ..self
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.failed += other.failed;
        self.denied += other.denied;
        self.sent += other.sent;
        self.received += other.received;
        for (own, others) in [
            (&mut self.source_principal, &other.source_principal),
            (&mut self.destination_principal, &other.destination_principal),
        ] {
            if own.is_empty() {
                own.clone_from(others);
            }
        }
    }
}

type Count = fn(&mut Tally, &Sample);

fn counted(name: &str) -> Option<Count> {
    Some(match name {
        "istio_tcp_connections_opened_total" => |tally, sample| tally.opened += sample.value,
        "istio_tcp_connections_failed_total" => |tally, sample| {
            tally.failed += sample.value;
            if sample.label("response_flags") == DENIED {
                tally.denied += sample.value;
            }
        },
        "istio_tcp_sent_bytes_total" => |tally, sample| tally.sent += sample.value,
        "istio_tcp_received_bytes_total" => |tally, sample| tally.received += sample.value,
        // Layer 7, where a waypoint counts requests.
        "istio_requests_total" => |tally, sample| {
            tally.opened += sample.value;
            if matches!(sample.label("response_code"), "401" | "403") {
                tally.failed += sample.value;
                tally.denied += sample.value;
            }
        },
        _ => return None,
    })
}

fn name(sample: &Sample, namespace: &str, name: &str) -> Name {
    Name {
        namespace: known(sample.label(namespace)).to_owned(),
        name: known(sample.label(name)).to_owned(),
    }
}

fn known(value: &str) -> &str {
    if value == UNKNOWN { "" } else { value }
}
