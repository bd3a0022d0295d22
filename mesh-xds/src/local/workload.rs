use std::collections::HashMap;

use mesh_xds_types::workload::{ApplicationTunnel, Locality, PortList, Workload};

use super::fault::Located;
use super::fields::{Fields, gateway, ip, items, number, ports};
use super::node::{Node, Value};

pub(super) fn read(node: &Node) -> Located<Workload> {
    let mut fields = Fields::new(node, "workloads")?;
    let addresses = items(fields.take("workloadIps"), "workloadIps")?;
    let workload = Workload {
        uid: fields.text("uid")?,
        name: fields.text("name")?,
        namespace: fields.text("namespace")?,
        addresses: addresses
            .iter()
            .map(|node| ip(node, "workloadIps"))
            .collect::<Result<_, _>>()?,
        hostname: fields.text("hostname")?,
        network: fields.text("network")?,
        tunnel_protocol: fields.one_of("protocol", &["TCP", "HBONE"], "`TCP` or `HBONE`")?,
        trust_domain: fields.text("trustDomain")?,
        service_account: fields.text("serviceAccount")?,
        waypoint: gateway(fields.take("waypoint"), "waypoint")?,
        network_gateway: gateway(fields.take("networkGateway"), "networkGateway")?,
        node: fields.text("node")?,
        canonical_name: fields.text("canonicalName")?,
        canonical_revision: fields.text("canonicalRevision")?,
        workload_type: fields.one_of(
            "workloadType",
            &["deployment", "cronjob", "pod", "job"],
            "a kind of workload",
        )?,
        workload_name: fields.text("workloadName")?,
        native_tunnel: fields.flag("nativeTunnel")?,
        application_tunnel: fields.take("applicationTunnel").map(application_tunnel).transpose()?,
        services: fields.take("services").map_or_else(|| Ok(HashMap::new()), services)?,
        authorization_policies: fields.texts("authorizationPolicies")?,
        status: fields.one_of("status", &["Healthy", "Unhealthy"], "`Healthy` or `Unhealthy`")?,
        cluster_id: fields.text("clusterId")?,
        locality: fields.take("locality").map(locality).transpose()?,
        network_mode: fields.one_of(
            "networkMode",
            &["Standard", "HostNetwork"],
            "`Standard` or `HostNetwork`",
        )?,
        extensions: Vec::new(),
        capacity: fields
            .take("capacity")
            .map(|node| number(node, "capacity"))
            .transpose()?,
    };
    fields.end()?;
    Ok(workload)
}

fn application_tunnel(node: &Node) -> Located<ApplicationTunnel> {
    let mut fields = Fields::new(node, "applicationTunnel")?;
    let tunnel = ApplicationTunnel {
        protocol: fields.one_of("protocol", &["NONE", "PROXY"], "`NONE` or `PROXY`")?,
        port: fields.take("port").map_or(Ok(0), |node| number(node, "port"))?,
    };
    fields.end()?;
    Ok(tunnel)
}

fn locality(node: &Node) -> Located<Locality> {
    let mut fields = Fields::new(node, "locality")?;
    let locality = Locality {
        region: fields.text("region")?,
        zone: fields.text("zone")?,
        subzone: fields.text("subzone")?,
    };
    fields.end()?;
    Ok(locality)
}

fn services(node: &Node) -> Located<HashMap<String, PortList>> {
    // Which services there are is for the file to say, so their names are read as they come.
    let Value::Fields(services) = &node.value else {
        return Fields::new(node, "services").map(|_| HashMap::new());
    };
    let list = |(key, node): &(String, Node)| {
        Ok((
            key.clone(),
            PortList {
                ports: ports(node, key)?,
            },
        ))
    };
    services.iter().map(list).collect()
}
