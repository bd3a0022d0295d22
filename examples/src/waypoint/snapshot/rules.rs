//! Which DestinationRule counts for which service.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_policy::traffic::DestinationRule;
use mesh_xds::store::Service;

/// Rules by the hosts that they name.
#[derive(Default)]
pub(super) struct Rules<'a> {
    namespace: &'a str,
    root_namespace: &'a str,
    by_name: HashMap<&'a str, Vec<Arc<DestinationRule>>>,
    /// Those that begin with `*`.
    by_suffix: Vec<Arc<DestinationRule>>,
}

impl<'a> Rules<'a> {
    /// The rules that count for a waypoint of `namespace`.
    pub(super) fn new(
        namespace: &'a str,
        root_namespace: &'a str,
        rules: impl Iterator<Item = &'a DestinationRule>,
    ) -> Self {
        let mut sorted = Self {
            namespace,
            root_namespace,
            ..Self::default()
        };
        for rule in rules {
            match rule.host.starts_with('*') {
                true => sorted.by_suffix.push(Arc::new(rule.clone())),
                false => sorted
                    .by_name
                    .entry(&rule.host)
                    .or_default()
                    .push(Arc::new(rule.clone())),
            }
        }
        sorted
    }

    /// The rule for a service: one that names it before one of many, one of the service's namespace
    /// before the waypoint's and the mesh's, and then by name.
    pub(super) fn of(&self, service: &Service) -> Option<Arc<DestinationRule>> {
        let hostname: &str = &service.hostname;
        let full = self.by_name.get(hostname).into_iter().flatten();
        let short = self.by_name.get(&*service.name).into_iter().flatten();
        let short = short.filter(|rule| *rule.namespace == *service.namespace);
        let many = self.by_suffix.iter().filter(|rule| {
            let suffix = rule.host.strip_prefix('*').unwrap_or_default();
            hostname.len() > suffix.len() && hostname.ends_with(suffix)
        });
        let rank = |rule: &&Arc<DestinationRule>| {
            let from = [&*service.namespace, self.namespace, self.root_namespace];
            let place = from.iter().position(|namespace| *rule.namespace == **namespace)?;
            let is_exported = rule.export_to.is_empty()
                || rule.export_to.iter().any(|to| {
                    **to == *"*" || **to == *self.namespace || **to == *"." && *rule.namespace == *self.namespace
                });
            let is_many = rule.host.starts_with('*');
            let length = usize::MAX - if is_many { rule.host.len() } else { 0 };
            is_exported.then(|| (is_many, length, place, rule.namespace.clone(), rule.name.clone()))
        };
        let counting = full.chain(short).chain(many);
        let counting = counting.filter_map(|rule| Some((rank(&rule)?, rule)));
        counting
            .min_by(|(one, _), (other, _)| one.cmp(other))
            .map(|(_, rule)| Arc::clone(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Arc<Service> {
        let mesh = "services:\n- {name: till, namespace: shop, hostname: till.shop.svc.cluster.local, \
                    vips: [/10.0.0.1], ports: {80: 80}}\n";
        let mesh = mesh_xds::local::read("mesh.yaml", mesh).unwrap().snapshot();
        Arc::clone(mesh.service("shop/till.shop.svc.cluster.local").unwrap())
    }

    #[test]
    fn the_most_specific_rule_of_the_nearest_namespace_counts() {
        let rule = DestinationRule::new;
        for (rules, expected) in [
            (vec![rule("shop", "a", "till")], Some("a")),
            (vec![rule("bank", "a", "till")], None),
            (vec![rule("bank", "a", "till.shop.svc.cluster.local")], None),
            (
                vec![
                    rule("istio-system", "a", "till.shop.svc.cluster.local"),
                    rule("shop", "b", "till.shop.svc.cluster.local"),
                ],
                Some("b"),
            ),
            (
                vec![
                    rule("shop", "a", "*.cluster.local"),
                    rule("shop", "b", "*.shop.svc.cluster.local"),
                    rule("shop", "c", "*.bank.svc.cluster.local"),
                ],
                Some("b"),
            ),
            (
                vec![
                    rule("shop", "a", "*"),
                    rule("istio-system", "b", "till.shop.svc.cluster.local"),
                ],
                Some("b"),
            ),
        ] {
            let found = Rules::new("shop", "istio-system", rules.iter()).of(&service());
            assert_eq!(found.as_ref().map(|rule| &*rule.name), expected, "{rules:?}");
        }
    }
}
