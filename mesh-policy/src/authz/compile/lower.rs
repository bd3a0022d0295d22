use super::{
    test::Test,
    value::{Effect, Reader},
};
use crate::{
    authz::{
        dialect::{Diagnostic, Dialect, Note, TrustDomains},
        invalid::{Clause, Fault, FieldPath, FieldValue, Invalid},
        model::{self, Action, AuthorizationPolicy, Constraint, Rule, Value},
        target::Target,
    },
    budget::Budget,
    facts::Attribute,
};

/// A rule as its dialect has it. Lists of entries that are empty ask for nothing.
pub(super) struct LoweredRule {
    /// In the policy.
    pub(super) index: usize,
    pub(super) from: Vec<Entry>,
    pub(super) to: Vec<Entry>,
    pub(super) when: Vec<LoweredField>,
}

/// One of alternatives: all of its fields.
pub(super) struct Entry {
    pub(super) fields: Vec<LoweredField>,
}

pub(super) struct LoweredField {
    pub(super) attribute: Attribute,
    /// Of which one must pass, if there is such a requirement.
    pub(super) any: Option<Vec<Test>>,
    pub(super) none: Vec<Test>,
}

impl LoweredRule {
    /// How much it adds to a set: itself, its entries and its values.
    pub(super) fn items(&self) -> usize {
        let entries = self.from.iter().chain(&self.to);
        let fields = entries.clone().flat_map(|entry| &entry.fields).chain(&self.when);
        let values = fields.map(|field| field.any.as_ref().map_or(0, Vec::len) + field.none.len());
        1 + entries.count() + values.sum::<usize>()
    }
}

/// A policy as its dialect has it.
pub(super) struct LoweredPolicy {
    /// `false` for one that the plane knows nothing of.
    pub(super) exists: bool,
    pub(super) rules: Vec<LoweredRule>,
}

/// Reads one policy under the rules of a dialect.
pub(super) struct Lowering<'c> {
    policy: &'c AuthorizationPolicy,
    reader: Reader<'c>,
    diagnostics: &'c mut Vec<Diagnostic>,
}

/// Why a rule is left out.
struct Omitted;

impl<'c> Lowering<'c> {
    /// # Errors
    ///
    /// What is wrong with the policy, if the dialect does not take that.
    pub(super) fn run(
        policy: &'c AuthorizationPolicy,
        dialect: Dialect,
        trust_domains: &'c TrustDomains,
        budget: &Budget,
        diagnostics: &'c mut Vec<Diagnostic>,
    ) -> Result<LoweredPolicy, Vec<Invalid>> {
        let invalid = policy.validate(budget);
        // What is tried out decides nothing, and a decision tells it of ALLOW and DENY alone.
        let is_fatal = |invalid: &Invalid| {
            dialect == Dialect::Strict || matches!(invalid.fault, Fault::OverBudget(_) | Fault::DryRunAction)
        };
        if invalid.iter().any(is_fatal) {
            return Err(invalid);
        }
        for Invalid { line, field, fault, .. } in invalid {
            // What is wrong with a value is said where the value is read.
            let is_value = matches!(&field, FieldPath::Rule { part: Some(part), .. } if part.field.is_some());
            if !is_value {
                diagnostics.push(Diagnostic::new(policy, line, field, Note::Tolerated(fault)));
            }
        }
        let reader = Reader::new(dialect, trust_domains, policy);
        let mut lowering = Self {
            policy,
            reader,
            diagnostics,
        };
        Ok(lowering.policy())
    }

    fn policy(&mut self) -> LoweredPolicy {
        let mut lowered = LoweredPolicy {
            exists: true,
            rules: Vec::new(),
        };
        if self.reader.dialect == Dialect::Ztunnel {
            let note = if matches!(self.policy.target(), Target::Refs(_)) {
                Some(("targetRefs", Note::TargetIgnored))
            } else if !matches!(self.policy.action(), Action::Allow | Action::Deny) {
                Some(("action", Note::ActionIgnored))
            } else {
                None
            };
            if let Some((field, note)) = note {
                self.note(0, FieldPath::Spec(field), note);
                lowered.exists = false;
                return lowered;
            }
        }
        for (index, rule) in self.policy.rules().iter().enumerate() {
            if let Ok(rule) = self.rule(index, rule) {
                lowered.rules.push(rule);
            }
        }
        lowered
    }

    fn rule(&mut self, index: usize, rule: &Rule) -> Result<LoweredRule, Omitted> {
        let mut lowered = LoweredRule {
            index,
            from: Vec::new(),
            to: Vec::new(),
            when: Vec::new(),
        };
        lowered.from = self.entries(index, Clause::From, rule.sources())?;
        lowered.to = self.entries(index, Clause::To, rule.operations())?;
        for (entry, condition) in rule.conditions().iter().enumerate() {
            match self.field(index, Clause::When, entry, condition.constraint())? {
                Some(field) => lowered.when.push(field),
                None if self.reader.dialect == Dialect::Ztunnel => {
                    self.note(
                        0,
                        FieldPath::entry(index, Clause::When, entry),
                        Note::EntryWithoutEffect,
                    );
                    return Err(Omitted);
                }
                None => {}
            }
        }
        Ok(lowered)
    }

