//! Services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_policy::authz::Labels;
use mesh_policy::authz::k8s::{Object, Problem};

use super::fields::{bad, labels, missing, port, required_port};
use super::metadata::is_name;
use super::{Metadata, ServicePort, TargetPort, protocol};

#[derive(Debug)]
pub(in crate::control_plane) struct ServiceEntry {
    pub(in crate::control_plane) metadata: Metadata,
    pub(in crate::control_plane) hosts: Vec<String>,
    /// Addresses, and blocks of them with their lengths.
    pub(in crate::control_plane) addresses: Vec<(IpAddr, Option<u8>)>,
    pub(in crate::control_plane) ports: Vec<ServicePort>,
    pub(in crate::control_plane) names: Vec<String>,
    pub(in crate::control_plane) resolution: Resolution,
    pub(in crate::control_plane) endpoints: Vec<Endpoint>,
    /// Whom it selects besides.
    pub(in crate::control_plane) selector: Option<Labels>,
    /// Whether only its own namespace knows it.
    pub(in crate::control_plane) is_private: bool,
}

/// How a ServiceEntry's endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control_plane) enum Resolution {
    /// They are where the connection was going.
    None,
    Static,
    Dns,
}

#[derive(Debug)]
pub(in crate::control_plane) struct WorkloadEntry {
    pub(in crate::control_plane) metadata: Metadata,
    pub(in crate::control_plane) endpoint: Endpoint,
}

/// A workload of either.
#[derive(Debug)]
pub(in crate::control_plane) struct Endpoint {
    /// An IP address or a DNS name.
    pub(in crate::control_plane) address: String,
    /// The workload's own numbers for ports that have names.
    pub(in crate::control_plane) ports: BTreeMap<String, u16>,
    pub(in crate::control_plane) labels: Labels,
    pub(in crate::control_plane) network: String,
    /// Region, zone and subzone.
    pub(in crate::control_plane) locality: Vec<String>,
    pub(in crate::control_plane) weight: Option<u32>,
    pub(in crate::control_plane) account: String,
}

