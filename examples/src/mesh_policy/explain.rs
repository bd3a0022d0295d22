//! How every rule answers to one connection or request.

use std::fmt::Write;

use mesh_policy::authz::model::{Constraint, Value};
use mesh_policy::authz::{
    AuthorizationPolicy, Decision, DenyReason, ExplainedField, ExplainedRule, Explanation, Note, PolicySet, Truth,
    Verdict,
};
use serde::Serialize;

use super::check::{Answer, RulePlace, write_origin};
use super::facts::{self, Written, describe};
use super::{Failure, Out, Outcome, args, policies};

pub(super) fn run(args: &args::Question, out: &mut Out) -> Result<Outcome, Failure> {
    let sample = facts::sample(&args.facts)?;
    let policies = policies::load(&args.policies, &args.recipient)?;
    let set = args.reading.compiler().compile(policies)?;
    let (decision, explanation) = sample.with(|facts| (set.decide(facts), set.explain(facts)));
    let explained = Explained {
        answer: Answer::new(&decision, &set),
        unknown: unknown(&decision, &explanation),
        nearest_miss: explanation.nearest_miss().map(|miss| Miss {
            rule: RulePlace::of(miss.rule().policy(), miss.rule().index()),
            fields: miss.failed().iter().map(ExplainedField::label).collect(),
        }),
        policies: policies_of(&set, &explanation),
        facts: (&sample).into(),
    };
    out.print(&explained, &format!("{}\n{explained}", describe(&sample)))?;
    Ok(Outcome::found(!explained.answer.allowed))
}

#[derive(Debug, Serialize)]
struct Explained {
    #[serde(flatten)]
    answer: Answer,
    /// For a denial because of what is not known: the fields of the rule that are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
    /// For a denial because no rule allows it.
    nearest_miss: Option<Miss>,
    policies: Vec<ExplainedPolicy>,
    facts: Written,
}

/// The rule that came closest to allowing.
#[derive(Debug, Serialize)]
struct Miss {
    #[serde(flatten)]
    rule: RulePlace,
    fields: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ExplainedPolicy {
    policy: String,
    action: String,
    dry_run: bool,
    file: Option<String>,
    line: u32,
    rules: Vec<RuleAnswer>,
    /// What the dialect takes otherwise than it is written.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RuleAnswer {
    rule: usize,
    /// None for a rule that the dialect leaves out.
    matches: Option<&'static str>,
    entries: Vec<EntryAnswer>,
}

#[derive(Debug, Serialize)]
struct EntryAnswer {
    clause: &'static str,
    fields: Vec<FieldAnswer>,
}

#[derive(Debug, Serialize)]
struct FieldAnswer {
    field: String,
    is: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    one_of: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    none_of: Vec<String>,
}

fn unknown(decision: &Decision, explanation: &Explanation<'_>) -> Vec<String> {
    let Verdict::Deny(DenyReason::Unavailable(rule)) = decision.verdict() else {
        return Vec::new();
    };
    let rule = explanation.rules().iter().find(|explained| explained.rule() == rule);
    let clauses = rule.into_iter().flat_map(|rule| rule.clauses());
    let fields = clauses.flat_map(|clause| clause.entries()).flatten();
    let mut unknown = Vec::new();
    for field in fields.filter(|field| field.truth == Truth::Unknown) {
        let label = field.label();
        if !unknown.contains(&label) {
            unknown.push(label);
        }
    }
    unknown
}

fn policies_of(set: &PolicySet, explanation: &Explanation<'_>) -> Vec<ExplainedPolicy> {
    let mut policies: Vec<_> = set.policies().collect();
    policies.sort_by_key(|policy| policy.name());
    let of = |policy: &AuthorizationPolicy| {
        let answers = explanation
            .rules()
            .iter()
            .filter(|rule| rule.policy().name() == policy.name());
        let answers: Vec<_> = answers.collect();
        let rules = 0..policy.rules().len();
        // What some planes cannot know is unavailable above, where it is; and nobody wrote what a
        // PeerAuthentication was made into.
        let is_said = |note: &Note| policy.file().is_none() || matches!(note, Note::UnknownToSome { .. });
        let notes = set
            .diagnostics()
            .filter(|note| note.policy == *policy.name() && !is_said(&note.note));
        ExplainedPolicy {
            policy: policy.name().to_string(),
            action: policy.action().to_string(),
            dry_run: policy.is_dry_run(),
            file: policy.file().map(ToString::to_string),
            line: policy.line(),
            rules: rules.map(|rule| RuleAnswer::new(rule, &answers)).collect(),
            notes: notes.map(|note| format!("{}: {}", note.field, note.note)).collect(),
        }
    };
    policies.into_iter().map(|policy| of(policy)).collect()
}

impl RuleAnswer {
    fn new(rule: usize, answers: &[&ExplainedRule<'_>]) -> Self {
        let Some(answer) = answers.iter().find(|answer| answer.index() == rule) else {
            let entries = Vec::new();
            return Self {
                rule,
                matches: None,
                entries,
            };
        };
        let entries = answer.clauses().iter().flat_map(|clause| {
            let entries = clause.entries().iter().enumerate();
            entries.map(move |(at, fields)| EntryAnswer {
                clause: clause.name(),
                fields: fields
                    .iter()
                    .map(|field| FieldAnswer::new(clause.name(), field, asked(answer, clause, at, field)))
                    .collect(),
            })
        });
        Self {
            rule,
            matches: Some(truth(answer.truth())),
            entries: entries.collect(),
        }
    }
}

impl FieldAnswer {
    fn new(clause: &str, field: &ExplainedField<'_>, asked: Option<&Constraint>) -> Self {
        let texts = |values: &[Value]| values.iter().map(|value| value.text().to_owned()).collect();
        Self {
            field: if clause == "when" {
                field.attribute.to_string()
            } else {
                field.label()
            },
            is: truth(field.truth),
            one_of: asked.map_or(Vec::new(), |asked| texts(asked.any_of())),
            none_of: asked.map_or(Vec::new(), |asked| texts(asked.none_of())),
        }
    }
}

/// What the policy has in the field's place, unless the dialect left out entries before it.
fn asked<'s>(
    rule: &ExplainedRule<'s>,
    clause: &mesh_policy::authz::ExplainedClause<'s>,
    entry: usize,
    field: &ExplainedField<'s>,
) -> Option<&'s Constraint> {
    let written = rule.policy().rules().get(rule.index())?;
    let of = |fields: &'s [Constraint]| fields.iter().find(|asked| asked.attribute() == field.attribute);
    let count = clause.entries().len();
    match clause.name() {
        "from" if count == written.sources().len() => of(written.sources().get(entry)?.fields()),
        "to" if count == written.operations().len() => of(written.operations().get(entry)?.fields()),
        "when" => {
            let mut same = written.conditions().iter().map(|condition| condition.constraint());
            let asked = same.find(|asked| asked.attribute() == field.attribute)?;
            same.all(|other| other.attribute() != field.attribute).then_some(asked)
        }
        _ => None,
    }
}

