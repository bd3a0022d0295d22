use mesh_policy::{
    Attribute, Facts,
    authz::{
        Action, AuthorizationPolicy, Dialect, Target, TrustDomains,
        model::{Constraint, Rule},
    },
};

use super::{
    Outcome,
    value::{Effect, Question, is_bad, is_unknown},
};

/// Under which rules policies are read.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// The plane.
    pub dialect: Dialect,
    /// The trust domains.
    pub trust_domains: TrustDomains,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Truth {
    No,
    Unknown,
    Yes,
}

/// Where a constraint stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    From,
    To,
    When,
}

/// Decides, by going through everything.
pub fn decide(policies: &[AuthorizationPolicy], mesh: &Mesh, facts: &Facts<'_>) -> Outcome {
    let policies: Vec<_> = policies.iter().filter(|policy| mesh.knows(policy)).collect();
    let allow = first(
        &policies,
        mesh,
        facts,
        |policy| *policy.action() == Action::Allow,
        false,
    );
    let deny = first(&policies, mesh, facts, |policy| *policy.action() == Action::Deny, false);
    let audit = first(
        &policies,
        mesh,
        facts,
        |policy| *policy.action() == Action::Audit,
        false,
    );
    let dry_allow = first(&policies, mesh, facts, |policy| *policy.action() == Action::Allow, true);
    let dry_deny = first(&policies, mesh, facts, |policy| *policy.action() == Action::Deny, true);
    let has_allow = |dry_run| {
        let mut allowing = policies.iter().filter(|policy| *policy.action() == Action::Allow);
        allowing.any(|policy| policy.is_dry_run() == dry_run)
    };
    let verdict = match (&deny.yes, &deny.unknown, &allow.yes) {
        (Some(rule), _, _) => format!("deny: {rule}"),
        (None, Some(rule), _) => format!("deny, perhaps: {rule}"),
        (None, None, Some(rule)) => format!("allow: {rule}"),
        (None, None, None) if has_allow(false) => "deny: none allows".to_owned(),
        (None, None, None) => "allow: no policy allows".to_owned(),
    };
    let mut providers: Vec<String> = policies
        .iter()
        .filter_map(|policy| match policy.action() {
            Action::Custom { provider } => Some(provider.to_string()),
            _ => None,
        })
        .collect();
    providers.sort();
    providers.dedup();
    providers.retain(|name| {
        let by_it = |policy: &AuthorizationPolicy| {
            matches!(policy.action(), Action::Custom { provider } if **provider == **name)
        };
        first(&policies, mesh, facts, by_it, false).any().is_some()
    });
    let dry_denied_by = dry_deny.any();
    Outcome {
        verdict,
        providers,
        audit: audit.any(),
        dry_would_allow: dry_denied_by.is_none() && (dry_allow.yes.is_some() || !has_allow(true)),
        dry_denied_by,
        dry_allowed_by: dry_allow.yes,
    }
}

#[derive(Default)]
struct First {
    yes: Option<String>,
    unknown: Option<String>,
}

impl First {
    fn any(self) -> Option<String> {
        self.yes.or(self.unknown)
    }
}

/// The least names of rules that match, and of rules that may.
fn first(
    policies: &[&AuthorizationPolicy],
    mesh: &Mesh,
    facts: &Facts<'_>,
    which: impl Fn(&AuthorizationPolicy) -> bool,
    dry_run: bool,
) -> First {
    let mut first = First::default();
    for policy in policies
        .iter()
        .filter(|policy| which(policy) && policy.is_dry_run() == dry_run)
    {
        for (index, rule) in policy.rules().iter().enumerate() {
            let name = name(policy, index);
            let least = |seen: &Option<String>| seen.as_ref().is_none_or(|seen| name < *seen);
            match mesh.rule(policy, rule, facts) {
                Truth::Yes if least(&first.yes) => first.yes = Some(name),
                Truth::Unknown if least(&first.unknown) => first.unknown = Some(name),
                _ => {}
            }
        }
    }
    first
}

fn name(policy: &AuthorizationPolicy, rule: usize) -> String {
    let prefix = match policy.action() {
        Action::Custom { provider } => format!("istio-ext-authz-{provider}-"),
        _ => String::new(),
    };
    let name = policy.name();
    format!("{prefix}ns[{}]-policy[{}]-rule[{rule}]", name.namespace, name.name)
}

impl Mesh {
    fn knows(&self, policy: &AuthorizationPolicy) -> bool {
        self.dialect != Dialect::Ztunnel
            || (matches!(policy.action(), Action::Allow | Action::Deny) && !matches!(policy.target(), Target::Refs(_)))
    }

