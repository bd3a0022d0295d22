//! Why a decision came out as it did.

use std::fmt;

use super::{
    compile::{
        PolicySet,
        segment::{Field, Segment},
        span::Span,
    },
    decision::{AllowReason, DenyReason, Verdict},
    model::{Action, AuthorizationPolicy, field_names},
    rule_ref::RuleRef,
    truth::Truth,
};
use crate::facts::{Attribute, Facts};

/// Every rule of a set, held against one connection or request.
///
/// Rules that the dialect leaves out are not among them: see [`PolicySet::diagnostics`].
#[derive(Clone, Debug)]
pub struct Explanation<'s> {
    set: &'s PolicySet,
    rules: Vec<ExplainedRule<'s>>,
}

/// A rule, held against one connection or request.
#[derive(Clone, Debug)]
pub struct ExplainedRule<'s> {
    rule: RuleRef,
    policy: &'s AuthorizationPolicy,
    index: usize,
    truth: Truth,
    clauses: Vec<ExplainedClause<'s>>,
}

/// A part of a rule, all of which must be true.
#[derive(Clone, Debug)]
pub struct ExplainedClause<'s> {
    name: &'static str,
    /// One of which must be true.
    entries: Vec<Vec<ExplainedField<'s>>>,
}

/// A field of a policy, held against one connection or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainedField<'s> {
    /// What it asks about.
    pub attribute: &'s Attribute,
    /// Whether what it asks is so.
    pub truth: Truth,
}

impl PolicySet {
    /// Holds every rule against a connection or a request, none of them passed over.
    ///
    /// Takes time and memory for every rule of the set: it is for people, not for traffic.
    pub fn explain<'f>(&self, facts: impl Into<Facts<'f>>) -> Explanation<'_> {
        let facts = facts.into();
        let mut rules = Vec::new();
        for (origin, segment) in self.parts() {
            for (number, rule) in segment.rules.iter().enumerate() {
                let reference = RuleRef::new(origin, number as u32);
                let Some(name) = self.rule(reference) else { continue };
                if origin.is_base() && self.is_replaced(rule.policy as usize) {
                    continue;
                }
                let when = rule.when.of(&segment.fields);
                let when = when
                    .iter()
                    .filter_map(|field| Some(vec![segment.explain(field, &facts)?]));
                let mut clauses = vec![
                    segment.explain_entries("from", rule.from, &facts),
                    segment.explain_entries("to", rule.to, &facts),
                ];
                clauses.extend(when.map(|entry| ExplainedClause {
                    name: "when",
                    entries: vec![entry],
                }));
                clauses.retain(|clause| !clause.entries.is_empty());
                rules.push(ExplainedRule {
                    rule: reference,
                    policy: name.policy(),
                    index: name.index(),
                    truth: clauses.iter().map(ExplainedClause::truth).min().unwrap_or(Truth::Yes),
                    clauses,
                });
            }
        }
        rules.sort_by_cached_key(|rule| self.rule(rule.rule).map(|name| name.to_string()));
        Explanation { set: self, rules }
    }
}

impl<'s> Explanation<'s> {
    /// The rules, by their names.
    pub fn rules(&self) -> &[ExplainedRule<'s>] {
        &self.rules
    }

    /// The verdict that follows from the rules: the one that
    /// [`decide`](PolicySet::decide) finds without looking at them all.
    pub fn verdict(&self) -> Verdict {
        let first = |action: Action, truth: Truth| {
            let mut rules = self.rules.iter();
            let found =
                rules.find(|rule| *rule.policy.action() == action && !rule.policy.is_dry_run() && rule.truth == truth);
            found.map(|rule| rule.rule)
        };
        if let Some(rule) = first(Action::Deny, Truth::Yes) {
            return Verdict::Deny(DenyReason::Matched(rule));
        }
        if let Some(rule) = first(Action::Deny, Truth::Unknown) {
            return Verdict::Deny(DenyReason::Unavailable(rule));
        }
        match first(Action::Allow, Truth::Yes) {
            Some(rule) => Verdict::Allow(AllowReason::Matched(rule)),
            None if self.set.has_allow => Verdict::Deny(DenyReason::NoAllowMatched),
            None => Verdict::Allow(AllowReason::NoAllowPolicies),
        }
    }

    /// Where no rule allows, the rule that allows but for the fewest fields; none if the verdict is
    /// another one.
    pub fn nearest_miss(&self) -> Option<NearestMiss<'_, 's>> {
        if self.verdict() != Verdict::Deny(DenyReason::NoAllowMatched) {
            return None;
        }
        let allowing = self
            .rules
            .iter()
            .filter(|rule| *rule.policy.action() == Action::Allow && !rule.policy.is_dry_run());
        let misses = allowing.map(|rule| NearestMiss {
            rule,
            failed: rule.clauses.iter().flat_map(ExplainedClause::failed).collect(),
        });
        misses.min_by_key(|miss| miss.failed.len())
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        self.nearest_miss().map_or(Ok(()), |miss| writeln!(f, "{miss}"))
    }
}

impl<'s> ExplainedRule<'s> {
    /// The rule, by which the set names it.
    pub fn rule(&self) -> RuleRef {
        self.rule
    }

    /// The policy that it is in.
    pub fn policy(&self) -> &'s AuthorizationPolicy {
        self.policy
    }

    /// The rule's index in the policy.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it matches.
    pub fn truth(&self) -> Truth {
        self.truth
    }

    /// Its parts: the sources, the operations, and each of the conditions. What the rule does not
    /// have is not among them.
    pub fn clauses(&self) -> &[ExplainedClause<'s>] {
        &self.clauses
    }
}

