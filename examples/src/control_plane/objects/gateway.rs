//! Gateways, as far as they are waypoints.

use std::net::IpAddr;

use mesh_policy::authz::Labels;
use mesh_policy::authz::attach::selects;
use mesh_policy::authz::k8s::{Object, Problem};

use super::Metadata;
use super::fields::{bad, ip, labels, missing, required_port};

/// The class of waypoints.
const CLASS: &str = "istio-waypoint";

/// What a waypoint is for, if it does not say so.
const WAYPOINT_FOR: &str = "istio.io/waypoint-for";

#[derive(Debug)]
pub(in crate::control_plane) struct Gateway {
    pub(in crate::control_plane) metadata: Metadata,
    pub(in crate::control_plane) is_for_services: bool,
    pub(in crate::control_plane) is_for_workloads: bool,
    /// The port that takes tunnels, and who may use it.
    pub(in crate::control_plane) listener: Option<(u16, Admits)>,
    /// Where it is, if it says so.
    pub(in crate::control_plane) at: Option<GatewayAt>,
}

/// The namespaces whose objects may use a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control_plane) enum Admits {
    Same,
    All,
    Labels(Labels),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control_plane) enum GatewayAt {
    Ip(IpAddr),
    Hostname(String),
}

impl Gateway {
    /// Whether objects of a namespace may use it.
    pub(in crate::control_plane) fn admits(&self, namespace: &str, of_namespace: Option<&Labels>) -> bool {
        let Some((_, admits)) = &self.listener else {
            return false;
        };
        match admits {
            _ if self.metadata.key.namespace == namespace => true,
            Admits::Same => false,
            Admits::All => true,
            Admits::Labels(wanted) => of_namespace.is_some_and(|labels| selects(wanted, labels)),
        }
    }
}

/// Reads a gateway, if it is a waypoint.
pub(super) fn read(metadata: Metadata, mut object: Object) -> Result<Option<Gateway>, Problem> {
    let mut spec = object.required_object("spec")?;
    if spec.required_text("gatewayClassName")? != CLASS {
        return Ok(None);
    }
    let (is_for_services, is_for_workloads) = match metadata.label(WAYPOINT_FOR) {
        None | Some("service") => (true, false),
        Some("workload") => (false, true),
        Some("all") => (true, true),
        Some("none") => (false, false),
        Some(other) => {
            let field = format!("metadata.labels.{WAYPOINT_FOR}");
            return Err(bad(metadata.place.line, &field, other));
        }
    };
    let mut listener = None;
    for found in spec.objects("listeners")? {
        listener = read_listener(found)?.or(listener);
    }
    let mut at = address(&mut spec)?;
    spec.pass_over(&["backendTLS", "infrastructure"]);
    spec.finish()?;
    if let Some(mut status) = object.object("status")? {
        at = address(&mut status)?.or(at);
    }
    object.finish()?;
    Ok(Some(Gateway {
        metadata,
        is_for_services,
        is_for_workloads,
        listener,
        at,
    }))
}

/// A listener, if it takes tunnels.
fn read_listener(mut listener: Object) -> Result<Option<(u16, Admits)>, Problem> {
    let port = required_port(&mut listener, "port")?;
    let is_hbone = listener.required_text("protocol")? == "HBONE";
    let mut admits = Admits::Same;
    if let Some(mut allowed) = listener.object("allowedRoutes")? {
        if let Some(namespaces) = allowed.object("namespaces")? {
            admits = read_admits(namespaces)?;
        }
        allowed.pass_over(&["kinds"]);
        allowed.finish()?;
    }
    listener.pass_over(&["hostname", "name", "tls"]);
    listener.finish()?;
    Ok(is_hbone.then_some((port, admits)))
}

fn read_admits(mut namespaces: Object) -> Result<Admits, Problem> {
    #[derive(Clone, Copy, PartialEq)]
    enum From {
        Same,
        All,
        Selector,
    }
    let words = [("Same", From::Same), ("All", From::All), ("Selector", From::Selector)];
    let (line, path) = (namespaces.line_of("from"), namespaces.path("selector.matchLabels"));
    let from = namespaces.word("from", &words)?.unwrap_or(From::Same);
    let mut wanted = Labels::new();
    if let Some(mut selector) = namespaces.object("selector")? {
        wanted = labels(&mut selector, "matchLabels")?;
        selector.finish()?;
    }
    namespaces.finish()?;
    match from {
        From::Same => Ok(Admits::Same),
        From::All => Ok(Admits::All),
        // Nothing would select everything, which is what `All` is for.
        From::Selector if wanted.is_empty() => Err(missing(line, &path)),
        From::Selector => Ok(Admits::Labels(wanted)),
    }
}

/// The first address.
fn address(object: &mut Object) -> Result<Option<GatewayAt>, Problem> {
    let mut first = None;
    for mut address in object.objects("addresses")? {
        let (line, path) = (address.line_of("value"), address.path("value"));
        let is_ip = address.word("type", &[("IPAddress", true), ("Hostname", false)])?;
        let value = address.required_text("value")?;
        address.finish()?;
        let at = match is_ip.unwrap_or(true) {
            true => GatewayAt::Ip(ip(line, &path, &value)?),
            false => GatewayAt::Hostname(value),
        };
        first = first.or(Some(at));
    }
    Ok(first)
}