fn truth(truth: Truth) -> &'static str {
    match truth {
        Truth::Yes => "true",
        Truth::Unknown => "unavailable",
        Truth::No => "false",
    }
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.answer)?;
        if !self.unknown.is_empty() {
            writeln!(f, "not known here: {}", self.unknown.join(", "))?;
        }
        if let Some(Miss { rule, fields }) = &self.nearest_miss {
            writeln!(f, "nearest miss: {rule} failed only on {}", fields.join(", "))?;
        }
        f.write_str(&self.answer.beside())?;
        self.policies.iter().try_for_each(|policy| write!(f, "\n{policy}"))
    }
}

impl std::fmt::Display for ExplainedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ", self.action, self.policy)?;
        write_origin(f, self.file.as_deref(), self.line)?;
        writeln!(f, "{}", if self.dry_run { ", only tried out (dry run)" } else { "" })?;
        if self.rules.is_empty() {
            writeln!(f, "  no rules, so it matches nothing")?;
        }
        self.rules.iter().try_for_each(|rule| write!(f, "{rule}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

impl std::fmt::Display for RuleAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answer = match self.matches {
            Some("true") => "matches",
            Some("unavailable") => "may match",
            Some(_) => "does not match",
            None => "does not count here",
        };
        writeln!(f, "  rule {}: {answer}", self.rule)?;
        let mut last = "";
        for entry in &self.entries {
            // Of sources and operations one is enough, of conditions each is needed.
            let word = if entry.clause == last && last != "when" {
                "or"
            } else {
                entry.clause
            };
            last = entry.clause;
            for (at, field) in entry.fields.iter().enumerate() {
                writeln!(f, "    {:<5} {field}", if at == 0 { word } else { "" })?;
            }
            if entry.fields.is_empty() {
                writeln!(f, "    {word:<5} anything")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for FieldAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<11} {}", self.is, self.field)?;
        let mut line = String::new();
        if !self.one_of.is_empty() {
            write!(line, " is one of [{}]", self.one_of.join(", "))?;
        }
        if !self.none_of.is_empty() {
            let and = if self.one_of.is_empty() { "" } else { " and" };
            write!(line, "{and} is none of [{}]", self.none_of.join(", "))?;
        }
        f.write_str(&line)
    }
}
