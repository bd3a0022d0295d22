use std::sync::Arc;

use super::{
    descriptor::Descriptors,
    limiter::Limiter,
    policy::{LimitTarget, RateLimitPolicy},
};

/// The limits of policies by what they are for, with what has been counted.
///
/// Never changes; another table, made of other policies, goes on counting where a policy still says the
/// same about something. Looking up allocates nothing.
///
/// ```
/// use std::time::Duration;
/// use mesh_policy::{ConnectionFacts, authz::TargetRef};
/// use mesh_policy::traffic::rate::{
///     Limit, LimitKey, LimitTable, LimitTarget, LocalLimit, RateLimitPolicy,
/// };
///
/// let second = Duration::from_secs(1);
/// let object = TargetRef { group: "gateway.networking.k8s.io".into(), kind: "HTTPRoute".into(), name: "cart".into() };
/// let mut policy = RateLimitPolicy::new("shop", "buying");
/// policy.targets = vec![LimitTarget { object, rule: Some("buy".into()) }];
/// policy.limits = vec![LocalLimit { name: None, limit: Limit::new(1, second), by: LimitKey::Everyone }];
///
/// let policies = [&policy];
/// let limited = policies.iter().flat_map(|policy| policy.targets.iter().map(|target| (*policy, target)));
/// let table = LimitTable::new(limited, None, 0x5eed);
/// let mut buying = table.of("HTTPRoute", "shop", "cart", Some("buy"));
/// let limits = buying.next().ok_or("there is one")?;
/// let facts = ConnectionFacts::new();
/// assert!(limits.limiter().check(&facts, second).is_ok());
/// assert!(limits.limiter().check(&facts, second).is_err());
/// assert!(table.of("HTTPRoute", "shop", "cart", Some("look")).next().is_none());
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Default)]
pub struct LimitTable {
    /// By the objects that they are for; those for one rule before those for all.
    entries: Box<[TargetLimits]>,
}

/// The limits of a policy for one of its targets.
#[derive(Debug)]
pub struct TargetLimits {
    policy: Arc<RateLimitPolicy>,
    target: LimitTarget,
    limiter: Arc<Limiter>,
}

impl LimitTable {
    /// The limits of these policies for these of their targets. What was counted `before` counts on. Of
    /// one target of one policy, which is known by its namespace and name, only the first entry counts.
    /// The `seed` must be no peer's to know, as for [`Limiter::new`].
    pub fn new<'p>(
        limited: impl IntoIterator<Item = (&'p RateLimitPolicy, &'p LimitTarget)>,
        before: Option<&Self>,
        seed: u64,
    ) -> Self {
        let mut entries: Vec<TargetLimits> = Vec::new();
        for (policy, target) in limited {
            let last = entries.last().map(|last| Arc::clone(&last.policy));
            let last = last.filter(|last| **last == *policy);
            let (namespace, object) = (&*policy.namespace, &target.object);
            let mut known = before
                .into_iter()
                .flat_map(|before| before.of(&object.kind, namespace, &object.name, target.rule.as_deref()));
            let kept = known.find(|known| known.is_still(policy, target));
            entries.push(TargetLimits {
                limiter: match kept {
                    Some(kept) => Arc::clone(&kept.limiter),
                    None => Arc::new(Limiter::new(&policy.limits, seed)),
                },
                policy: last.unwrap_or_else(|| Arc::new(policy.clone())),
                target: target.clone(),
            });
        }
        entries.sort_by(|one, other| one.key().cmp(&other.key()));
        entries.dedup_by(|later, first| later.key() == first.key());
        Self {
            entries: entries.into(),
        }
    }

    /// The limits for requests to an object: a service; or a route, of which `rule` is the name of the
    /// rule that takes them. Those for the rule come before those for the route; all of them are asked
    /// with [`Limiter::check_all`].
    pub fn of<'t>(
        &'t self,
        kind: &str,
        namespace: &str,
        name: &str,
        rule: Option<&str>,
    ) -> impl Iterator<Item = &'t TargetLimits> + Clone + use<'t> {
        let at = |rule| self.at((kind, namespace, name, rule));
        let of_rule = rule.map(|rule| at(Some(rule))).unwrap_or_default();
        of_rule.iter().chain(at(None))
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn at(&self, place: Place<'_>) -> &[TargetLimits] {
        let start = self.entries.partition_point(|entry| entry.place() < place);
        let (_, rest) = self.entries.split_at(start);
        let end = rest.partition_point(|entry| entry.place() == place);
        rest.split_at(end).0
    }
}

/// Kind, namespace and name of an object, and the name of a rule.
type Place<'a> = (&'a str, &'a str, &'a str, Option<&'a str>);

impl TargetLimits {
    /// The policy.
    pub fn policy(&self) -> &RateLimitPolicy {
        &self.policy
    }

    /// What counts requests.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// What a rate limit service is asked about them.
    pub fn descriptors(&self) -> &Descriptors {
        &self.policy.descriptors
    }

    /// What there is one of: policies are in the namespace of what they limit.
    fn key(&self) -> (Place<'_>, &str) {
        (self.place(), &self.policy.name)
    }

