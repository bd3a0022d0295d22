use super::{
    invalid::{Clause, Fault, FieldPath, FieldValue, Invalid},
    model::{Action, AuthorizationPolicy, Constraint, Rule, Value},
    target::Target,
};
use crate::{
    budget::{Budget, Resource},
    facts::Attribute,
    matcher::{ip::Cidr, path::PathTemplate, port},
};

/// As Istio's resource definition has it.
const MAX_TARGET_REFS: usize = 16;

/// As Istio's resource definition has it: namespace, slash and account.
const MAX_SERVICE_ACCOUNT_BYTES: usize = 320;

/// A DNS label (RFC 1123 §2.1).
const MAX_LABEL_BYTES: usize = 63;

impl AuthorizationPolicy {
    /// Checks the policy by the rules of Istio's admission webhook, and against the budget. All
    /// that is wrong is reported, not only the first.
    ///
    /// A policy in a cluster has passed these rules; of one that has not, planes make different
    /// things.
    pub fn validate(&self, budget: &Budget) -> Vec<Invalid> {
        let mut findings = Findings {
            policy: self,
            found: Vec::new(),
        };
        findings.check_budget(budget);
        // Whatever is over the budget is not looked at any closer.
        if findings.found.is_empty() {
            findings.check_spec();
            for (index, rule) in self.rules().iter().enumerate() {
                findings.check_rule(index, rule);
            }
        }
        findings.found
    }
}

/// A value by itself: what every dialect that cannot read it has to deal with.
pub(super) fn check_value(attribute: &Attribute, value: &str) -> Result<(), Fault> {
    if value.is_empty() {
        return Err(Fault::EmptyValue);
    }
    match attribute {
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp if Cidr::parse(value).is_none() => {
            Err(Fault::Cidr { value: value.into() })
        }
        Attribute::DestinationPort if port::parse(value).is_none() => Err(Fault::Port { value: value.into() }),
        Attribute::Path if PathTemplate::is_one(value) => match PathTemplate::parse(value) {
            Ok(_) => Ok(()),
            Err(fault) => Err(Fault::Template {
                value: value.into(),
                fault,
            }),
        },
        Attribute::ServiceAccount if !is_service_account(value) => Err(Fault::ServiceAccount { value: value.into() }),
        _ => Ok(()),
    }
}

fn is_service_account(value: &str) -> bool {
    let mut parts = value.split('/');
    value.len() <= MAX_SERVICE_ACCOUNT_BYTES
        && !value.contains('*')
        && parts.clone().count() <= 2
        && parts.all(|part| !part.is_empty())
}

struct Findings<'p> {
    policy: &'p AuthorizationPolicy,
    found: Vec<Invalid>,
}

