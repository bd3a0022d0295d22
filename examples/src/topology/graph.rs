//! The mesh as nodes and lines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::exposition::Sample;
use super::flow::{Course, Flow, Route, join};
use super::inventory::{Inventory, Known};
use super::layout::{self, Place};
use super::series::{Name, tally};

/// Flows and workloads that are shown. A picture of more is none, and their names may be anybody's.
const MAX_FLOWS: usize = 400;
const MAX_WORKLOADS: usize = 400;

/// What there is, and what goes on between it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// Who speaks to whom, from end to end.
    pub(crate) flows: Vec<Conversation>,
    /// What is drawn: flows, by way of the services that they are for.
    pub(crate) links: Vec<Link>,
    /// Width and height of the drawing, in its own units.
    pub(crate) size: (u32, u32),
    /// What could not be asked and why, and what is not shown.
    pub(crate) problems: Vec<String>,
}

/// A workload or a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Empty where it has none.
    pub(crate) identity: String,
    /// The machines that it runs on.
    pub(crate) nodes: Vec<String>,
    pub(crate) is_enrolled: bool,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Workload,
    Service,
    Waypoint,
    /// Somebody whom the control plane does not know.
    Stranger,
}

/// Who speaks to whom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Conversation {
    pub(crate) source: String,
    pub(crate) destination: String,
    /// The service that was asked for; empty if it was the workload itself.
    pub(crate) service: String,
    pub(crate) route: Route,
    pub(crate) connections: f64,
    pub(crate) failed: f64,
    pub(crate) bytes: f64,
    pub(crate) connections_per_second: f64,
    pub(crate) bytes_per_second: f64,
    pub(crate) source_principal: String,
    pub(crate) destination_principal: String,
    /// Whether it is within a tunnel; from a node to itself, none is needed.
    pub(crate) is_encrypted: bool,
    /// Whether both ends counted it.
    pub(crate) is_seen_by_both: bool,
}

/// A line from one node to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Link {
    pub(crate) from: String,
    pub(crate) to: String,
    /// `None`: a service and a workload of it, between which nothing goes on.
    pub(crate) route: Option<Route>,
    /// Whether some of it is within a tunnel.
    pub(crate) is_encrypted: bool,
    pub(crate) connections: f64,
    pub(crate) connections_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// Where it goes between nodes of the columns that lie between its ends.
    pub(crate) bends: Vec<Place>,
}

/// What proxies counted up to a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(BTreeMap<Course, Flow>);

impl Count {
    pub(super) fn new<'s>(samples: impl IntoIterator<Item = &'s Sample>, inventory: &Inventory) -> Self {
        Self(join(tally(samples), inventory))
    }
}

impl Graph {
    /// Draws what was counted, with rates since an earlier count.
    pub(super) fn new(inventory: &Inventory, count: &Count, earlier: Option<(&Count, Duration)>) -> Self {
        let mut problems = Vec::new();
        let shown = busiest(count, &mut problems);
        let workloads = shown_workloads(inventory, &shown, &mut problems);
        let flows: Vec<_> = shown
            .iter()
            .map(|(course, flow)| conversation(course, flow, earlier))
            .collect();
        let mut links = links(&flows, &workloads);
        let mut nodes = nodes(inventory, &workloads, &shown);
        let size = layout::place(&mut nodes, &mut links);
        Self {
            nodes,
            flows,
            links,
            size,
            problems,
        }
    }

    /// The name of a node, for people.
    pub(super) fn name_of<'a>(&'a self, id: &'a str) -> &'a str {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.map_or(id, |node| &node.name)
    }
}

type Shown<'c> = Vec<(&'c Course, &'c Flow)>;

/// The flows with the most connections.
fn busiest<'c>(count: &'c Count, problems: &mut Vec<String>) -> Shown<'c> {
    let mut flows: Shown<'c> = count.0.iter().collect();
    if flows.len() > MAX_FLOWS {
        problems.push(format!(
            "{} flows with fewer connections are not shown",
            flows.len() - MAX_FLOWS
        ));
        flows.sort_by(|(_, one), (_, other)| other.connections.total_cmp(&one.connections));
        flows.truncate(MAX_FLOWS);
        flows.sort_by_key(|(course, _)| *course);
    }
    flows
}

/// All workloads; of too many, those that take part in a flow.
fn shown_workloads(inventory: &Inventory, flows: &Shown<'_>, problems: &mut Vec<String>) -> BTreeMap<Name, Known> {
    let mut workloads = inventory.workloads();
    if workloads.len() > MAX_WORKLOADS {
        let ends = flows
            .iter()
            .flat_map(|(course, _)| [&course.key.source, &course.key.destination]);
        let busy: BTreeSet<&Name> = ends.collect();
        let all = workloads.len();
        workloads.retain(|name, _| busy.contains(name));
        problems.push(format!(
            "{} workloads without connections are not shown",
            all - workloads.len()
        ));
    }
    workloads
}

