use std::collections::BTreeMap;

use super::{
    attach::selects,
    model::{AuthorizationPolicy, Operation, OperationField, PolicyName, Rule, Source, SourceField},
    target::Labels,
};

/// The name of policies that stand for PeerAuthentications; Kubernetes allows no such name.
const CONVERTED: &str = "istio_converted_static_strict";

/// Whether connections need a certificate.
///
/// Of two, the greater is the stricter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MtlsMode {
    /// As the level above says.
    #[default]
    Unset,
    /// Without one. What enforces policies cannot forbid certificates, so it is as `Permissive`.
    Disable,
    /// With or without one.
    Permissive,
    /// With one.
    Strict,
}

/// A PeerAuthentication (`security.istio.io/v1`): which connections need a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAuthentication {
    name: PolicyName,
    selector: Labels,
    mode: MtlsMode,
    ports: BTreeMap<u16, MtlsMode>,
}

impl PeerAuthentication {
    /// An object that leaves all as the level above has it.
    pub fn new(name: PolicyName) -> Self {
        Self {
            name,
            selector: Labels::new(),
            mode: MtlsMode::Unset,
            ports: BTreeMap::new(),
        }
    }

    /// Restricts it to workloads with these labels. Default: all of the namespace, or of the mesh
    /// if it is in the root namespace.
    #[must_use]
    pub fn selector(mut self, labels: Labels) -> Self {
        self.selector = labels;
        self
    }

    /// The mode. Default: unset.
    #[must_use]
    pub fn mode(mut self, mode: MtlsMode) -> Self {
        self.mode = mode;
        self
    }

    /// The mode of a port that the workload listens on, which counts only together with a selector.
    #[must_use]
    pub fn port(mut self, port: u16, mode: MtlsMode) -> Self {
        self.ports.insert(port, mode);
        self
    }

    /// The object's name.
    pub fn name(&self) -> &PolicyName {
        &self.name
    }

    /// Whether it is for certain workloads of its namespace, a workload with these labels among them.
    pub fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        *self.name.namespace == *namespace && self.has_selector() && selects(&self.selector, labels)
    }

    pub(super) fn has_selector(&self) -> bool {
        !self.selector.is_empty()
    }

    /// What objects demand of connections to a workload, as a policy that denies connections without
    /// a certificate; none if they demand nothing.
    ///
    /// A mode of the workload's selector counts before one of its namespace, and that before one of
    /// the mesh. Of several at one level the strictest counts: Istio takes the oldest, but ages are
    /// not known here.
    pub fn to_policy(
        objects: &[Self],
        namespace: &str,
        labels: &Labels,
        root_namespace: &str,
    ) -> Option<AuthorizationPolicy> {
        let level = |own: &str, with_selector: bool| {
            let of_level = objects.iter().filter(move |object| {
                *object.name.namespace == *own
                    && object.has_selector() == with_selector
                    && selects(&object.selector, labels)
            });
            of_level.collect::<Vec<_>>()
        };
        let workload = level(namespace, true);
        let strictest = |objects: &[&Self]| objects.iter().map(|object| object.mode).max().unwrap_or_default();
        let modes = [
            strictest(&workload),
            strictest(&level(namespace, false)),
            strictest(&level(root_namespace, false)),
        ];
        let mode = modes
            .into_iter()
            .find(|mode| *mode != MtlsMode::Unset)
            .unwrap_or(MtlsMode::Permissive);
        let mut ports = BTreeMap::new();
        for (port, mode) in workload
            .iter()
            .flat_map(|object| &object.ports)
            .filter(|(_, mode)| **mode != MtlsMode::Unset)
        {
            let strictest = ports.entry(*port).or_insert(*mode);
            *strictest = (*strictest).max(*mode);
        }
        let exceptions = |strict: bool| {
            let of_mode = ports
                .iter()
                .filter(move |(_, mode)| (**mode == MtlsMode::Strict) == strict);
            of_mode.map(|(port, _)| port.to_string()).collect::<Vec<_>>()
        };
        let anonymous = Rule::new().from(Source::new().none_of(SourceField::Principals, ["*"]));
        let rule = if mode == MtlsMode::Strict {
            let exempt = exceptions(false);
            if exempt.is_empty() {
                anonymous
            } else {
                anonymous.to(Operation::new().none_of(OperationField::Ports, exempt))
            }
        } else {
            let strict = exceptions(true);
            if strict.is_empty() {
                return None;
            }
            anonymous.to(Operation::new().any_of(OperationField::Ports, strict))
        };
        Some(AuthorizationPolicy::deny(namespace, CONVERTED).rule(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authz::{Compiler, Dialect},
        facts::{ConnectionFacts, Known, Peer},
    };

    const ROOT: &str = "istio-system";

    fn object(namespace: &str) -> PeerAuthentication {
        PeerAuthentication::new(PolicyName::new(namespace, "default"))
    }

    fn app() -> Labels {
        Labels::from([("app".to_owned(), "web".to_owned())])
    }

    /// Whether a connection without a certificate may reach a port.
    fn admits(objects: &[PeerAuthentication], port: u16) -> bool {
        let policy = PeerAuthentication::to_policy(objects, "shop", &app(), ROOT);
        let set = Compiler::new(Dialect::Ztunnel).compile(policy).unwrap();
        let peer = Peer::from(&"spiffe://td/ns/a/sa/b".parse().unwrap());
        let facts = ConnectionFacts::new().destination_port(port);
        let named = facts.peer(Known::Present(&peer));
        assert!(matches!(set.decide(&named).verdict(), crate::authz::Verdict::Allow(_)));
        let anonymous = facts.peer(Known::Absent);
        matches!(set.decide(&anonymous).verdict(), crate::authz::Verdict::Allow(_))
    }

    #[test]
    fn the_nearest_level_counts() {
        use MtlsMode::{Disable, Permissive, Strict, Unset};
        assert!(admits(&[], 80));
        assert!(!admits(&[object(ROOT).mode(Strict)], 80));
        assert!(admits(
            &[object(ROOT).mode(Strict), object("shop").mode(Permissive)],
            80
        ));
        assert!(!admits(&[object(ROOT).mode(Strict), object("shop").mode(Unset)], 80));
        assert!(admits(
            &[
                object("shop").mode(Strict),
                object("shop").selector(app()).mode(Disable)
            ],
            80
        ));
        assert!(admits(&[object("other").mode(Strict)], 80));
        let elsewhere = Labels::from([("app".to_owned(), "db".to_owned())]);
        assert!(admits(&[object("shop").selector(elsewhere).mode(Strict)], 80));
        assert!(!admits(
            &[object("shop").mode(Strict), object("shop").mode(Permissive)],
            80
        ));
    }

    #[test]
    fn ports_are_exceptions_both_ways() {
        use MtlsMode::{Permissive, Strict};
        let opened = [object("shop").selector(app()).mode(Strict).port(80, Permissive)];
        assert!(admits(&opened, 80) && !admits(&opened, 81));
        let closed = [object("shop").selector(app()).port(80, Strict)];
        assert!(!admits(&closed, 80) && admits(&closed, 81));
        let inherited = [
            object(ROOT).mode(Strict),
            object("shop").selector(app()).port(80, Permissive),
        ];
        assert!(admits(&inherited, 80) && !admits(&inherited, 81));
    }
}