    fn entries<F>(&mut self, rule: usize, clause: Clause, entries: &[model::Entry<F>]) -> Result<Vec<Entry>, Omitted> {
        let mut lowered = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let mut fields = Vec::with_capacity(entry.fields().len());
            for constraint in entry.fields() {
                fields.extend(self.field(rule, clause, index, constraint)?);
            }
            // ztunnel matches an entry without fields with nothing, Envoy with everything.
            if fields.is_empty() && self.reader.dialect == Dialect::Ztunnel {
                self.note(0, FieldPath::entry(rule, clause, index), Note::EntryWithoutEffect);
            } else {
                lowered.push(Entry { fields });
            }
        }
        if lowered.is_empty() && !entries.is_empty() {
            return Err(Omitted);
        }
        Ok(lowered)
    }

    /// A field, if it is left with something to ask.
    fn field(
        &mut self,
        rule: usize,
        clause: Clause,
        entry: usize,
        constraint: &Constraint,
    ) -> Result<Option<LoweredField>, Omitted> {
        if constraint.any_of().is_empty() && constraint.none_of().is_empty() {
            return Ok(None);
        }
        let attribute = constraint.attribute();
        let place = FieldPath::entry(rule, clause, entry);
        match self.standing(clause, attribute) {
            Standing::Known | Standing::KnownToSome if attribute.is_beyond_facts() => {
                let attribute = attribute.clone();
                self.note(0, place, Note::PseudoHeader { attribute });
            }
            Standing::Known => {}
            Standing::KnownToSome => {
                let attribute = attribute.clone();
                self.note(0, place, Note::UnknownToSome { attribute });
            }
            Standing::Unknown if self.is_allow() => {
                let attribute = attribute.clone();
                self.note(0, place, Note::RuleOmitted { attribute });
                return Err(Omitted);
            }
            Standing::Unknown | Standing::Forgotten => {
                let attribute = attribute.clone();
                self.note(0, place, Note::FieldIgnored { attribute });
                return Ok(None);
            }
        }
        let mut place = Place {
            rule,
            clause,
            entry,
            attribute,
            negated: false,
        };
        let any = self.values(&place, constraint.any_of())?;
        place.negated = true;
        let none = self.values(&place, constraint.none_of())?;
        if any.is_none() && none.is_none() {
            return Ok(None);
        }
        Ok(Some(LoweredField {
            attribute: attribute.clone(),
            any,
            none: none.unwrap_or_default(),
        }))
    }

    /// The tests of a list of values; none at all if the list is none, or has lost all its values.
    fn values(&mut self, place: &Place<'_>, values: &[Value]) -> Result<Option<Vec<Test>>, Omitted> {
        let effect = match (self.is_allow(), place.negated) {
            (true, false) | (false, true) => Effect::Admits,
            (true, true) | (false, false) => Effect::Stops,
        };
        let mut tests = Vec::with_capacity(values.len());
        let mut readable = false;
        for (index, value) in values.iter().enumerate() {
            match self.reader.read(place.attribute, value.text(), effect, &mut tests) {
                Ok(note) => {
                    readable = true;
                    if let Some(note) = note {
                        self.note(value.line(), place.path(index), note);
                    }
                }
                Err(fault) if self.is_allow() && self.reader.dialect != Dialect::Ztunnel => {
                    self.note(value.line(), place.path(index), Note::RuleInvalid(fault));
                    return Err(Omitted);
                }
                Err(fault) => self.note(value.line(), place.path(index), Note::Tolerated(fault)),
            }
        }
        Ok(readable.then_some(tests))
    }

    fn standing(&self, clause: Clause, attribute: &Attribute) -> Standing {
        let ztunnel = match (clause, attribute) {
            (Clause::When, Attribute::SourceIp | Attribute::Namespace | Attribute::Principal)
            | (Clause::When, Attribute::DestinationIp | Attribute::DestinationPort)
            | (Clause::From, Attribute::ServiceAccount | Attribute::SourceIp)
            | (Clause::From, Attribute::Namespace | Attribute::Principal)
            | (Clause::To, Attribute::DestinationPort) => Standing::Known,
            // istiod leaves it out of what it sends, without a word.
            (Clause::From, Attribute::TrustDomain) => Standing::Forgotten,
            _ => Standing::Unknown,
        };
        match self.reader.dialect {
            Dialect::Ztunnel => ztunnel,
            Dialect::EnvoyTcp if attribute.is_http_only() => Standing::Unknown,
            Dialect::EnvoyTcp | Dialect::EnvoyHttp => Standing::Known,
            Dialect::Strict if matches!(ztunnel, Standing::Known) => Standing::Known,
            Dialect::Strict => Standing::KnownToSome,
        }
    }

    fn is_allow(&self) -> bool {
        *self.policy.action() == Action::Allow
    }

    fn note(&mut self, line: u32, field: FieldPath, note: Note) {
        self.diagnostics.push(Diagnostic::new(self.policy, line, field, note));
    }
}

/// Whether a dialect knows an attribute.
enum Standing {
    Known,
    /// In no dialect, but on some planes.
    KnownToSome,
    /// It does not, so that what allows by it is left out.
    Unknown,
    /// It does not, and what allows by it allows without it.
    Forgotten,
}

struct Place<'c> {
    rule: usize,
    clause: Clause,
    entry: usize,
    attribute: &'c Attribute,
    negated: bool,
}

impl Place<'_> {
    fn path(&self, value: usize) -> FieldPath {
        let field = FieldValue {
            attribute: self.attribute.clone(),
            negated: self.negated,
            value: Some(value),
        };
        FieldPath::field(self.rule, self.clause, self.entry, field)
    }
}