fn conversation(course: &Course, flow: &Flow, earlier: Option<(&Count, Duration)>) -> Conversation {
    let bytes = flow.sent + flow.received;
    let rate = |get: fn(&Flow) -> f64| {
        let Some((earlier, elapsed)) = earlier else { return 0.0 };
        let (now, before) = (get(flow), earlier.0.get(course).map_or(0.0, get));
        // A proxy that started anew counts from zero.
        let more = if now < before { now } else { now - before };
        more / elapsed.as_secs_f64().max(1e-3)
    };
    Conversation {
        source: workload_id(&course.key.source),
        destination: workload_id(&course.key.destination),
        service: course.service.clone(),
        route: course.route,
        connections: flow.connections,
        failed: flow.failed,
        bytes,
        connections_per_second: rate(|flow| flow.connections),
        bytes_per_second: rate(|flow| flow.sent + flow.received),
        source_principal: flow.source_principal.clone(),
        destination_principal: flow.destination_principal.clone(),
        is_encrypted: flow.is_encrypted,
        is_seen_by_both: flow.is_seen_by_source && flow.is_seen_by_destination,
    }
}

fn links(flows: &[Conversation], workloads: &BTreeMap<Name, Known>) -> Vec<Link> {
    let mut links: BTreeMap<(String, String, Option<Route>), Link> = BTreeMap::new();
    let mut add = |from: String, to: String, route, flow: Option<&Conversation>| {
        let key = (from.clone(), to.clone(), route);
        let link = links.entry(key).or_insert(Link {
            from,
            to,
            route,
            is_encrypted: false,
            connections: 0.0,
            connections_per_second: 0.0,
            bytes_per_second: 0.0,
            bends: Vec::new(),
        });
        if let Some(flow) = flow {
            link.is_encrypted |= flow.is_encrypted;
            link.connections += flow.connections;
            link.connections_per_second += flow.connections_per_second;
            link.bytes_per_second += flow.bytes_per_second;
        }
    };
    let mut served = BTreeSet::new();
    for flow in flows {
        let (source, destination) = (flow.source.clone(), flow.destination.clone());
        if flow.service.is_empty() {
            add(source, destination, Some(flow.route), Some(flow));
            continue;
        }
        let service = service_id(&flow.service);
        served.insert((service.clone(), destination.clone()));
        add(source, service.clone(), Some(flow.route), Some(flow));
        add(service, destination, Some(flow.route), Some(flow));
    }
    for (name, known) in workloads {
        for hostname in &known.services {
            let (service, workload) = (service_id(hostname), workload_id(name));
            if !served.contains(&(service.clone(), workload.clone())) {
                add(service, workload, None, None);
            }
        }
    }
    links.into_values().collect()
}

fn nodes(inventory: &Inventory, workloads: &BTreeMap<Name, Known>, flows: &Shown<'_>) -> Vec<Node> {
    let waypoints = inventory.waypoints();
    let mut services = inventory.services();
    if services.len() > MAX_WORKLOADS {
        let served: BTreeSet<&String> = workloads.values().flat_map(|known| &known.services).collect();
        services.retain(|hostname, _| served.contains(hostname));
    }
    let mut names: BTreeSet<&Name> = workloads.keys().collect();
    for (course, _) in flows {
        names.extend([&course.key.source, &course.key.destination]);
        if !course.service.is_empty() {
            services.entry(course.service.clone()).or_default();
        }
    }
    let workload = |name: &Name| {
        let known = workloads.get(name);
        Node {
            id: workload_id(name),
            kind: match known {
                None => Kind::Stranger,
                Some(_) if waypoints.contains(name) => Kind::Waypoint,
                Some(_) => Kind::Workload,
            },
            namespace: name.namespace.clone(),
            name: match &*name.name {
                "" => "unknown".to_owned(),
                own => own.to_owned(),
            },
            identity: known.map(|known| known.identity.clone()).unwrap_or_default(),
            nodes: known
                .map(|known| known.nodes.iter().cloned().collect())
                .unwrap_or_default(),
            is_enrolled: known.is_some_and(|known| known.is_enrolled),
            place: Place::default(),
        }
    };
    let service = |(hostname, namespace): (String, String)| Node {
        id: service_id(&hostname),
        kind: Kind::Service,
        namespace,
        name: hostname,
        identity: String::new(),
        nodes: Vec::new(),
        is_enrolled: false,
        place: Place::default(),
    };
    let workloads = names.into_iter().map(workload);
    workloads.chain(services.into_iter().map(service)).collect()
}

