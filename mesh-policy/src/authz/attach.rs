//! Which policies apply where.
//!
//! ```
//! use mesh_policy::authz::{AuthorizationPolicy, Labels, TargetRef, attach::Recipient};
//!
//! let labels = Labels::new();
//! let pod = Recipient::Workload { namespace: "shop", labels: &labels };
//! let waypoint = Recipient::Waypoint { namespace: "shop", name: "waypoint", service: None };
//!
//! // A default-deny of the mesh does not reach waypoints, unless it names their class.
//! let deny_all = AuthorizationPolicy::allow("istio-system", "deny-all");
//! assert!(pod.is_subject_to(&deny_all, "istio-system"));
//! assert!(!waypoint.is_subject_to(&deny_all, "istio-system"));
//! let deny_all = deny_all.target_refs([TargetRef::gateway_class("istio-waypoint")]);
//! assert!(waypoint.is_subject_to(&deny_all, "istio-system"));
//! ```

use super::{
    model::AuthorizationPolicy,
    request_authentication::RequestAuthentication,
    target::{Labels, Target, TargetRef},
};

/// The class of gateways that Istio's waypoints are of.
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// Something that enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient<'a> {
    /// A workload, at its sidecar or at the proxy of its node, or a gateway that was not made by
    /// the Gateway API.
    Workload {
        /// The workload's namespace.
        namespace: &'a str,
        /// The workload's labels.
        labels: &'a Labels,
    },
    /// A gateway of the Gateway API.
    Gateway {
        /// The gateway's namespace.
        namespace: &'a str,
        /// The gateway's name.
        name: &'a str,
        /// The labels of the workload that implements it.
        labels: &'a Labels,
    },
    /// A waypoint, for requests to one service.
    Waypoint {
        /// The waypoint's namespace.
        namespace: &'a str,
        /// The name of the waypoint's gateway.
        name: &'a str,
        /// The service that is asked for, if it is one and not a workload.
        service: Option<Service<'a>>,
    },
}

/// A service that a waypoint serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service<'a> {
    /// The service's namespace.
    pub namespace: &'a str,
    /// The service's name.
    pub name: &'a str,
    /// What it was declared by.
    pub kind: ServiceKind,
}

/// What declares a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A Service of Kubernetes.
    Service,
    /// A ServiceEntry of Istio.
    ServiceEntry,
}

impl Recipient<'_> {
    /// Whether a policy applies, where `root_namespace` is the one whose policies are the mesh's.
    pub fn is_subject_to(&self, policy: &AuthorizationPolicy, root_namespace: &str) -> bool {
        self.is_meant(&policy.name().namespace, policy.target(), root_namespace)
    }

    /// Whether tokens are believed by a RequestAuthentication, which applies like a policy.
    pub fn believes_by(&self, authentication: &RequestAuthentication, root_namespace: &str) -> bool {
        self.is_meant(&authentication.name.namespace, &authentication.target, root_namespace)
    }

    fn is_meant(&self, from: &str, target: &Target, root_namespace: &str) -> bool {
        let reaches = |namespace: &str| from == namespace || from == root_namespace;
        match (self, target) {
            (Self::Workload { namespace, .. } | Self::Gateway { namespace, .. }, Target::Namespace) => {
                reaches(namespace)
            }
            (
                Self::Workload { namespace, labels } | Self::Gateway { namespace, labels, .. },
                Target::Selector(wanted),
            ) => reaches(namespace) && selects(wanted, labels),
            (Self::Workload { .. }, Target::Refs(_)) => false,
            (Self::Gateway { namespace, name, .. }, Target::Refs(refs)) => {
                from == *namespace && refs.iter().any(|target| target.is("Gateway") && target.name == *name)
            }
            // Neither a selector nor a namespace is enough for a waypoint.
            (Self::Waypoint { .. }, Target::Namespace | Target::Selector(_)) => false,
            (
                Self::Waypoint {
                    namespace,
                    name,
                    service,
                },
                Target::Refs(refs),
            ) => refs.iter().any(|target| {
                target.is("GatewayClass") && target.name == WAYPOINT_CLASS && from == root_namespace
                    || target.is("Gateway") && target.name == *name && from == *namespace
                    || service.is_some_and(|service| service.is_named_by(target, from))
            }),
        }
    }
}

impl Service<'_> {
    fn is_named_by(&self, target: &TargetRef, from: &str) -> bool {
        let kind = match self.kind {
            ServiceKind::Service => "Service",
            ServiceKind::ServiceEntry => "ServiceEntry",
        };
        target.is(kind) && target.name == self.name && from == self.namespace
    }
}

