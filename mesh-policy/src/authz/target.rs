use std::collections::BTreeMap;

/// The labels of a workload, or those that a selector asks for.
pub type Labels = BTreeMap<String, String>;

/// Which workloads a policy is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// All in the policy's namespace; in the root namespace, all of the mesh.
    #[default]
    Namespace,
    /// Those that have all of these labels. No labels select what [`Namespace`](Self::Namespace)
    /// does.
    Selector(Labels),
    /// Those that serve the named objects: gateways and waypoints.
    Refs(Vec<TargetRef>),
}

/// An object that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetRef {
    /// The API group, empty for Kubernetes' core.
    pub group: String,
    /// The kind: `Service`, `ServiceEntry`, `Gateway` or `GatewayClass`.
    pub kind: String,
    /// The object's name, in the policy's own namespace.
    pub name: String,
}

impl TargetRef {
    /// The kinds that a policy can refer to, with their groups.
    const KINDS: [(&'static str, &'static str); 4] = [
        ("", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    ];

    /// A reference to a Kubernetes service.
    pub fn service(name: &str) -> Self {
        Self::new("", "Service", name)
    }

    /// A reference to a service entry of Istio.
    pub fn service_entry(name: &str) -> Self {
        Self::new("networking.istio.io", "ServiceEntry", name)
    }

    /// A reference to a gateway of the Gateway API, such as a waypoint.
    pub fn gateway(name: &str) -> Self {
        Self::new("gateway.networking.k8s.io", "Gateway", name)
    }

    /// A reference to a class of gateways.
    pub fn gateway_class(name: &str) -> Self {
        Self::new("gateway.networking.k8s.io", "GatewayClass", name)
    }

    pub(crate) fn new(group: &str, kind: &str, name: &str) -> Self {
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Whether objects of this kind can be referred to.
    pub(crate) fn is_supported(&self) -> bool {
        // Kubernetes' core group has two spellings.
        let group = if self.group == "core" { "" } else { self.group.as_str() };
        Self::KINDS.contains(&(group, self.kind.as_str()))
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.is_supported() && self.kind == kind
    }
}