fn workload_id(name: &Name) -> String {
    format!("workload/{}/{}", name.namespace, name.name)
}

fn service_id(hostname: &str) -> String {
    format!("service/{hostname}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::exposition;
    use super::*;

    /// Names that are markup in one of the formats.
    pub(in super::super) const HOSTILE: &str = r#"<img src=x onerror=alert(1)>"];#quot;|end"#;

    fn line(source: &str, tls: bool, value: u32) -> String {
        let source = source.replace('"', "\\\"");
        let policy = if tls { "mutual_tls" } else { "unknown" };
        format!(
            "istio_tcp_connections_opened_total{{reporter=\"source\",source_workload=\"{source}\",\
             source_workload_namespace=\"shop\",destination_workload=\"till\",destination_workload_namespace=\"shop\",\
             destination_service=\"till.shop.svc\",connection_security_policy=\"{policy}\"}} {value}\n"
        )
    }

    fn inventory() -> Inventory {
        Inventory::read(
            r#"{"workloads": [
                {"namespace": "shop", "workloadName": "cart", "node": "a", "protocol": "HBONE"},
                {"namespace": "shop", "workloadName": "till", "node": "b", "protocol": "HBONE",
                 "services": {"shop/till.shop.svc": [], "shop/idle.shop.svc": []}}
            ], "services": [{"namespace": "shop", "hostname": "till.shop.svc"},
                            {"namespace": "shop", "hostname": "idle.shop.svc"}]}"#,
        )
        .unwrap()
    }

    fn count(text: &str) -> Count {
        Count::new(&exposition::read(text).unwrap(), &inventory())
    }

    /// A mesh with one flow by mTLS, one in plaintext, and hostile names.
    pub(in super::super) fn graph() -> Graph {
        let text = line("cart", true, 4) + &line(HOSTILE, false, 1);
        Graph::new(&inventory(), &count(&text), None)
    }

    #[test]
    fn flows_are_drawn_by_way_of_their_service() {
        let graph = graph();
        let lines: Vec<_> = graph
            .links
            .iter()
            .map(|link| (&*link.from, &*link.to, link.route))
            .collect();
        let hostile = format!("workload/shop/{HOSTILE}");
        assert_eq!(
            lines,
            [
                ("service/idle.shop.svc", "workload/shop/till", None),
                ("service/till.shop.svc", "workload/shop/till", Some(Route::NodeProxy)),
                ("service/till.shop.svc", "workload/shop/till", Some(Route::Plaintext)),
                (&hostile, "service/till.shop.svc", Some(Route::Plaintext)),
                ("workload/shop/cart", "service/till.shop.svc", Some(Route::NodeProxy)),
            ]
        );
        let kinds: Vec<_> = graph.nodes.iter().map(|node| (&*node.name, node.kind)).collect();
        assert_eq!(
            kinds,
            [
                (HOSTILE, Kind::Stranger),
                ("cart", Kind::Workload),
                ("till", Kind::Workload),
                ("idle.shop.svc", Kind::Service),
                ("till.shop.svc", Kind::Service),
            ]
        );
    }

    #[test]
    fn of_too_many_flows_and_workloads_the_busiest_are_shown() {
        let lines = (1..=500).map(|number| line(&format!("cart-{number:03}"), true, number));
        let text: String = lines.collect();
        let idle = |number: u32| format!(r#"{{"namespace": "shop", "workloadName": "idle-{number}"}}"#);
        let idle: Vec<_> = (0..500).map(idle).collect();
        let inventory = Inventory::read(&format!(r#"{{"workloads": [{}]}}"#, idle.join(","))).unwrap();
        let graph = Graph::new(&inventory, &count(&text), None);
        assert_eq!(graph.flows.len(), MAX_FLOWS);
        assert_eq!(graph.flows[0].source, "workload/shop/cart-101");
        // Those of the flows, till, and its service.
        assert_eq!(graph.nodes.len(), MAX_FLOWS + 2);
        assert_eq!(
            graph.problems,
            [
                "100 flows with fewer connections are not shown",
                "500 workloads without connections are not shown"
            ]
        );
    }

    #[test]
    fn rates_are_of_the_time_between_two_counts() {
        let rate = |before: u32, now: u32| {
            let (before, now) = (count(&line("cart", true, before)), count(&line("cart", true, now)));
            let graph = Graph::new(&inventory(), &now, Some((&before, Duration::from_secs(2))));
            graph.flows[0].connections_per_second
        };
        assert_eq!(rate(4, 10), 3.0);
        assert_eq!(rate(4, 4), 0.0);
        // The proxy has started anew.
        assert_eq!(rate(10, 4), 2.0);
    }
}