/// Whether labels have all that a selector asks for. An empty selector asks for nothing.
pub fn selects(wanted: &Labels, labels: &Labels) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::model::PolicyName;

    const ROOT: &str = "istio-system";

    fn labels(app: &str) -> Labels {
        Labels::from([("app".to_owned(), app.to_owned())])
    }

    #[test]
    fn workloads_take_policies_of_their_namespace_and_of_the_root() {
        let web = labels("web");
        let pod = Recipient::Workload {
            namespace: "shop",
            labels: &web,
        };
        let applies = |policy: AuthorizationPolicy| pod.is_subject_to(&policy, ROOT);
        assert!(applies(AuthorizationPolicy::deny("shop", "p")));
        assert!(applies(AuthorizationPolicy::deny(ROOT, "p")));
        assert!(!applies(AuthorizationPolicy::deny("other", "p")));
        assert!(applies(AuthorizationPolicy::deny(ROOT, "p").selector(web.clone())));
        assert!(!applies(AuthorizationPolicy::deny("shop", "p").selector(labels("db"))));
        assert!(applies(AuthorizationPolicy::deny("shop", "p").selector(Labels::new())));
        assert!(!applies(
            AuthorizationPolicy::deny("shop", "p").target_refs([TargetRef::service("web")])
        ));
    }

    #[test]
    fn request_authentications_apply_like_policies() {
        let web = labels("web");
        let pod = Recipient::Workload {
            namespace: "shop",
            labels: &web,
        };
        let waypoint = Recipient::Waypoint {
            namespace: "shop",
            name: "wp",
            service: None,
        };
        let of = |namespace: &str, target| {
            let mut authentication = RequestAuthentication::new(PolicyName::new(namespace, "jwt"));
            authentication.target = target;
            authentication
        };
        assert!(pod.believes_by(&of(ROOT, Target::Namespace), ROOT));
        assert!(pod.believes_by(&of("shop", Target::Selector(web.clone())), ROOT));
        assert!(!pod.believes_by(&of("shop", Target::Selector(labels("db"))), ROOT));
        assert!(!pod.believes_by(&of("other", Target::Namespace), ROOT));
        assert!(!waypoint.believes_by(&of("shop", Target::Namespace), ROOT));
        let named = Target::Refs(vec![TargetRef::gateway("wp")]);
        assert!(waypoint.believes_by(&of("shop", named), ROOT));
    }

    #[test]
    fn gateways_are_named_in_their_own_namespace() {
        let labels = labels("gateway");
        let gateway = Recipient::Gateway {
            namespace: "edge",
            name: "gw",
            labels: &labels,
        };
        let named = |namespace: &str, target| {
            gateway.is_subject_to(&AuthorizationPolicy::deny(namespace, "p").target_refs([target]), ROOT)
        };
        assert!(named("edge", TargetRef::gateway("gw")));
        assert!(!named("edge", TargetRef::gateway("other")));
        assert!(!named("shop", TargetRef::gateway("gw")));
        assert!(!named(ROOT, TargetRef::gateway_class("istio-waypoint")));
        assert!(gateway.is_subject_to(&AuthorizationPolicy::deny(ROOT, "p").selector(labels.clone()), ROOT));
    }

    #[test]
    fn waypoints_take_only_what_names_them_or_their_services() {
        let service = Service {
            namespace: "shop",
            name: "web",
            kind: ServiceKind::Service,
        };
        let waypoint = Recipient::Waypoint {
            namespace: "infra",
            name: "wp",
            service: Some(service),
        };
        let applies = |policy: AuthorizationPolicy| waypoint.is_subject_to(&policy, ROOT);
        let named = |namespace: &str, target| applies(AuthorizationPolicy::deny(namespace, "p").target_refs([target]));
        assert!(!applies(AuthorizationPolicy::deny("infra", "p")));
        assert!(!applies(AuthorizationPolicy::deny(ROOT, "p").selector(Labels::new())));
        assert!(named("shop", TargetRef::service("web")));
        assert!(!named("infra", TargetRef::service("web")));
        assert!(!named("shop", TargetRef::service_entry("web")));
        assert!(named("infra", TargetRef::gateway("wp")));
        assert!(named(ROOT, TargetRef::gateway_class("istio-waypoint")));
        assert!(!named("infra", TargetRef::gateway_class("istio-waypoint")));
        assert!(!named("shop", TargetRef::new("apps", "Service", "web")));
    }
}