impl fmt::Display for ExplainedRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = if self.policy.is_dry_run() { ", tried out" } else { "" };
        let truth = match self.truth {
            Truth::Yes => "matches",
            Truth::Unknown => "may match",
            Truth::No => "does not match",
        };
        write!(
            f,
            "{} {} rule {}{tried}: {truth}",
            self.policy.action(),
            self.policy.name(),
            self.index
        )?;
        for clause in &self.clauses {
            for entry in &clause.entries {
                write!(f, "\n  {}:", clause.name)?;
                for field in entry {
                    write!(f, " {field}")?;
                }
            }
        }
        Ok(())
    }
}

impl<'s> ExplainedClause<'s> {
    /// The list of the rule that it is of: `from`, `to` or `when`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether one of its entries is true.
    pub fn truth(&self) -> Truth {
        let entries = self.entries.iter().map(|fields| all(fields));
        entries.max().unwrap_or(Truth::Yes)
    }

    /// Its entries, each a list of fields that must all be true. A condition is an entry by itself.
    pub fn entries(&self) -> &[Vec<ExplainedField<'s>>] {
        &self.entries
    }

    /// The fields that are not true, in the entry that has the fewest of them.
    fn failed(&self) -> Vec<ExplainedField<'s>> {
        let failed = self.entries.iter().map(|fields| {
            let failed = fields.iter().filter(|field| field.truth != Truth::Yes);
            failed.copied().collect::<Vec<_>>()
        });
        failed.min_by_key(Vec::len).unwrap_or_default()
    }
}

impl ExplainedField<'_> {
    /// The field as policies write it, or the key of a condition.
    pub fn label(&self) -> String {
        match field_names(self.attribute) {
            Some((plain, _)) => plain.to_owned(),
            None => self.attribute.to_string(),
        }
    }
}

impl fmt::Display for ExplainedField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let truth = match self.truth {
            Truth::Yes => "true",
            Truth::Unknown => "unavailable",
            Truth::No => "false",
        };
        write!(f, "{}={truth}", self.label())
    }
}

/// The rule that came closest to allowing.
#[derive(Clone, Debug)]
pub struct NearestMiss<'e, 's> {
    rule: &'e ExplainedRule<'s>,
    failed: Vec<ExplainedField<'s>>,
}

impl<'s> NearestMiss<'_, 's> {
    /// The rule.
    pub fn rule(&self) -> &ExplainedRule<'s> {
        self.rule
    }

    /// The fields that stood in its way.
    pub fn failed(&self) -> &[ExplainedField<'s>] {
        &self.failed
    }
}

impl fmt::Display for NearestMiss<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ExplainedRule { policy, index, .. } = self.rule;
        write!(f, "{} {} rule {index} failed only on", policy.action(), policy.name())?;
        for (at, field) in self.failed.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator} `{}`", field.label())?;
        }
        Ok(())
    }
}

impl Segment {
    fn explain_entries(&self, name: &'static str, entries: Span, facts: &Facts<'_>) -> ExplainedClause<'_> {
        let entries = entries.of(&self.entries).iter().map(|fields| {
            let fields = fields.of(&self.fields).iter();
            fields.filter_map(|field| self.explain(field, facts)).collect()
        });
        ExplainedClause {
            name,
            entries: entries.collect(),
        }
    }

    fn explain(&self, field: &Field, facts: &Facts<'_>) -> Option<ExplainedField<'_>> {
        Some(ExplainedField {
            attribute: self.attributes.get(field.attribute as usize)?,
            truth: self.field(field, facts),
        })
    }
}

fn all(fields: &[ExplainedField<'_>]) -> Truth {
    fields.iter().map(|field| field.truth).min().unwrap_or(Truth::Yes)
}

#[cfg(test)]
mod tests {
    use crate::{
        authz::{
            AuthorizationPolicy, Compiler, Dialect,
            model::{Operation, OperationField, Rule, Source, SourceField},
        },
        facts::{ConnectionFacts, Known, Peer, RequestFacts},
        normalize::PathNormalization,
    };

    #[test]
    fn a_denial_names_the_field_that_was_missed() {
        let get = |path: &str| {
            Operation::new()
                .any_of(OperationField::Methods, ["GET"])
                .any_of(OperationField::Paths, [path])
        };
        let from = |namespace: &str| Source::new().any_of(SourceField::Namespaces, [namespace]);
        let policy = AuthorizationPolicy::allow("default", "reviews")
            .rule(Rule::new().from(from("elsewhere")).to(get("/")))
            .rule(Rule::new().from(from("web")).to(get("/reviews/*")));
        let set = Compiler::new(Dialect::EnvoyHttp).compile([policy]).unwrap();
        let peer = Peer::from(&"spiffe://cluster.local/ns/web/sa/front".parse().unwrap());
        let mut buffer = Vec::new();
        let path = PathNormalization::Base.normalize(b"/ratings/1", &mut buffer).unwrap();
        let headers: [(&str, &str); 0] = [];
        let facts = RequestFacts::new(ConnectionFacts::new().peer(Known::Present(&peer)), b"GET", &headers)
            .path(Known::Present(path));
        let explanation = set.explain(&facts);
        assert_eq!(explanation.verdict(), set.decide(&facts).verdict());
        assert_eq!(
            explanation.to_string(),
            "ALLOW default/reviews rule 0: does not match\n  from: namespaces=false\n  to: methods=true paths=false\n\
             ALLOW default/reviews rule 1: does not match\n  from: namespaces=true\n  to: methods=true paths=false\n\
             ALLOW default/reviews rule 1 failed only on `paths`\n"
        );
    }
}
