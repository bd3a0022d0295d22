use mesh_xds_types::workload::{LoadBalancing, Port, Service, WeightedWaypoint};

use super::fault::Located;
use super::fields::{Fields, gateway, items, network_address, number, one_of, ports, unsupported};
use super::node::Node;

const PROTOCOLS: [&str; 6] = ["Unknown", "HTTP11", "HTTP2", "gRPC", "TCP", "TLS"];
const SCOPES: [&str; 7] = ["", "Region", "Zone", "Subzone", "Node", "Cluster", "Network"];

pub(super) fn read(node: &Node) -> Located<Service> {
    let mut fields = Fields::new(node, "services")?;
    let addresses = items(fields.take("vips"), "vips")?;
    let waypoints = items(fields.take("weightedWaypoints"), "weightedWaypoints")?;
    let service = Service {
        name: fields.text("name")?,
        namespace: fields.text("namespace")?,
        hostname: fields.text("hostname")?,
        addresses: addresses
            .iter()
            .map(|node| network_address(node, "vips"))
            .collect::<Result<_, _>>()?,
        ports: declared(
            fields
                .take("ports")
                .map_or_else(|| Ok(Vec::new()), |node| ports(node, "ports"))?,
            fields.take("appProtocols"),
        )?,
        subject_alt_names: fields.texts("subjectAltNames")?,
        waypoint: gateway(fields.take("waypoint"), "waypoint")?,
        load_balancing: fields.take("loadBalancer").map(balancing).transpose()?,
        ip_families: fields.one_of(
            "ipFamilies",
            &["Automatic", "IPv4", "IPv6", "Dual"],
            "a choice of families",
        )?,
        extensions: Vec::new(),
        canonical: fields.flag("canonical")?,
        ingress_use_waypoint: fields.flag("ingressUseWaypoint")?,
        weighted_waypoints: waypoints.iter().map(weighted).collect::<Result<_, _>>()?,
        visibility: fields.one_of("visibility", &["Public", "Namespace"], "`Public` or `Namespace`")?,
    };
    fields.end()?;
    Ok(service)
}

/// Ports with what is spoken there.
fn declared(mut ports: Vec<Port>, protocols: Option<&Node>) -> Located<Vec<Port>> {
    let Some(node) = protocols else {
        return Ok(ports);
    };
    for (number, protocol) in Fields::new(node, "appProtocols")?.rest() {
        let mut found = ports.iter_mut();
        match found.find(|port| number.parse() == Ok(port.service_port)) {
            Some(port) => port.app_protocol = one_of(protocol, number, &PROTOCOLS, "a protocol")?,
            None => return unsupported(protocol, number, "one of the service's ports"),
        }
    }
    Ok(ports)
}

fn balancing(node: &Node) -> Located<LoadBalancing> {
    let mut fields = Fields::new(node, "loadBalancer")?;
    let preferences = items(fields.take("routingPreferences"), "routingPreferences")?;
    let scope = |node| one_of(node, "routingPreferences", &SCOPES, "a list of places");
    let balancing = LoadBalancing {
        routing_preference: preferences.iter().map(scope).collect::<Result<_, _>>()?,
        mode: fields.one_of(
            "mode",
            &["Standard", "Strict", "Failover", "Passthrough"],
            "a mode of balancing",
        )?,
        health_policy: fields.one_of(
            "healthPolicy",
            &["OnlyHealthy", "AllowAll"],
            "`OnlyHealthy` or `AllowAll`",
        )?,
    };
    fields.end()?;
    Ok(balancing)
}

fn weighted(node: &Node) -> Located<WeightedWaypoint> {
    let mut fields = Fields::new(node, "weightedWaypoints")?;
    let waypoint = WeightedWaypoint {
        destination: gateway(Some(fields.require("waypoint")?), "waypoint")?,
        weight: number(fields.require("weight")?, "weight")?,
    };
    fields.end()?;
    Ok(waypoint)
}
