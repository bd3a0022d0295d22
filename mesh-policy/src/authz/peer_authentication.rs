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
    line: u32,
}

impl PeerAuthentication {
    /// An object that leaves all as the level above has it.
    pub fn new(name: PolicyName) -> Self {
        Self {
            name,
            selector: Labels::new(),
            mode: MtlsMode::Unset,
            ports: BTreeMap::new(),
            line: 0,
        }
    }

    #[cfg(feature = "k8s")]
    pub(super) fn at_line(mut self, line: u32) -> Self {
        self.line = line;
        self
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

    /// The line of its file that it begins in, from 1; 0 if it was not read from a file.
    pub fn line(&self) -> u32 {
        self.line
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
    /// An object that leaves a mode unset has that of the level above: a workload's selector, then
    /// its namespace, then the mesh. Of several at one level the strictest counts, for each port by
    /// itself: Istio takes the oldest, but ages are not known here.
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
        let strictest = |objects: &[&Self], port: Option<u16>, above: MtlsMode| {
            let modes = objects.iter().map(|object| object.mode_at(port, above));
            modes.max().unwrap_or(above)
        };
        let mesh = strictest(&level(root_namespace, false), None, MtlsMode::Permissive);
        let above = strictest(&level(namespace, false), None, mesh);
        let workload = level(namespace, true);
        let mode = strictest(&workload, None, above);
        let named = workload.iter().flat_map(|object| object.ports.keys());
        let ports: BTreeMap<_, _> = named
            .map(|port| (*port, strictest(&workload, Some(*port), above)))
            .collect();
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

    /// The mode for a port, or for those without one of their own, below a level of this mode.
    fn mode_at(&self, port: Option<u16>, above: MtlsMode) -> MtlsMode {
        let of_port = port.and_then(|port| self.ports.get(&port)).copied();
        let modes = [of_port.unwrap_or_default(), self.mode];
        modes.into_iter().find(|mode| *mode != MtlsMode::Unset).unwrap_or(above)
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

    #[test]
    fn no_object_opens_a_port_that_another_closes() {
        use MtlsMode::{Disable, Permissive, Strict, Unset};
        let selecting = || object("shop").selector(app());
        let pairs = [
            (
                [selecting().mode(Strict), selecting().port(80, Permissive)],
                false,
                false,
            ),
            (
                [selecting().port(80, Strict), selecting().port(80, Permissive)],
                false,
                true,
            ),
            (
                [selecting().port(80, Strict), selecting().mode(Permissive)],
                false,
                true,
            ),
            (
                [
                    selecting().mode(Strict).port(80, Permissive),
                    selecting().port(80, Disable),
                ],
                true,
                false,
            ),
            (
                [selecting().mode(Strict).port(80, Permissive), selecting().mode(Strict)],
                false,
                false,
            ),
            (
                [
                    selecting().mode(Strict).port(80, Permissive),
                    selecting().mode(Permissive),
                ],
                true,
                false,
            ),
            (
                [
                    selecting().mode(Strict).port(80, Unset),
                    selecting().port(80, Permissive),
                ],
                false,
                false,
            ),
        ];
        for (at, ([one, other], port, others)) in pairs.into_iter().enumerate() {
            for objects in [[one.clone(), other.clone()], [other, one]] {
                assert_eq!(
                    (admits(&objects, 80), admits(&objects, 81)),
                    (port, others),
                    "pair {at}"
                );
            }
        }
        // What an object leaves open is closed by the level above it.
        let under_strict = [
            object("shop").mode(Strict),
            selecting().port(80, Permissive),
            selecting(),
        ];
        assert!(!admits(&under_strict, 80) && !admits(&under_strict, 81));
        let [namespace, opening, leaving] = under_strict;
        assert!(admits(&[namespace.clone(), opening], 80));
        assert!(!admits(&[namespace, leaving, selecting().mode(Permissive)], 81));
    }
}