    fn place(&self) -> Place<'_> {
        let object = &self.target.object;
        (
            &object.kind,
            &self.policy.namespace,
            &object.name,
            self.target.rule.as_deref(),
        )
    }

    /// Whether what was counted is still what this policy counts for this target.
    fn is_still(&self, policy: &RateLimitPolicy, target: &LimitTarget) -> bool {
        let own = &self.policy;
        own.namespace == policy.namespace
            && own.name == policy.name
            && own.limits == policy.limits
            && self.target == *target
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        authz::TargetRef,
        facts::ConnectionFacts,
        traffic::rate::{Limit, LimitKey, LocalLimit},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn target(kind: &str, name: &str, rule: Option<&str>) -> LimitTarget {
        let object = TargetRef {
            group: String::new(),
            kind: kind.into(),
            name: name.into(),
        };
        LimitTarget {
            object,
            rule: rule.map(Into::into),
        }
    }

    fn policy(namespace: &str, name: &str, requests: u32, targets: &[LimitTarget]) -> RateLimitPolicy {
        let mut policy = RateLimitPolicy::new(namespace, name);
        policy.targets = targets.to_vec();
        policy.limits = vec![LocalLimit {
            name: None,
            limit: Limit::new(requests, 1_000 * SECOND),
            by: LimitKey::Everyone,
        }];
        policy
    }

    fn table(policies: &[RateLimitPolicy], before: Option<&LimitTable>) -> LimitTable {
        let limited = policies.iter();
        let limited = limited.flat_map(|policy| policy.targets.iter().map(move |target| (policy, target)));
        LimitTable::new(limited, before, 7)
    }

    fn passes(limits: &TargetLimits) -> bool {
        limits.limiter().check(&ConnectionFacts::new(), SECOND).is_ok()
    }

    #[test]
    fn the_rule_is_asked_before_the_route_and_each_counts_for_itself() {
        let targets = [target("HTTPRoute", "r", None), target("HTTPRoute", "r", Some("one"))];
        let table = table(&[policy("n", "p", 1, &targets)], None);
        let of = |rule| table.of("HTTPRoute", "n", "r", rule);
        let rules: Vec<_> = of(Some("one")).map(|limits| limits.target.rule.as_deref()).collect();
        assert_eq!(rules, [Some("one"), None]);
        assert_eq!(of(Some("two")).chain(of(None)).count(), 2);
        assert!(of(Some("one")).all(passes));
        assert!(!of(Some("one")).any(passes) && !of(Some("two")).any(passes));
    }

    #[test]
    fn what_stays_the_same_counts_on() {
        let of_rule = target("GRPCRoute", "r", Some("one"));
        let first = table(&[policy("n", "p", 1, std::slice::from_ref(&of_rule))], None);
        let passes_in = |table: &LimitTable, rule| table.of("GRPCRoute", "n", "r", Some(rule)).all(passes);
        assert!(passes_in(&first, "one"));
        // Another place in its file, another target and other descriptors are no other limits.
        let mut moved = policy("n", "p", 1, &[target("Service", "s", None), of_rule.clone()]);
        moved.place = Some(("b.yaml".into(), 7));
        moved.descriptors = Descriptors::new().with([]);
        let second = table(&[moved], Some(&first));
        assert!(!passes_in(&second, "one") && second.of("Service", "n", "s", None).all(passes));
        let other = target("GRPCRoute", "r", Some("two"));
        let changed = table(&[policy("n", "p", 2, std::slice::from_ref(&of_rule))], Some(&second));
        let renamed = table(&[policy("n", "q", 1, &[of_rule])], Some(&second));
        let moved = table(&[policy("n", "p", 1, &[other])], Some(&second));
        assert!(passes_in(&changed, "one") && passes_in(&renamed, "one") && passes_in(&moved, "two"));
    }

    #[test]
    fn who_is_there_twice_counts_once() {
        let of_service = target("Service", "s", None);
        let repeated = policy("n", "p", 4, &[of_service.clone(), of_service.clone()]);
        let (again, other) = (repeated.clone(), policy("n", "q", 4, &[of_service]));
        let policies = [repeated, other, again];
        let mut now = table(&policies, None);
        for _ in 0..4 {
            now = table(&policies, Some(&now));
            let names: Vec<_> = now
                .of("Service", "n", "s", None)
                .map(|limits| &*limits.policy().name)
                .collect();
            assert_eq!(names, ["p", "q"]);
            assert!(now.of("Service", "n", "s", None).all(passes));
        }
        assert!(!now.of("Service", "n", "s", None).any(passes));
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_finds(
            made in prop::collection::vec((0_usize..2, 0_usize..2, 0_usize..2, prop::option::of(0_usize..2)), 0..12),
            asked in (0_usize..2, 0_usize..2, 0_usize..2, prop::option::of(0_usize..2)),
        ) {
            const KINDS: [&str; 2] = ["HTTPRoute", "Service"];
            const NAMES: [&str; 2] = ["a", "b"];
            let name = |rule: Option<usize>| rule.map(|rule| NAMES[rule]);
            let policies: Vec<_> = made
                .iter()
                .enumerate()
                .map(|(number, (kind, namespace, object, rule))| {
                    let target = target(KINDS[*kind], NAMES[*object], name(*rule));
                    policy(NAMES[*namespace], &number.to_string(), 1, &[target])
                })
                .collect();
            let table = table(&policies, None);
            let (kind, namespace, object, rule) = asked;
            let found = table.of(KINDS[kind], NAMES[namespace], NAMES[object], name(rule));
            let found: Vec<usize> = found.map(|limits| limits.policy().name.parse().unwrap()).collect();
            let fits = |wanted: Option<usize>| {
                let made = made.iter().enumerate();
                made.filter(move |(_, made)| **made == (kind, namespace, object, wanted)).map(|(number, _)| number)
            };
            let of_rule: Vec<usize> = if rule.is_some() { fits(rule).collect() } else { Vec::new() };
            prop_assert_eq!(found, [of_rule, fits(None).collect()].concat());
            prop_assert_eq!(table.is_empty(), made.is_empty());
        }
    }
}
