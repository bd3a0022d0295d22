//! Fields that must match together.

use super::{finding::Finding, identity::Shape, value};
use crate::{
    authz::{
        compile::{
            PolicySet,
            test::Test,
            value::{Effect, Reader},
        },
        cover::{RuleView, has_one_value},
        dialect::Diagnostic,
        invalid::{Clause, FieldPath, FieldValue},
        model::{Action, AuthorizationPolicy, Constraint, Rule, Value},
        validate::constraints,
    },
    facts::Attribute,
    matcher::principal::{NamespacePattern, Reading},
};

/// `views` are the policy's rules as its dialect has them.
pub(super) fn check(
    set: &PolicySet,
    policy: &AuthorizationPolicy,
    views: &[&RuleView<'_>],
    findings: &mut Vec<Diagnostic<Finding>>,
) {
    for (index, rule) in policy.rules().iter().enumerate() {
        let view = views.iter().find(|view| view.name.index() == index);
        let mut check = Check {
            reader: set.reader(policy),
            policy,
            index,
            known: view.map_or(Vec::new(), |view| view.attributes().collect()),
            findings,
        };
        for (clause, entry, constraint) in constraints(rule) {
            value::check(
                set.dialect(),
                policy,
                (index, clause, entry),
                constraint,
                check.findings,
            );
        }
        // What the dialect leaves out has a note that says so.
        if view.is_some() {
            check.rule(rule);
        }
    }
}

/// The first line of a rule that has a value, or 0.
pub(super) fn line_of(policy: &AuthorizationPolicy, rule: usize) -> u32 {
    line_at(policy, &FieldPath::Rule { rule, part: None }).unwrap_or(0)
}

/// The first line of what has a value at a place that names no value itself.
pub(super) fn line_at(policy: &AuthorizationPolicy, field: &FieldPath) -> Option<u32> {
    let FieldPath::Rule { rule, part } = field else {
        return None;
    };
    if part.as_ref().is_some_and(|part| part.field.is_some()) {
        return None;
    }
    let is_there = |clause: Clause, entry: usize| {
        let part = part.as_ref();
        part.is_none_or(|part| part.clause == clause && part.entry == entry)
    };
    let values = constraints(policy.rules().get(*rule)?)
        .filter(|(clause, entry, _)| is_there(*clause, *entry))
        .flat_map(|(_, _, constraint)| constraint.any_of().iter().chain(constraint.none_of()));
    values.map(Value::line).filter(|line| *line > 0).min()
}

struct Check<'c> {
    reader: Reader<'c>,
    policy: &'c AuthorizationPolicy,
    /// Of the rule.
    index: usize,
    /// What the dialect has of the rule's attributes.
    known: Vec<&'c Attribute>,
    findings: &'c mut Vec<Diagnostic<Finding>>,
}

