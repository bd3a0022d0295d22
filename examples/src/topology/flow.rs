//! Connections from one workload to another, as both ends counted them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inventory::Inventory;
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
pub(super) fn join(keys: BTreeMap<Key, Reports>, inventory: &Inventory) -> BTreeMap<Course, Flow> {
    let waypoints = inventory.waypoints();
    let mut flows = BTreeMap::new();
    for (key, mut reports) in answered_by_waypoints(keys, &inventory.waypoints_of_services()) {
        let has_waypoint = waypoints.contains(&key.source) || waypoints.contains(&key.destination);
        // The connections that requests came by to whoever answered them are counted already.
        let is_counted = waypoints.contains(&key.destination) && reports.contains_key(&Reporter::Source);
        for (variant, tally) in reports.remove(&Reporter::Waypoint).unwrap_or_default() {
            let tally = if is_counted { tally.of_denied() } else { tally };
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

/// Has requests that a waypoint answered, and no endpoint did, lead to the waypoint of their service.
fn answered_by_waypoints(
    mut keys: BTreeMap<Key, Reports>,
    waypoints: &BTreeMap<String, Name>,
) -> BTreeMap<Key, Reports> {
    let nobody = Name::default();
    let unanswered: Vec<Key> = keys.keys().filter(|key| key.destination == nobody).cloned().collect();
    for key in unanswered {
        let reports = keys
            .get_mut(&key)
            .and_then(|reports| reports.remove(&Reporter::Waypoint));
        for (variant, tally) in reports.unwrap_or_default() {
            let destination = waypoints.get(&variant.service).unwrap_or(&nobody).clone();
            let source = key.source.clone();
            let reports = keys.entry(Key { source, destination }).or_default();
            let told = reports.entry(Reporter::Waypoint).or_default();
            told.entry(variant).or_default().add(&tally);
        }
    }
    keys
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
    use serde_json::json;

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
        let workloads = waypoints.iter().map(
            |name| json!({"namespace": "shop", "workloadName": name, "services": {format!("shop/{name}.shop"): {}}}),
        );
        let services = waypoints.iter().map(|name| {
            let waypoint = json!({"destination": format!("shop/{name}.shop"), "port": 15008});
            json!({"namespace": "shop", "hostname": "till.shop", "waypoint": waypoint})
        });
        let (workloads, services): (Vec<_>, Vec<_>) = (workloads.collect(), services.collect());
        let inventory = json!({"workloads": workloads, "services": services}).to_string();
        let samples = exposition::read(text).unwrap();
        let joined = join(tally(&samples), &Inventory::read(&inventory).unwrap());
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
    fn what_a_waypoint_answers_itself_goes_to_the_waypoint() {
        let requests = |destination: &str, code: &str, flags: &str, value: u32| {
            format!(
                "istio_requests_total{{reporter=\"waypoint\",source_workload=\"cart\",source_workload_namespace=\"shop\",\
                 destination_workload=\"{destination}\",destination_workload_namespace=\"shop\",{TLS},\
                 response_code=\"{code}\",response_flags=\"{flags}\"}} {value}\n"
            )
        };
        let nobody = |code, flags, value| {
            requests("unknown", code, flags, value).replace(
                "destination_workload_namespace=\"shop\"",
                "destination_workload_namespace=\"unknown\"",
            )
        };
        let told = nobody("503", "UH", 4) + &nobody("403", "-", 1) + &requests("till", "200", "-", 5);
        let counted = |text: &str| {
            let told = flows(text, &["way"]).into_iter();
            told.map(|(route, _, flow)| (route, flow.connections))
                .collect::<Vec<_>>()
        };
        let to_till = (Route::Waypoint, 5.0);
        assert_eq!(counted(&told), [to_till, (Route::Waypoint, 4.0), (Route::Denied, 1.0)]);
        // With the two connections that they came by, which are counted as such.
        let tunnels = line(OPENED, "source", TLS, 2).replace("=\"till\"", "=\"way\"");
        let told = told + &tunnels;
        assert_eq!(counted(&told), [to_till, (Route::Waypoint, 2.0), (Route::Denied, 1.0)]);
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
