use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::traffic::{
    by_host::ByHost,
    destination::{DestinationPolicy, DestinationRule},
    model::by_age,
};

/// The DestinationRules of a mesh, found as Istio finds them.
///
/// A client's own namespace comes first, with all rules that it has, then the service's and then the
/// mesh's root namespace, with what these export to the client. In a namespace the rule for the most
/// special host is taken; if that is not exported, the next namespace is asked. Several for the same
/// host and the same namespaces are one: the policy of the oldest that has one, and the subsets of
/// all, of which the oldest of a name counts.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    root: Box<str>,
    namespaces: HashMap<Box<str>, ByHost<Arc<DestinationRule>>>,
}

impl DestinationRules {
    /// Rules, and the root namespace of their mesh: `istio-system` by default in Istio.
    pub fn new(root: &str, rules: impl IntoIterator<Item = impl Into<Arc<DestinationRule>>>) -> Self {
        let mut rules: Vec<Arc<DestinationRule>> = rules.into_iter().map(Into::into).collect();
        rules.sort_by_cached_key(|rule| by_age(rule.created.clone(), rule.name.clone()));
        let mut namespaces: HashMap<Box<str>, ByHost<Arc<DestinationRule>>> = HashMap::new();
        let mut places: BTreeMap<_, usize> = BTreeMap::new();
        for rule in rules {
            let of_namespace = namespaces.entry(rule.namespace.clone()).or_default();
            let key = (rule.namespace.clone(), rule.host.clone(), rule.export_to.clone());
            let older = places.get(&key).and_then(|at| of_namespace.get_mut(*at));
            match older {
                Some(older) => join(Arc::make_mut(older), &rule),
                None => {
                    places.insert(key, of_namespace.push(Arc::clone(&rule), [&rule.host]));
                }
            }
        }
        Self {
            root: root.into(),
            namespaces,
        }
    }

    /// The rule that clients in a namespace follow for a host of the mesh, which is in a namespace of
    /// its own and given by its full name.
    ///
    /// One that is not joined with others is the one that was given, and no copy.
    pub fn find(&self, client: &str, service: &str, host: &str) -> Option<&Arc<DestinationRule>> {
        let is_root = *client == *self.root;
        // What the root namespace has for all comes after what services say about themselves.
        let own = self.most_special(client, host, |rule| !is_root || is_private(rule));
        own.or_else(|| self.exported(service, client, host))
            .or_else(|| self.exported(&self.root, client, host))
    }

    fn exported(&self, namespace: &str, client: &str, host: &str) -> Option<&Arc<DestinationRule>> {
        let rule = self.most_special(namespace, host, |rule| !is_private(rule))?;
        let is_exported = rule.export_to.is_empty() || rule.export_to.iter().any(|to| ["*", client].contains(&&**to));
        is_exported.then_some(rule)
    }

    fn most_special(
        &self,
        namespace: &str,
        host: &str,
        is_candidate: impl Fn(&DestinationRule) -> bool,
    ) -> Option<&Arc<DestinationRule>> {
        let rules = self.namespaces.get(namespace)?.about(host);
        let named = rules.filter(|rule| rule.host.names(namespace, host) && is_candidate(rule));
        // Of several that are alike, the first.
        named.rev().max_by_key(|rule| rule.host.specificity())
    }
}

/// Whether a rule is for its own namespace alone.
fn is_private(rule: &DestinationRule) -> bool {
    matches!(&*rule.export_to, [only] if **only == *"." || *only == rule.namespace)
}

