//! Which workloads take tunnels.

use mesh_policy::authz::Labels;
use mesh_xds_types::workload::TunnelProtocol;

use super::super::objects::{Metadata, Pod};

const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
const REDIRECTION: &str = "ambient.istio.io/redirection";
const TUNNEL: &str = "networking.istio.io/tunnel";
const SIDECAR: &str = "sidecar.istio.io/status";

/// How a workload is reached, and whether it speaks the tunnel protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Enrolment {
    pub(super) protocol: TunnelProtocol,
    pub(super) is_native: bool,
}

impl Enrolment {
    pub(super) const PLAIN: Self = Self {
        protocol: TunnelProtocol::None,
        is_native: false,
    };

    const AMBIENT: Self = Self {
        protocol: TunnelProtocol::Hbone,
        is_native: false,
    };

    /// Of a Pod. Where Istio waits for the annotation that says that the Pod's traffic is captured,
    /// the label is enough here, because nobody else writes that annotation; if it is there, it
    /// counts.
    pub(super) fn of_pod(pod: &Pod, of_namespace: Option<&Labels>) -> Self {
        let declared = Self::of_entry(&pod.metadata);
        let is_said = pod.metadata.annotation(REDIRECTION).is_some();
        // The network of the node cannot be captured, and a sidecar has captured the Pod's already.
        let cannot_be = pod.is_host_network || pod.metadata.annotation(SIDECAR).is_some();
        if declared != Self::PLAIN || is_said || cannot_be {
            return declared;
        }
        let of_namespace = of_namespace.and_then(|labels| labels.get(DATAPLANE_MODE));
        let mode = pod.metadata.label(DATAPLANE_MODE).or(of_namespace.map(String::as_str));
        match mode {
            Some("ambient") => Self::AMBIENT,
            _ => Self::PLAIN,
        }
    }

    /// Of a workload that no node agent looks after: as it says itself.
    pub(super) fn of_entry(metadata: &Metadata) -> Self {
        if metadata.label(TUNNEL) == Some("http") {
            Self {
                protocol: TunnelProtocol::Hbone,
                is_native: true,
            }
        } else if metadata.annotation(REDIRECTION) == Some("enabled") {
            Self::AMBIENT
        } else {
            Self::PLAIN
        }
    }
}
