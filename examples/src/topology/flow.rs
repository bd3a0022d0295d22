//! Connections from one workload to another, as both ends counted them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::series::{Key, Name, Reporter, Reports, Tally, Variant};

/// How connections get to where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Route {
    /// From node proxy to node proxy, with both workloads' identities.
    NodeProxy,
    /// To a waypoint, or from one.
    Waypoint,
    /// With nobody's identity.
    Plaintext,
    /// Nowhere: a policy forbade it.
    Denied,
}

impl Route {
    pub(super) const ALL: [Self; 4] = [Self::NodeProxy, Self::Waypoint, Self::Plaintext, Self::Denied];

    /// For people. From a node to itself, nothing needs to be encrypted.
    pub(super) fn text(self, is_encrypted: bool) -> &'static str {
        match self {
            Self::NodeProxy if is_encrypted => "node proxy, mTLS",
            Self::NodeProxy => "within one node",
            Self::Waypoint => "waypoint, mTLS",
            Self::Plaintext => "plaintext",
            Self::Denied => "denied",
        }
    }

    /// What it is drawn in, and how.
    pub(super) fn colour(self) -> (&'static str, &'static str) {
        match self {
            Self::NodeProxy => ("#15803d", "solid"),
            Self::Waypoint => ("#1d4ed8", "solid"),
            Self::Plaintext => ("#b45309", "dashed"),
            Self::Denied => ("#dc2626", "dotted"),
        }
    }
}

/// What tells flows apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Course {
    pub(super) key: Key,
    pub(super) service: String,
    pub(super) route: Route,
}

/// Connections of one course, since the proxies started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) connections: f64,
    /// Of them, those that failed for another reason than a policy.
    pub(super) failed: f64,
    pub(super) sent: f64,
    pub(super) received: f64,
    pub(super) source_principal: String,
    pub(super) destination_principal: String,
    /// Whether they were within a tunnel; those from a node to itself need none.
    pub(super) is_encrypted: bool,
    /// Whether each end has counted them.
    pub(super) is_seen_by_source: bool,
    pub(super) is_seen_by_destination: bool,
}

/// Joins both ends' reports. What a source counts says which service was asked for, and what a
/// destination counts why a connection failed.
pub(super) fn join(keys: BTreeMap<Key, Reports>, waypoints: &BTreeSet<Name>) -> BTreeMap<Course, Flow> {
    let mut flows = BTreeMap::new();
    for (key, mut reports) in keys {
        let has_waypoint = waypoints.contains(&key.source) || waypoints.contains(&key.destination);
        for (variant, tally) in reports.remove(&Reporter::Waypoint).unwrap_or_default() {
            let seen = Seen {
                source: false,
                destination: true,
            };
            split(&mut flows, (&key, &variant, true), &tally, seen);
        }
        let source = reports.remove(&Reporter::Source).unwrap_or_default();
        let destination = reports.remove(&Reporter::Destination).unwrap_or_default();
        for (variant, tally, seen) in both(&source, &destination) {
            split(&mut flows, (&key, &variant, has_waypoint), &tally, seen);
        }
    }
    flows
}

#[derive(Clone, Copy)]
struct Seen {
    source: bool,
    destination: bool,
}

/// What the source counted, with the destination's reasons; where it counted nothing of a kind, what
/// the destination did.
fn both(source: &BTreeMap<Variant, Tally>, destination: &BTreeMap<Variant, Tally>) -> Vec<(Variant, Tally, Seen)> {
    let mut joined = Vec::new();
    for is_mutual_tls in [false, true] {
        let of_kind = |variant: &Variant| variant.is_mutual_tls == is_mutual_tls;
        let mut arrived = Tally::default();
        for (_, tally) in destination.iter().filter(|(variant, _)| of_kind(variant)) {
            arrived.add(tally);
        }
        let mut unexplained = arrived.denied;
        let mut departed = source.iter().filter(|(variant, _)| of_kind(variant)).peekable();
        if departed.peek().is_none() {
            let seen = Seen {
                source: false,
                destination: true,
            };
            let own = destination.iter().filter(|(variant, _)| of_kind(variant));
            joined.extend(own.map(|(variant, tally)| (variant.clone(), tally.clone(), seen)));
            continue;
        }
        for (variant, tally) in departed {
            let mut tally = tally.clone();
            let explained = (tally.failed - tally.denied).clamp(0.0, unexplained.max(0.0));
            unexplained -= explained;
            tally.denied += explained;
            for (own, other) in [
                (&mut tally.source_principal, &arrived.source_principal),
                (&mut tally.destination_principal, &arrived.destination_principal),
            ] {
                if own.is_empty() {
                    own.clone_from(other);
                }
            }
            let seen = Seen {
                source: true,
                destination: arrived.opened > 0.0,
            };
            joined.push((variant.clone(), tally, seen));
        }
    }
    joined
}

