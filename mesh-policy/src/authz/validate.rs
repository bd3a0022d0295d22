use super::{
    invalid::{Clause, Fault, FieldPath, FieldValue, Invalid},
    model::{Action, AuthorizationPolicy, Constraint, Entry, Rule, Value},
    target::Target,
};
use crate::{
    budget::{Budget, Resource},
    facts::Attribute,
    matcher::{ip::Cidr, path::PathTemplate, port},
};

/// As Istio's resource definition has it.
const MAX_TARGET_REFS: usize = 16;

/// As Istio's resource definition has it, for each of a source's two lists.
const MAX_SERVICE_ACCOUNTS: usize = 16;

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
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp if value.parse::<Cidr>().is_err() => {
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

/// Namespace and account of a value of `serviceAccounts`, which may leave out the policy's namespace.
pub(super) fn split_service_account<'v>(value: &'v str, namespace: &'v str) -> (&'v str, &'v str) {
    value.split_once('/').unwrap_or((namespace, value))
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

    /// What is over the budget is reported where the first too many stands.
    fn check_budget(&mut self, budget: &Budget) {
        let rules = self.policy.rules();
        if let Err(over) = budget.check(Resource::Rules, rules.len()) {
            let rule = over.limit;
            let line = rules.get(rule).map_or(0, |rule| line_of(constraints(rule)));
            self.add(line, FieldPath::Rule { rule, part: None }, over.into());
            return;
        }
        let mut values = 0;
        for (index, rule) in rules.iter().enumerate() {
            self.check_alternatives(budget, index, rule);
            for (clause, entry, constraint) in constraints(rule) {
                values += all_values(constraint).count();
                self.check_lengths(budget, (index, clause, entry), constraint);
            }
        }
        if let Err(over) = budget.check(Resource::Values, values) {
            self.add(0, FieldPath::Spec("rules"), over.into());
        }
    }

    fn check_alternatives(&mut self, budget: &Budget, index: usize, rule: &Rule) {
        for (clause, count) in [
            (Clause::From, rule.sources().len()),
            (Clause::To, rule.operations().len()),
            (Clause::When, rule.conditions().len()),
        ] {
            if let Err(over) = budget.check(Resource::Alternatives, count) {
                let first = (clause, over.limit);
                let line = line_of(constraints(rule).filter(|(clause, entry, _)| (*clause, *entry) >= first));
                self.add(line, FieldPath::entry(index, clause, over.limit), over.into());
            }
        }
    }

    fn check_lengths(
        &mut self,
        budget: &Budget,
        (rule, clause, entry): (usize, Clause, usize),
        constraint: &Constraint,
    ) {
        let check = |length: usize| budget.check(Resource::ValueBytes, length);
        let attribute = constraint.attribute();
        if clause == Clause::When
            && let Err(over) = check(attribute.to_string().len())
        {
            let line = line_of([(clause, entry, constraint)].into_iter());
            self.add(line, FieldPath::entry(rule, clause, entry), over.into());
        }
        for (field, value) in placed_values(constraint) {
            if let Err(over) = check(value.text().len()) {
                let field = FieldPath::field(rule, clause, entry, field.of(attribute));
                self.add(value.line(), field, over.into());
            }
        }
    }

    fn check_spec(&mut self) {
        let policy = self.policy;
        let name = policy.name();
        for (field, text) in [("metadata.namespace", &name.namespace), ("metadata.name", &name.name)] {
            if text.is_empty() {
                self.add(0, FieldPath::Spec(field), Fault::EmptyValue);
            }
        }
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
                if refs.iter().any(|target| target.name.is_empty()) {
                    self.add(0, FieldPath::Spec("targetRefs"), Fault::EmptyValue);
                }
                for target in refs.iter().filter(|target| !target.is_supported()) {
                    let (group, kind) = (target.group.as_str().into(), target.kind.as_str().into());
                    self.add(0, FieldPath::Spec("targetRefs"), Fault::TargetKind { group, kind });
                }
            }
        }
    }

    fn check_rule(&mut self, index: usize, rule: &Rule) {
        self.check_entries(index, Clause::From, rule.sources());
        self.check_entries(index, Clause::To, rule.operations());
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

    fn check_entries<F>(&mut self, rule: usize, clause: Clause, entries: &[Entry<F>]) {
        for (index, entry) in entries.iter().enumerate() {
            self.check_entry(FieldPath::entry(rule, clause, index), entry.fields());
        }
    }

    fn check_entry(&mut self, place: FieldPath, fields: &[Constraint]) {
        if fields.iter().all(|field| all_values(field).next().is_none()) {
            self.add(0, place, Fault::EmptyEntry);
            return;
        }
        let has = |attribute| fields.iter().any(|field| *field.attribute() == attribute);
        if has(Attribute::ServiceAccount) && (has(Attribute::Principal) || has(Attribute::Namespace)) {
            self.add(0, place.clone(), Fault::MixedIdentity);
        }
        let accounts = fields
            .iter()
            .filter(|field| *field.attribute() == Attribute::ServiceAccount);
        for field in accounts {
            if field.any_of().len().max(field.none_of().len()) > MAX_SERVICE_ACCOUNTS {
                self.add(0, place.clone(), Fault::ServiceAccountCount);
            }
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
        for (field, value) in placed_values(constraint) {
            if let Err(fault) = check_value(attribute, value.text()) {
                let field = FieldPath::field(rule, clause, entry, field.of(attribute));
                self.add(value.line(), field, fault);
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

/// Where a value stands in its constraint.
struct ValuePlace {
    negated: bool,
    index: usize,
}

impl ValuePlace {
    fn of(&self, attribute: &Attribute) -> FieldValue {
        FieldValue {
            attribute: attribute.clone(),
            negated: self.negated,
            value: Some(self.index),
        }
    }
}

fn placed_values(constraint: &Constraint) -> impl Iterator<Item = (ValuePlace, &Value)> {
    let twins = [(false, constraint.any_of()), (true, constraint.none_of())];
    twins.into_iter().flat_map(|(negated, values)| {
        let values = values.iter().enumerate();
        values.map(move |(index, value)| (ValuePlace { negated, index }, value))
    })
}

/// The line of the first value, 0 if there is none.
fn line_of<'r>(mut constraints: impl Iterator<Item = (Clause, usize, &'r Constraint)>) -> u32 {
    let value = constraints.find_map(|(_, _, constraint)| all_values(constraint).next());
    value.map_or(0, Value::line)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::{
        model::{Condition, Operation, OperationField, Source, SourceField},
        target::{Labels, TargetRef},
    };

    /// All findings, without the name of the policy.
    fn findings(policy: &AuthorizationPolicy) -> Vec<String> {
        let found = policy.validate(&Budget::new());
        found
            .iter()
            .map(|invalid| format!("{}: {}", invalid.field, invalid.fault))
            .collect()
    }

    fn of_rule(rule: Rule) -> Vec<String> {
        findings(&AuthorizationPolicy::allow("n", "p").rule(rule))
    }

    fn from(field: SourceField, value: &str) -> Rule {
        Rule::new().from(Source::new().any_of(field, [value]))
    }

    fn when(key: &str) -> Condition {
        Condition::new(key.parse().unwrap())
    }

    #[test]
    fn the_bytes_of_a_key_are_limited_as_those_of_a_value() {
        let header = |bytes: usize| format!("request.headers[{}]", "a".repeat(bytes - "request.headers[]".len()));
        let rule = |bytes| Rule::new().when(when(&header(bytes)).any_of(["x"]));
        assert_eq!(of_rule(rule(4096)), [""; 0]);
        assert_eq!(
            of_rule(rule(4097)),
            ["rules[0].when[0]: 4097 bytes in a value or key are more than 4096"]
        );
    }

    #[test]
    fn what_denies_needs_rules() {
        assert_eq!(findings(&AuthorizationPolicy::allow("n", "p")), [""; 0]);
        assert_eq!(findings(&AuthorizationPolicy::audit("n", "p")), [""; 0]);
        let expected = ["rules: a policy that denies needs a rule, `{}` for everything"];
        assert_eq!(findings(&AuthorizationPolicy::deny("n", "p")), expected);
        assert_eq!(findings(&AuthorizationPolicy::custom("n", "p", "opa")), expected);
    }

    #[test]
    fn entries_ask_for_something() {
        let empty = Rule::new()
            .from(Source::new())
            .to(Operation::new())
            .when(when("source.ip"));
        assert_eq!(
            of_rule(empty),
            [
                "rules[0].from[0].source: the entry has no field",
                "rules[0].to[0].operation: the entry has no field",
                "rules[0].when[0]: the condition has no values",
            ]
        );
    }

    #[test]
    fn values_are_of_their_kind() {
        for (field, value, valid) in [
            (SourceField::Principals, "", false),
            (SourceField::IpBlocks, "10.0.0.0/8", true),
            (SourceField::IpBlocks, "10.0.0.0/33", false),
            (SourceField::RemoteIpBlocks, "::1", true),
            (SourceField::RemoteIpBlocks, "1.2.3", false),
            (SourceField::ServiceAccounts, "a/b", true),
            (SourceField::ServiceAccounts, "b", true),
            (SourceField::ServiceAccounts, "a/b/c", false),
            (SourceField::ServiceAccounts, "a/*", false),
            (SourceField::ServiceAccounts, "/b", false),
        ] {
            assert_eq!(of_rule(from(field, value)).is_empty(), valid, "{field:?} {value}");
        }
        for (field, value, valid) in [
            (OperationField::Ports, "65535", true),
            (OperationField::Ports, "65536", false),
            (OperationField::Paths, "/a/{*}", true),
            (OperationField::Paths, "/{*}/{name}", false),
            (OperationField::Hosts, "", false),
        ] {
            let rule = Rule::new().to(Operation::new().none_of(field, [value]));
            assert_eq!(of_rule(rule).is_empty(), valid, "{field:?} {value}");
        }
        assert!(!of_rule(Rule::new().when(when("destination.port").any_of(["http"]))).is_empty());
    }

    #[test]
    fn service_accounts_stand_alone() {
        let mixed = Source::new()
            .any_of(SourceField::ServiceAccounts, ["a/b"])
            .none_of(SourceField::Namespaces, ["c"]);
        let expected = ["rules[0].from[0].source: service accounts exclude principals and namespaces"];
        assert_eq!(of_rule(Rule::new().from(mixed)), expected);
    }

    #[test]
    fn custom_knows_no_identity_and_needs_a_provider() {
        let policy = AuthorizationPolicy::custom("n", "p", "Not A Label").rule(from(SourceField::Principals, "*"));
        assert_eq!(
            findings(&policy),
            [
                "provider.name: `Not A Label` is no name of a provider",
                "rules[0].from[0].source: a CUSTOM policy cannot ask for `source.principal`",
            ]
        );
        let addresses = AuthorizationPolicy::custom("n", "p", "opa").rule(from(SourceField::IpBlocks, "10.0.0.1"));
        assert_eq!(findings(&addresses), [""; 0]);
    }

    #[test]
    fn only_what_allows_and_denies_is_tried_out() {
        let audit = AuthorizationPolicy::audit("n", "p").dry_run(true);
        assert_eq!(
            findings(&audit),
            ["action: a policy that is tried out allows or denies"]
        );
    }

    #[test]
    fn targets_are_of_known_kinds() {
        let starred = Labels::from([("app".to_owned(), "*".to_owned())]);
        let policy = AuthorizationPolicy::allow("n", "p");
        assert_eq!(findings(&policy.clone().selector(starred)).len(), 1);
        assert_eq!(
            findings(&policy.clone().target_refs([TargetRef::service("s")])),
            [""; 0]
        );
        let pod = TargetRef::new("", "Pod", "p");
        assert_eq!(
            findings(&policy.clone().target_refs([pod])),
            ["targetRefs: a policy cannot refer to the kind `Pod` of the group ``"]
        );
        let many = (0..17).map(|at| TargetRef::service(&at.to_string()));
        assert_eq!(
            findings(&policy.target_refs(many)),
            ["targetRefs: a policy has at most 16 target references"]
        );
    }

    #[test]
    fn sources_have_so_many_service_accounts() {
        let accounts = |count: usize| (0..count).map(|at| format!("a/{at}"));
        for field in [SourceField::ServiceAccounts, SourceField::Principals] {
            let most = Source::new().any_of(field, accounts(16)).none_of(field, accounts(16));
            assert_eq!(of_rule(Rule::new().from(most)), [""; 0]);
        }
        let expected = ["rules[0].from[0].source: a list has at most 16 service accounts"];
        for source in [
            Source::new().any_of(SourceField::ServiceAccounts, accounts(17)),
            Source::new().none_of(SourceField::ServiceAccounts, accounts(17)),
        ] {
            assert_eq!(of_rule(Rule::new().from(source)), expected);
        }
        let condition = when("source.serviceAccount").any_of(accounts(17));
        assert_eq!(of_rule(Rule::new().when(condition)), [""; 0]);
    }

    #[test]
    fn policies_and_what_they_refer_to_have_names() {
        for (namespace, name, field) in [("n", "", "metadata.name"), ("", "p", "metadata.namespace")] {
            let policy = AuthorizationPolicy::allow(namespace, name);
            assert_eq!(findings(&policy), [format!("{field}: the value is empty")]);
        }
        let policy = AuthorizationPolicy::allow("n", "p").target_refs([TargetRef::service("")]);
        assert_eq!(findings(&policy), ["targetRefs: the value is empty"]);
    }

    #[test]
    fn what_exceeds_the_budget_is_not_looked_at() {
        let rules = (0..3).map(|_| from(SourceField::IpBlocks, "nowhere"));
        let policy = rules.fold(AuthorizationPolicy::allow("n", "p"), AuthorizationPolicy::rule);
        let found = policy.validate(&Budget::new().with_limit(Resource::Rules, 2));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "policy `n/p`: rules[2]: 3 rules in a policy are more than 2"
        );
    }

    #[test]
    fn what_exceeds_the_budget_is_reported_where_the_first_too_many_stands() {
        let at = |line: u32| [Value::at("10.0.0.1", line)];
        let full = (0..513).fold(Rule::new(), |rule, line| {
            rule.from(Source::new().any_of(SourceField::IpBlocks, at(line)))
                .to(Operation::new().any_of(OperationField::Hosts, at(1000 + line)))
                .when(when("source.ip").none_of(at(2000 + line)))
        });
        let policy = AuthorizationPolicy::allow("n", "p")
            .rule(Rule::new())
            .rule(full)
            .read_from(&"f".into(), 7);
        let found = policy.validate(&Budget::new());
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        let too_many = "513 entries in a clause are more than 512";
        assert_eq!(
            found,
            [
                format!("f:512: policy `n/p`: rules[1].from[512].source: {too_many}"),
                format!("f:1512: policy `n/p`: rules[1].to[512].operation: {too_many}"),
                format!("f:2512: policy `n/p`: rules[1].when[512]: {too_many}"),
            ]
        );
        let long = Value::at(&"a".repeat(4097), 9);
        let rule = Rule::new().from(Source::new().none_of(SourceField::Principals, [Value::at("a", 8), long]));
        let policy = AuthorizationPolicy::allow("n", "p")
            .rule(rule)
            .read_from(&"f".into(), 7);
        assert_eq!(
            policy.validate(&Budget::new())[0].to_string(),
            "f:9: policy `n/p`: rules[0].from[0].source.notPrincipals[1]: 4097 bytes in a value or key are more than 4096"
        );
    }
}