fn join(older: &mut DestinationRule, rule: &DestinationRule) {
    if older.policy == DestinationPolicy::default() {
        older.policy = rule.policy.clone();
    }
    for subset in &rule.subsets {
        if older.subsets.iter().all(|known| known.name != subset.name) {
            older.subsets.push(subset.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authz::Labels,
        traffic::destination::{BalanceRule, BalancerRule, Subset},
    };

    const HOST: &str = "reviews.shop.svc.cluster.local";

    /// `namespace/name host exportTo..`
    fn rule(text: &str) -> DestinationRule {
        let words: Vec<&str> = text.split(' ').collect();
        let (namespace, name) = words[0].split_once('/').unwrap();
        let mut rule = DestinationRule::new(namespace, name, words[1].parse().unwrap());
        rule.export_to = words[2..].iter().map(|to| (*to).into()).collect();
        rule
    }

    fn found(client: &str, rules: &[&str]) -> String {
        let rules = DestinationRules::new("root", rules.iter().copied().map(rule));
        let found = rules.find(client, "shop", HOST);
        found.map_or_else(String::new, |rule| format!("{}/{}", rule.namespace, rule.name))
    }

    #[test]
    fn the_client_comes_before_the_service_and_that_before_the_root() {
        let all = [
            "front/a *.cluster.local",
            "shop/b reviews",
            "root/c *",
            "other/d reviews.shop.svc.cluster.local",
        ];
        assert_eq!(found("front", &all), "front/a");
        assert_eq!(found("shop", &all), "shop/b");
        assert_eq!(found("back", &all), "shop/b");
        assert_eq!(found("back", &[all[0], all[2], all[3]]), "root/c");
        assert_eq!(found("back", &[all[0], all[3]]), "");
        // What the root namespace says to all is not what its own clients prefer.
        assert_eq!(found("root", &all), "shop/b");
        assert_eq!(found("root", &[all[1], "root/c * ."]), "root/c");
    }

    #[test]
    fn the_most_special_host_counts() {
        let rules = [
            "shop/a *",
            "shop/b *.svc.cluster.local",
            "shop/c *.shop.svc.cluster.local",
        ];
        assert_eq!(found("front", &rules), "shop/c");
        assert_eq!(
            found("front", &[rules[1], rules[0], "shop/d reviews.shop.svc.cluster.local"]),
            "shop/d"
        );
        assert_eq!(
            found(
                "front",
                &[rules[0], "shop/e ratings", "shop/f reviews.back.svc.cluster.local"]
            ),
            "shop/a"
        );
        // A short name is one of the rule's namespace.
        assert_eq!(found("front", &["front/a reviews"]), "");
    }

    #[test]
    fn what_is_not_exported_does_not_count() {
        assert_eq!(found("front", &["shop/a reviews ."]), "");
        assert_eq!(found("front", &["shop/a reviews shop"]), "");
        assert_eq!(found("shop", &["shop/a reviews ."]), "shop/a");
        assert_eq!(found("front", &["shop/a reviews front"]), "shop/a");
        assert_eq!(found("front", &["shop/a reviews back", "shop/b * *"]), "");
        assert_eq!(found("front", &["shop/a reviews .", "shop/b * *"]), "shop/b");
        assert_eq!(found("front", &["root/a * ~"]), "");
        assert_eq!(found("front", &["root/a * back front"]), "root/a");
    }

    #[test]
    fn rules_for_the_same_host_are_one() {
        let subset = |name: &str, value: &str| {
            let labels = Labels::from([("version".to_owned(), value.to_owned())]);
            Subset::new(name, labels, DestinationPolicy::default())
        };
        let of = |algorithm| {
            let mut policy = DestinationPolicy::default();
            policy.general.balancer = Some(BalancerRule {
                algorithm: Some(algorithm),
                ..BalancerRule::default()
            });
            policy
        };
        let (mut one, mut two, mut three) = (rule("shop/z reviews"), rule("shop/b reviews"), rule("shop/a reviews"));
        one.created = Some("2020-01-01T00:00:00Z".into());
        one.subsets = vec![subset("v1", "old")];
        three.policy = of(BalanceRule::Random);
        three.subsets = vec![subset("v1", "new"), subset("v2", "new")];
        two.policy = of(BalanceRule::RoundRobin);
        let rules = DestinationRules::new("root", [two, three, one]);
        let found = rules.find("front", "shop", HOST).unwrap();
        assert_eq!(found.policy, of(BalanceRule::Random));
        assert_eq!(found.subsets, [subset("v1", "old"), subset("v2", "new")]);
        assert_eq!(&*found.name, "z");
    }
}