    fn rule(&self, policy: &AuthorizationPolicy, rule: &Rule, facts: &Facts<'_>) -> Truth {
        let from: Vec<Vec<&Constraint>> = rule
            .sources()
            .iter()
            .map(|entry| entry.fields().iter().collect())
            .collect();
        let to: Vec<Vec<&Constraint>> = rule
            .operations()
            .iter()
            .map(|entry| entry.fields().iter().collect())
            .collect();
        let when: Vec<Vec<&Constraint>> = rule.conditions().iter().map(|entry| vec![entry.constraint()]).collect();
        let clauses = [(Clause::From, from), (Clause::To, to), (Clause::When, when)];
        if *policy.action() == Action::Allow {
            for (clause, entries) in &clauses {
                for constraint in entries.iter().flatten().filter(|constraint| asks(constraint)) {
                    if self.is_http(*clause, constraint.attribute()) && !self.forgets(*clause, constraint.attribute()) {
                        return Truth::No;
                    }
                    let mut values = constraint.any_of().iter().chain(constraint.none_of());
                    let envoy = self.dialect != Dialect::Ztunnel;
                    let ignored = self.forgets(*clause, constraint.attribute());
                    if envoy && !ignored && values.any(|value| is_bad(constraint.attribute(), value.text())) {
                        return Truth::No;
                    }
                }
            }
        }
        let [(_, from), (_, to), (_, when)] = clauses;
        let entry = |clause: Clause, fields: &Vec<&Constraint>| self.entry(policy, clause, fields, facts);
        let or = |clause: Clause, entries: &Vec<Vec<&Constraint>>| {
            entries
                .iter()
                .map(|fields| entry(clause, fields))
                .max()
                .unwrap_or(Truth::Yes)
        };
        let and = when
            .iter()
            .map(|fields| entry(Clause::When, fields))
            .min()
            .unwrap_or(Truth::Yes);
        or(Clause::From, &from).min(or(Clause::To, &to)).min(and)
    }

    fn entry(&self, policy: &AuthorizationPolicy, clause: Clause, fields: &[&Constraint], facts: &Facts<'_>) -> Truth {
        let left: Vec<Truth> = fields
            .iter()
            .filter_map(|field| self.field(policy, clause, field, facts))
            .collect();
        match left.iter().min() {
            Some(truth) => *truth,
            None if self.dialect == Dialect::Ztunnel => Truth::No,
            None => Truth::Yes,
        }
    }

    /// None for a field that is not there for this plane.
    fn field(
        &self,
        policy: &AuthorizationPolicy,
        clause: Clause,
        constraint: &Constraint,
        facts: &Facts<'_>,
    ) -> Option<Truth> {
        let attribute = constraint.attribute();
        if self.is_http(clause, attribute) || self.forgets(clause, attribute) {
            return None;
        }
        let good = |values: &[mesh_policy::authz::model::Value]| -> Vec<String> {
            let good = values.iter().filter(|value| !is_bad(attribute, value.text()));
            good.map(|value| value.text().to_owned()).collect()
        };
        let (any, none) = (good(constraint.any_of()), good(constraint.none_of()));
        if any.is_empty() && none.is_empty() {
            return None;
        }
        if is_unknown(attribute, facts) {
            return Some(Truth::Unknown);
        }
        let allows = *policy.action() == Action::Allow;
        let (positive, negative) = if allows {
            (Effect::Admits, Effect::Stops)
        } else {
            (Effect::Stops, Effect::Admits)
        };
        let matches = |value: &String, effect| {
            let question = Question {
                mesh: self,
                namespace: &policy.name().namespace,
                attribute,
                value,
                facts,
            };
            question.matches(effect)
        };
        let one = any.is_empty() || any.iter().any(|value| matches(value, positive));
        let other = none.iter().any(|value| matches(value, negative));
        Some(if one && !other { Truth::Yes } else { Truth::No })
    }

    /// Whether this plane takes the attribute for one of HTTP, which it does not know.
    fn is_http(&self, clause: Clause, attribute: &Attribute) -> bool {
        let http = matches!(
            attribute,
            Attribute::Host
                | Attribute::Method
                | Attribute::Path
                | Attribute::RequestPrincipal
                | Attribute::Header(_)
                | Attribute::Claim(_)
                | Attribute::Audiences
                | Attribute::Presenter
        );
        match self.dialect {
            Dialect::EnvoyTcp => http,
            Dialect::Ztunnel => match clause {
                Clause::When => ![
                    "source.ip",
                    "source.namespace",
                    "source.principal",
                    "destination.ip",
                    "destination.port",
                ]
                .contains(&attribute.to_string().as_str()),
                Clause::From | Clause::To => http || *attribute == Attribute::RemoteIp,
            },
            _ => false,
        }
    }

    /// Whether istiod leaves the attribute out of what it sends.
    fn forgets(&self, clause: Clause, attribute: &Attribute) -> bool {
        self.dialect == Dialect::Ztunnel && clause == Clause::From && *attribute == Attribute::TrustDomain
    }
}

fn asks(constraint: &Constraint) -> bool {
    !constraint.any_of().is_empty() || !constraint.none_of().is_empty()
}