impl Endpoint {
    pub(in crate::control_plane) fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

pub(super) fn read_workload(metadata: Metadata, mut object: Object) -> Result<WorkloadEntry, Problem> {
    let spec = object.required_object("spec")?;
    object.pass_over(&["status"]);
    object.finish()?;
    let endpoint = read_endpoint(spec, true)?;
    Ok(WorkloadEntry { metadata, endpoint })
}

pub(super) fn read_service(metadata: Metadata, mut object: Object) -> Result<ServiceEntry, Problem> {
    let mut spec = object.required_object("spec")?;
    object.pass_over(&["status"]);
    object.finish()?;
    let hosts_line = spec.line_of("hosts");
    let hosts = hosts(&mut spec)?;
    if hosts.is_empty() {
        return Err(missing(hosts_line, "spec.hosts"));
    }
    let resolution_line = spec.line_of("resolution");
    let words = [
        ("NONE", Resolution::None),
        ("STATIC", Resolution::Static),
        ("DNS", Resolution::Dns),
    ];
    let resolution = spec.word("resolution", &words)?.unwrap_or(Resolution::None);
    if resolution == Resolution::Dns && hosts.iter().any(|host| host.starts_with('*')) && spec_has_no_endpoints(&spec) {
        return Err(bad(resolution_line, "spec.resolution", "DNS"));
    }
    // Where it is makes no difference on layer 4: an endpoint is as its own labels say.
    spec.word("location", &[("MESH_EXTERNAL", ()), ("MESH_INTERNAL", ())])?;
    let mut ports = Vec::new();
    for port in spec.objects("ports")? {
        ports.extend(read_port(port)?);
    }
    let mut endpoints = Vec::new();
    for endpoint in spec.objects("endpoints")? {
        endpoints.push(read_endpoint(endpoint, resolution == Resolution::Dns)?);
    }
    let selector = match spec.object("workloadSelector")? {
        Some(mut selector) => {
            let found = labels(&mut selector, "labels")?;
            selector.finish()?;
            Some(found)
        }
        None => None,
    };
    let names = spec.texts("subjectAltNames")?;
    let entry = ServiceEntry {
        metadata,
        hosts,
        addresses: addresses(&mut spec)?,
        ports,
        names: names.into_iter().map(|(_, name)| name).collect(),
        resolution,
        endpoints,
        selector,
        is_private: is_private(&mut spec)?,
    };
    spec.finish()?;
    Ok(entry)
}

fn spec_has_no_endpoints(spec: &Object) -> bool {
    spec.clone().objects("endpoints").is_ok_and(|found| found.is_empty())
}

fn hosts(spec: &mut Object) -> Result<Vec<String>, Problem> {
    let hosts = spec.texts("hosts")?.into_iter();
    hosts
        .map(|(line, host)| match is_name(host.strip_prefix("*.").unwrap_or(&host)) {
            true => Ok(host),
            false => Err(bad(line, "spec.hosts", &host)),
        })
        .collect()
}

fn addresses(spec: &mut Object) -> Result<Vec<(IpAddr, Option<u8>)>, Problem> {
    let texts = spec.texts("addresses")?.into_iter();
    texts
        .map(|(line, text)| {
            let wrong = || bad(line, "spec.addresses", &text);
            let (ip, length) = match text.split_once('/') {
                Some((ip, length)) => (ip, Some(length.parse::<u8>().map_err(|_| wrong())?)),
                None => (text.as_str(), None),
            };
            let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
            let bits = if ip.is_ipv4() { 32 } else { 128 };
            if length.is_some_and(|length| length > bits) {
                return Err(wrong());
            }
            Ok((ip, length.filter(|length| *length < bits)))
        })
        .collect()
}

/// A port, if it is one of TCP.
fn read_port(mut found: Object) -> Result<Option<ServicePort>, Problem> {
    let number = required_port(&mut found, "number")?;
    let name = found.text("name")?;
    let target = port(&mut found, "targetPort")?;
    let declared = found.text("protocol")?;
    let is_tcp = declared.as_deref() != Some("UDP");
    found.finish()?;
    let target = match (target, name) {
        (Some(number), _) => TargetPort::Number(number),
        // An endpoint may have another number for it.
        (None, Some(name)) => TargetPort::Name(name),
        (None, None) => TargetPort::Number(number),
    };
    Ok(is_tcp.then_some(ServicePort {
        number,
        target,
        protocol: protocol::of_entry(declared.as_deref()),
    }))
}

fn is_private(spec: &mut Object) -> Result<bool, Problem> {
    let line = spec.line_of("exportTo");
    let exported = spec.texts("exportTo")?;
    let texts: Vec<&str> = exported.iter().map(|(_, text)| text.as_str()).collect();
    match texts[..] {
        [] | ["*"] => Ok(false),
        ["."] => Ok(true),
        _ => Err(bad(line, "spec.exportTo", &texts.join(", "))),
    }
}

/// Reads a workload, which may have a DNS name for an address or not.
fn read_endpoint(mut object: Object, may_be_name: bool) -> Result<Endpoint, Problem> {
    let line = object.line_of("address");
    let address = object.required_text("address")?;
    if address.parse::<IpAddr>().is_err() && !(may_be_name && is_name(&address)) {
        return Err(bad(line, &object.path("address"), &address));
    }
    let mut ports = BTreeMap::new();
    if let Some(named) = object.object("ports")? {
        let path = object.path("ports");
        let line = named.line();
        for (name, text) in named.into_texts()? {
            let port = text.parse().ok().filter(|port| *port != 0);
            ports.insert(name, port.ok_or_else(|| bad(line, &path, &text))?);
        }
    }
    let account_line = object.line_of("serviceAccount");
    let account = object.text("serviceAccount")?;
    if let Some(account) = account.as_ref().filter(|account| !is_name(account)) {
        return Err(bad(account_line, &object.path("serviceAccount"), account));
    }
    let locality_line = object.line_of("locality");
    let locality = object.text("locality")?.unwrap_or_default();
    let parts: Vec<String> = locality.split('/').map(str::to_owned).collect();
    if parts.len() > 3 {
        return Err(bad(locality_line, &object.path("locality"), &locality));
    }
    let endpoint = Endpoint {
        address,
        ports,
        labels: labels(&mut object, "labels")?,
        network: object.text("network")?.unwrap_or_default(),
        locality: parts,
        weight: object.parsed("weight")?,
        account: account.unwrap_or_default(),
    };
    object.finish()?;
    Ok(endpoint)
}