impl Findings<'_> {
    fn add(&mut self, line: u32, field: FieldPath, fault: Fault) {
        self.found.push(Invalid::new(self.policy, line, field, fault));
    }

    fn check_budget(&mut self, budget: &Budget) {
        let rules = self.policy.rules();
        let mut values = 0;
        let mut longest = 0;
        let mut alternatives = 0;
        for rule in rules {
            let lists = [rule.sources().len(), rule.operations().len(), rule.conditions().len()];
            alternatives = lists.into_iter().fold(alternatives, usize::max);
            for value in constraints(rule).flat_map(|(_, _, constraint)| all_values(constraint)) {
                values += 1;
                longest = longest.max(value.text().len());
            }
        }
        let used = [
            (Resource::Rules, rules.len()),
            (Resource::Alternatives, alternatives),
            (Resource::Values, values),
            (Resource::ValueBytes, longest),
        ];
        for (resource, used) in used {
            if let Err(over) = budget.check(resource, used) {
                self.add(0, FieldPath::Spec("rules"), over.into());
            }
        }
    }

    fn check_spec(&mut self) {
        let policy = self.policy;
        match policy.action() {
            Action::Deny | Action::Custom { .. } if policy.rules().is_empty() => {
                self.add(0, FieldPath::Spec("rules"), Fault::NoRules);
            }
            _ => {}
        }
        if let Action::Custom { provider } = policy.action()
            && !is_label(provider)
        {
            let name = provider.clone();
            self.add(0, FieldPath::Spec("provider.name"), Fault::Provider { name });
        }
        if policy.is_dry_run() && !matches!(policy.action(), Action::Allow | Action::Deny) {
            self.add(0, FieldPath::Spec("action"), Fault::DryRunAction);
        }
        match policy.target() {
            Target::Namespace => {}
            Target::Selector(labels) => {
                for (label, value) in labels {
                    if label.is_empty() || label.contains('*') || value.contains('*') {
                        let label = label.as_str().into();
                        self.add(0, FieldPath::Spec("selector.matchLabels"), Fault::Selector { label });
                    }
                }
            }
            Target::Refs(refs) => {
                if refs.len() > MAX_TARGET_REFS {
                    self.add(0, FieldPath::Spec("targetRefs"), Fault::TargetCount);
                }
                for target in refs.iter().filter(|target| !target.is_supported()) {
                    let (group, kind) = (target.group.as_str().into(), target.kind.as_str().into());
                    self.add(0, FieldPath::Spec("targetRefs"), Fault::TargetKind { group, kind });
                }
            }
        }
    }

    fn check_rule(&mut self, index: usize, rule: &Rule) {
        let sources = rule.sources().iter().map(|source| (Clause::From, source.fields()));
        let operations = rule
            .operations()
            .iter()
            .map(|operation| (Clause::To, operation.fields()));
        for (clause, entries) in [
            (Clause::From, sources.map(|(_, fields)| fields).collect::<Vec<_>>()),
            (Clause::To, operations.map(|(_, fields)| fields).collect()),
        ] {
            for (entry, fields) in entries.into_iter().enumerate() {
                self.check_entry(FieldPath::entry(index, clause, entry), fields);
            }
        }
        for (entry, condition) in rule.conditions().iter().enumerate() {
            let constraint = condition.constraint();
            if constraint.any_of().is_empty() && constraint.none_of().is_empty() {
                self.add(0, FieldPath::entry(index, Clause::When, entry), Fault::NoValues);
            }
        }
        for (clause, entry, constraint) in constraints(rule) {
            self.check_constraint(index, clause, entry, constraint);
        }
    }

    fn check_entry(&mut self, place: FieldPath, fields: &[Constraint]) {
        if fields.iter().all(|field| all_values(field).next().is_none()) {
            self.add(0, place, Fault::EmptyEntry);
            return;
        }
        let has = |attribute| fields.iter().any(|field| *field.attribute() == attribute);
        if has(Attribute::ServiceAccount) && (has(Attribute::Principal) || has(Attribute::Namespace)) {
            self.add(0, place, Fault::MixedIdentity);
        }
    }

    fn check_constraint(&mut self, rule: usize, clause: Clause, entry: usize, constraint: &Constraint) {
        let attribute = constraint.attribute();
        if matches!(self.policy.action(), Action::Custom { .. }) && !is_known_to_custom(attribute) {
            let attribute = attribute.clone();
            self.add(
                0,
                FieldPath::entry(rule, clause, entry),
                Fault::CustomAttribute { attribute },
            );
        }
        for (negated, values) in [(false, constraint.any_of()), (true, constraint.none_of())] {
            for (index, value) in values.iter().enumerate() {
                if let Err(fault) = check_value(attribute, value.text()) {
                    let field = FieldValue {
                        attribute: attribute.clone(),
                        negated,
                        value: Some(index),
                    };
                    self.add(value.line(), FieldPath::field(rule, clause, entry, field), fault);
                }
            }
        }
    }
}

/// All constraints of a rule, with the entry that each stands in.
pub(super) fn constraints(rule: &Rule) -> impl Iterator<Item = (Clause, usize, &Constraint)> {
    let from = rule.sources().iter().enumerate();
    let to = rule.operations().iter().enumerate();
    let when = rule.conditions().iter().enumerate();
    from.flat_map(|(entry, source)| source.fields().iter().map(move |field| (Clause::From, entry, field)))
        .chain(to.flat_map(|(entry, operation)| operation.fields().iter().map(move |field| (Clause::To, entry, field))))
        .chain(when.map(|(entry, condition)| (Clause::When, entry, condition.constraint())))
}

fn all_values(constraint: &Constraint) -> impl Iterator<Item = &Value> {
    constraint.any_of().iter().chain(constraint.none_of())
}

/// CUSTOM runs before JWTs are verified, and the webhook has it ask for no identity either.
fn is_known_to_custom(attribute: &Attribute) -> bool {
    !matches!(
        attribute,
        Attribute::Principal
            | Attribute::Namespace
            | Attribute::ServiceAccount
            | Attribute::RequestPrincipal
            | Attribute::Audiences
            | Attribute::Presenter
            | Attribute::Claim(_)
    )
}

fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL_BYTES).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