/// Tells what a policy forbade from the rest.
fn split(
    flows: &mut BTreeMap<Course, Flow>,
    (key, variant, has_waypoint): (&Key, &Variant, bool),
    tally: &Tally,
    seen: Seen,
) {
    // Within a node nothing is encrypted, though both ends are known to it.
    let has_identities = !tally.source_principal.is_empty() && !tally.destination_principal.is_empty();
    let route = match (has_waypoint, variant.is_mutual_tls || has_identities) {
        (true, _) => Route::Waypoint,
        (false, true) => Route::NodeProxy,
        (false, false) => Route::Plaintext,
    };
    let bytes = tally.sent + tally.received;
    let carried = (tally.opened - tally.denied).max(0.0);
    let mut add = |route, connections, failed, (sent, received)| {
        let course = Course {
            key: key.clone(),
            service: variant.service.clone(),
            route,
        };
        let flow: &mut Flow = flows.entry(course).or_default();
        flow.connections += connections;
        flow.failed += failed;
        flow.sent += sent;
        flow.received += received;
        flow.source_principal.clone_from(&tally.source_principal);
        flow.destination_principal.clone_from(&tally.destination_principal);
        flow.is_encrypted |= variant.is_mutual_tls;
        flow.is_seen_by_source |= seen.source;
        flow.is_seen_by_destination |= seen.destination;
    };
    if carried > 0.0 || bytes > 0.0 {
        let failed = (tally.failed - tally.denied).max(0.0);
        add(route, carried, failed, (tally.sent, tally.received));
    }
    if tally.denied > 0.0 {
        add(Route::Denied, tally.denied, 0.0, (0.0, 0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition;
    use super::super::series::tally;
    use super::*;

    const OPENED: &str = "istio_tcp_connections_opened_total";
    const FAILED: &str = "istio_tcp_connections_failed_total";

    fn line(name: &str, reporter: &str, more: &str, value: u32) -> String {
        format!(
            "{name}{{reporter=\"{reporter}\",source_workload=\"cart\",source_workload_namespace=\"shop\",\
             destination_workload=\"till\",destination_workload_namespace=\"shop\",{more}}} {value}\n"
        )
    }

    fn flows(text: &str, waypoints: &[&str]) -> Vec<(Route, String, Flow)> {
        let waypoints = waypoints.iter().map(|name| Name {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
        });
        let samples = exposition::read(text).unwrap();
        let joined = join(tally(&samples), &waypoints.collect());
        joined
            .into_iter()
            .map(|(course, flow)| (course.route, course.service, flow))
            .collect()
    }

    const TLS: &str = "connection_security_policy=\"mutual_tls\",destination_service=\"till.shop\"";
    const BARE: &str = "connection_security_policy=\"mutual_tls\",destination_service=\"unknown\"";

    #[test]
    fn both_ends_of_a_connection_are_one_flow() {
        let text = line(OPENED, "source", TLS, 5)
            + &line(OPENED, "destination", BARE, 5)
            + &line("istio_tcp_sent_bytes_total", "source", TLS, 70)
            + &line("istio_tcp_sent_bytes_total", "destination", BARE, 70);
        let flows = flows(&text, &[]);
        let [(Route::NodeProxy, service, flow)] = &*flows else {
            panic!("{flows:?}")
        };
        assert_eq!((&**service, flow.connections, flow.sent), ("till.shop", 5.0, 70.0));
        assert!(flow.is_seen_by_source && flow.is_seen_by_destination);
    }

    #[test]
    fn the_destination_knows_why_a_connection_failed() {
        let failed = |flags: &str| format!("{TLS},response_flags=\"{flags}\"");
        let text = line(OPENED, "source", TLS, 5)
            + &line(FAILED, "source", &failed("CONNECT"), 3)
            + &line(OPENED, "destination", BARE, 5)
            + &line(FAILED, "destination", &failed("DENY"), 2);
        let flows = flows(&text, &[]);
        let [(Route::NodeProxy, _, carried), (Route::Denied, service, denied)] = &*flows else {
            panic!("{flows:?}")
        };
        assert_eq!((carried.connections, carried.failed), (3.0, 1.0));
        assert_eq!((denied.connections, &**service), (2.0, "till.shop"));
    }

    #[test]
    fn what_only_the_destination_saw_is_told_by_it() {
        let plain = "connection_security_policy=\"unknown\",source_principal=\"unknown\"";
        let flows = flows(&line(OPENED, "destination", plain, 2), &[]);
        let [(Route::Plaintext, _, flow)] = &*flows else {
            panic!("{flows:?}")
        };
        assert!(!flow.is_seen_by_source && flow.is_seen_by_destination);
    }

    #[test]
    fn plaintext_of_before_and_tunnels_of_now_are_told_apart() {
        let text = line(OPENED, "source", "destination_service=\"till.shop\"", 4) + &line(OPENED, "source", TLS, 6);
        let routes: Vec<_> = flows(&text, &[])
            .into_iter()
            .map(|(route, _, flow)| (route, flow.connections))
            .collect();
        assert_eq!(routes, [(Route::NodeProxy, 6.0), (Route::Plaintext, 4.0)]);
    }

    #[test]
    fn within_a_node_identities_are_known_without_a_tunnel() {
        let home = "source_principal=\"spiffe://a/b\",destination_principal=\"spiffe://a/c\"";
        let flows = flows(&line(OPENED, "source", home, 1), &[]);
        let [(Route::NodeProxy, _, flow)] = &*flows else {
            panic!("{flows:?}")
        };
        assert!(!flow.is_encrypted);
    }

    #[test]
    fn what_goes_to_a_waypoint_or_is_told_by_one_is_of_a_waypoint() {
        let flows_to = flows(&line(OPENED, "source", TLS, 1), &["till"]);
        assert!(matches!(&*flows_to, [(Route::Waypoint, ..)]), "{flows_to:?}");
        let text = line("istio_requests_total", "waypoint", "response_code=\"200\"", 2)
            + &line("istio_requests_total", "waypoint", "response_code=\"403\"", 3);
        let told: Vec<_> = flows(&text, &[])
            .into_iter()
            .map(|(route, _, flow)| (route, flow.connections))
            .collect();
        assert_eq!(told, [(Route::Waypoint, 2.0), (Route::Denied, 3.0)]);
    }
}
