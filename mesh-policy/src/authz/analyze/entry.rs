//! Fields that must match together.

use std::collections::BTreeSet;

use super::{finding::Finding, identity::Shape, value};
use crate::{
    authz::{
        compile::{
            PolicySet,
            test::Test,
            value::{Effect, Reader},
        },
        cover::{Effort, RuleView, has_one_value},
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
    effort: &Effort,
    findings: &mut Vec<Diagnostic<Finding>>,
) {
    for (index, rule) in policy.rules().iter().enumerate() {
        let view = views.iter().find(|view| view.name.index() == index);
        let mut check = Check {
            reader: set.reader(policy),
            policy,
            index,
            known: view.map_or(BTreeSet::new(), |view| view.attributes().collect()),
            effort,
            findings,
        };
        for (clause, entry, constraint) in constraints(rule) {
            value::check(
                set.dialect(),
                policy,
                (index, clause, entry),
                constraint,
                effort,
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
    known: BTreeSet<&'c Attribute>,
    effort: &'c Effort,
    findings: &'c mut Vec<Diagnostic<Finding>>,
}

/// A field, with what its values ask.
struct Asked<'c> {
    constraint: &'c Constraint,
    /// Of each value.
    tests: Vec<Vec<Test>>,
    /// Of each value that is part of an identity and says so much.
    shapes: Vec<Option<Shape>>,
    /// Whether there are values, and the dialect can read them all.
    is_read: bool,
}

impl Check<'_> {
    fn rule(&mut self, rule: &Rule) {
        let conditions = rule.conditions().iter().map(|condition| condition.constraint());
        let conditions: Vec<_> = conditions.map(|constraint| self.asked(constraint)).collect();
        let sources = rule.sources().iter().map(|source| source.fields());
        let operations = rule.operations().iter().map(|operation| operation.fields());
        let mut is_dead = self.entry(Clause::When, 0, &[], &conditions);
        for (clause, entries) in [
            (Clause::From, sources.collect::<Vec<_>>()),
            (Clause::To, operations.collect::<Vec<_>>()),
        ] {
            let dead = entries.iter().enumerate().filter(|(entry, fields)| {
                let fields: Vec<_> = fields.iter().map(|constraint| self.asked(constraint)).collect();
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
    fn entry(&mut self, clause: Clause, entry: usize, fields: &[Asked<'_>], conditions: &[Asked<'_>]) -> bool {
        let by_itself = clause == Clause::When;
        let own = if by_itself { conditions } else { fields };
        let mut is_dead = false;
        for (at, asked) in own.iter().enumerate() {
            let constraint = asked.constraint;
            if !self.known.contains(constraint.attribute()) {
                continue;
            }
            let entry = if by_itself { at } else { entry };
            if self.is_excluded(asked) {
                let attribute = constraint.attribute().clone();
                self.add(clause, entry, constraint, true, Finding::Excluded { attribute });
                is_dead = true;
            }
            is_dead |= self.never_passes(constraint);
            let more = if by_itself { &[] } else { conditions };
            for other in own.iter().skip(at + 1).chain(more) {
                if !self.effort.spend() {
                    return is_dead;
                }
                if self.is_disjoint(asked, other) {
                    let (one, other) = (constraint.attribute().clone(), other.constraint.attribute().clone());
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
    fn is_excluded(&self, asked: &Asked<'_>) -> bool {
        let attribute = asked.constraint.attribute();
        let negated = asked.constraint.none_of().iter();
        let negated: Vec<_> = negated.flat_map(|value| self.tests(attribute, value, true)).collect();
        let is_out = |tests: &Vec<Test>| {
            let negated = |test: &Test| self.effort.any(&negated, |other| test.implies(other));
            !tests.is_empty() && tests.iter().all(negated)
        };
        !asked.tests.is_empty() && asked.tests.iter().all(is_out)
    }

    /// Whether each of the values is one that no request has.
    fn never_passes(&self, constraint: &Constraint) -> bool {
        let values = constraint.any_of();
        let never = |value: &Value| value::never_passes(constraint.attribute(), value.text());
        !values.is_empty() && values.iter().all(never)
    }

    fn is_disjoint(&self, one: &Asked<'_>, other: &Asked<'_>) -> bool {
        if !one.is_read || !other.is_read {
            return false;
        }
        let (first, second) = (one.constraint.attribute(), other.constraint.attribute());
        if first.is_identity() && second.is_identity() {
            let apart = |one: &Option<Shape>, other: &Option<Shape>| matches!((one, other), (Some(one), Some(other)) if one.excludes(other));
            return one
                .shapes
                .iter()
                .all(|shape| self.effort.all(&other.shapes, |other| apart(shape, other)));
        }
        let apart = |tests: &Vec<Test>, others: &Vec<Test>| {
            tests.iter().all(|test| others.iter().all(|other| test.excludes(other)))
        };
        first == second
            && has_one_value(first)
            && one
                .tests
                .iter()
                .all(|tests| self.effort.all(&other.tests, |others| apart(tests, others)))
    }

    fn asked<'v>(&self, constraint: &'v Constraint) -> Asked<'v> {
        let (attribute, values) = (constraint.attribute(), constraint.any_of().iter());
        let namespace = &self.policy.name().namespace;
        let shape = |value: &Value| Shape::of(attribute, value.text(), namespace);
        let shapes = values.clone().map(shape).collect();
        let tests: Vec<_> = values.map(|value| self.tests(attribute, value, false)).collect();
        Asked {
            is_read: !tests.is_empty() && tests.iter().all(|tests| !tests.is_empty()),
            constraint,
            tests,
            shapes,
        }
    }

    /// What a value asks, as the dialect reads it, of a peer that has one name.
    fn tests(&self, attribute: &Attribute, value: &Value, negated: bool) -> Vec<Test> {
        let effect = match (*self.policy.action() == Action::Allow) != negated {
            true => Effect::Admits,
            false => Effect::Stops,
        };
        let mut tests = Vec::new();
        // Of a value that cannot be read nothing is asked, which the compiler reports.
        drop(self.reader.read(attribute, value.text(), effect, &mut tests));
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