impl Check<'_> {
    fn rule(&mut self, rule: &Rule) {
        let conditions = rule.conditions().iter().map(|condition| condition.constraint());
        let conditions: Vec<_> = conditions.collect();
        let sources = rule.sources().iter().map(|source| source.fields());
        let operations = rule.operations().iter().map(|operation| operation.fields());
        let mut is_dead = self.entry(Clause::When, 0, &[], &conditions);
        for (clause, entries) in [
            (Clause::From, sources.collect::<Vec<_>>()),
            (Clause::To, operations.collect::<Vec<_>>()),
        ] {
            let dead = entries.iter().enumerate().filter(|(entry, fields)| {
                let fields: Vec<_> = fields.iter().collect();
                self.entry(clause, *entry, &fields, &conditions)
            });
            let dead = dead.count();
            is_dead |= dead > 0 && dead == entries.len();
        }
        if is_dead {
            let (rule, part) = (self.index, None);
            let line = line_of(self.policy, self.index);
            let field = FieldPath::Rule { rule, part };
            self.findings
                .push(Diagnostic::new(self.policy, line, field, Finding::NeverMatches));
        }
        if *self.policy.action() == Action::Allow {
            self.admissions(rule);
        }
    }

    /// Whether an entry can never match, given the conditions of its rule; without fields, whether
    /// the conditions cannot by themselves.
    fn entry(&mut self, clause: Clause, entry: usize, fields: &[&Constraint], conditions: &[&Constraint]) -> bool {
        let by_itself = clause == Clause::When;
        let own = if by_itself { conditions } else { fields };
        let is_known = |constraint: &&&Constraint| self.known.contains(&constraint.attribute());
        let mut is_dead = false;
        let known: Vec<_> = own.iter().enumerate().filter(|(_, own)| is_known(own)).collect();
        for (at, constraint) in known {
            let entry = if by_itself { at } else { entry };
            if self.is_excluded(constraint) {
                let attribute = constraint.attribute().clone();
                self.add(clause, entry, constraint, true, Finding::Excluded { attribute });
                is_dead = true;
            }
            is_dead |= self.never_passes(constraint);
            let others = own.iter().skip(at + 1);
            let others: Vec<_> = if by_itself {
                others.collect()
            } else {
                others.chain(conditions).collect()
            };
            for other in others {
                if self.is_disjoint(constraint, other) {
                    let (one, other) = (constraint.attribute().clone(), other.attribute().clone());
                    self.add(clause, entry, constraint, false, Finding::Disjoint { one, other });
                    is_dead = true;
                }
            }
        }
        is_dead
    }

    /// What a rule lets in by only keeping something out.
    fn admissions(&mut self, rule: &Rule) {
        let conditions = rule.conditions().iter().map(|condition| condition.constraint());
        let conditions: Vec<_> = conditions.collect();
        let is_token = |attribute: &Attribute| {
            matches!(
                attribute,
                Attribute::RequestPrincipal | Attribute::Audiences | Attribute::Presenter | Attribute::Claim(_)
            )
        };
        type Kind<'k> = &'k dyn Fn(&Attribute) -> bool;
        let kinds: [(Kind<'_>, Finding); 2] = [
            (&Attribute::is_identity, Finding::AdmitsPlaintext),
            (&is_token, Finding::AdmitsTokenless),
        ];
        for (is_kind, finding) in kinds {
            let asks = |constraint: &&Constraint| is_kind(constraint.attribute()) && !constraint.any_of().is_empty();
            if conditions.iter().copied().any(|constraint| asks(&constraint)) {
                continue;
            }
            let sources = rule
                .sources()
                .iter()
                .map(|source| source.fields().iter().collect::<Vec<_>>());
            let sources: Vec<_> = sources.collect();
            let in_every_source = !sources.is_empty() && sources.iter().all(|fields| fields.iter().any(asks));
            if in_every_source {
                continue;
            }
            let entries = sources
                .iter()
                .enumerate()
                .map(|(entry, fields)| (Clause::From, entry, fields.clone()));
            let when = conditions
                .iter()
                .enumerate()
                .map(|(entry, field)| (Clause::When, entry, vec![*field]));
            for (clause, entry, fields) in entries.chain(when) {
                let negated = |field: &&&Constraint| is_kind(field.attribute()) && !field.none_of().is_empty();
                if let Some(field) = fields.iter().find(negated)
                    && !fields.iter().any(asks)
                {
                    self.add(clause, entry, field, true, finding.clone());
                }
            }
        }
    }

    /// Whether every value is negated again.
    fn is_excluded(&self, constraint: &Constraint) -> bool {
        let attribute = constraint.attribute();
        let negated: Vec<_> = constraint
            .none_of()
            .iter()
            .flat_map(|value| self.tests(attribute, value, true))
            .collect();
        let is_out = |value: &Value| {
            let tests = self.tests(attribute, value, false);
            !tests.is_empty() && tests.iter().all(|test| negated.iter().any(|other| test.implies(other)))
        };
        !constraint.any_of().is_empty() && constraint.any_of().iter().all(is_out)
    }

    /// Whether each of the values is one that no request has.
    fn never_passes(&self, constraint: &Constraint) -> bool {
        let values = constraint.any_of();
        let never = |value: &Value| value::never_passes(constraint.attribute(), value.text());
        !values.is_empty() && values.iter().all(never)
    }

    fn is_disjoint(&self, one: &Constraint, other: &Constraint) -> bool {
        let is_read = |constraint: &Constraint| {
            let mut values = constraint.any_of().iter();
            values.all(|value| !self.tests(constraint.attribute(), value, false).is_empty())
        };
        let mut pairs = one
            .any_of()
            .iter()
            .flat_map(|value| other.any_of().iter().map(move |other| (value, other)));
        if one.any_of().is_empty() || other.any_of().is_empty() || !is_read(one) || !is_read(other) {
            return false;
        }
        let (first, second) = (one.attribute(), other.attribute());
        if first.is_identity() && second.is_identity() {
            let namespace = &self.policy.name().namespace;
            return pairs.all(|(value, other)| {
                let shapes = (
                    Shape::of(first, value.text(), namespace),
                    Shape::of(second, other.text(), namespace),
                );
                matches!(shapes, (Some(one), Some(other)) if one.excludes(&other))
            });
        }
        first == second
            && has_one_value(first)
            && pairs.all(|(value, other)| {
                let (tests, others) = (self.tests(first, value, false), self.tests(second, other, false));
                tests.iter().all(|test| others.iter().all(|other| test.excludes(other)))
            })
    }

    /// What a value asks, as the dialect reads it, of a peer that has one name.
    fn tests(&self, attribute: &Attribute, value: &Value, negated: bool) -> Vec<Test> {
        let effect = match (*self.policy.action() == Action::Allow) != negated {
            true => Effect::Admits,
            false => Effect::Stops,
        };
        let read = self.reader.read(attribute, value.text(), effect);
        let tests = read.map(|read| read.tests).unwrap_or_else(|_| Vec::new());
        tests.into_iter().map(of_one_name).collect()
    }

    fn add(&mut self, clause: Clause, entry: usize, constraint: &Constraint, negated: bool, finding: Finding) {
        let values = if negated {
            constraint.none_of()
        } else {
            constraint.any_of()
        };
        let line = values.first().map_or(0, Value::line);
        let field = FieldValue {
            attribute: constraint.attribute().clone(),
            negated,
            value: None,
        };
        let field = FieldPath::field(self.index, clause, entry, field);
        self.findings.push(Diagnostic::new(self.policy, line, field, finding));
    }
}

/// The test without the differences that only peers with several names, or unusual ones, bring about.
fn of_one_name(test: Test) -> Test {
    match test {
        Test::Principal(pattern, _) => Test::Principal(pattern, Reading::Sole),
        Test::Namespace(NamespacePattern::Name(name), _) => {
            Test::Namespace(NamespacePattern::Name(name), Reading::Sole)
        }
        Test::ServiceAccount { namespace, account, .. } => Test::ServiceAccount {
            namespace,
            account,
            reading: Reading::Sole,
        },
        Test::TrustDomain(pattern, _) => Test::TrustDomain(pattern, Reading::Sole),
        other => other,
    }
}
