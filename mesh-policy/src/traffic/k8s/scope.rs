use std::{collections::HashMap, sync::Arc};

use crate::{
    budget::{Budget, Resource},
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        backend::Invalid,
        edit::HeaderEdits,
        field::{FieldName, FieldValue},
        host::HostPattern,
        model::Rule,
        pattern::Pattern,
        regex::Regex,
    },
};

/// Header lines.
pub(super) type HeaderLines = Vec<(FieldName, FieldValue)>;

/// What the objects of a file have in common: its name, and the regular expressions in it.
pub(super) struct Scope {
    pub(super) file: Arc<str>,
    budget: Budget,
    expressions: HashMap<Box<str>, Regex>,
    /// Memory that the expressions take.
    bytes: usize,
    /// What is wrong with rules of the object that is being read.
    invalid: Vec<Problem>,
}

impl Scope {
    pub(super) fn new(file: Arc<str>, budget: &Budget) -> Self {
        Self {
            file,
            budget: budget.clone(),
            expressions: HashMap::new(),
            bytes: 0,
            invalid: Vec::new(),
        }
    }

    /// A rule whose matches are known, with the rest of what it says. If that cannot be carried out
    /// the rule still takes its requests, and fails them: no other rule is meant for them.
    pub(super) fn rule(
        &mut self,
        matched: Rule,
        rest: impl FnOnce(&mut Rule, &mut Self) -> Result<(), Problem>,
    ) -> Rule {
        let mut rule = matched.clone();
        match rest(&mut rule, self) {
            Ok(()) => rule,
            Err(problem) => Rule {
                invalid: Some(self.invalid(problem).into()),
                ..matched
            },
        }
    }

    /// What is wrong with a rule or a backend, which is reported and kept.
    pub(super) fn invalid(&mut self, (line, fault): Problem) -> Invalid {
        let mut invalid = Invalid::new(fault.to_string());
        invalid.place = Some((Arc::clone(&self.file), line));
        self.invalid.push((line, fault));
        invalid
    }

    /// What was wrong with rules since the last time.
    pub(super) fn take_invalid(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.invalid)
    }

    /// Each expression is compiled once.
    pub(super) fn regex(&mut self, line: u32, field: &str, text: &str) -> Result<Regex, Problem> {
        if let Some(known) = self.expressions.get(text) {
            return Ok(known.clone());
        }
        let regex = Regex::new(text).map_err(|fault| {
            let field = field.into();
            (line, ReadFault::Expression { field, fault })
        })?;
        let bytes = self.bytes + regex.memory();
        self.budget
            .check(Resource::ExpressionBytes, bytes)
            .map_err(|over| (line, over.into()))?;
        self.bytes = bytes;
        self.expressions.insert(text.into(), regex.clone());
        Ok(regex)
    }

    /// `type` and `value` of the Gateway API.
    pub(super) fn pattern(&mut self, object: &mut Object, name: &str, is_regex: bool) -> Result<Pattern, Problem> {
        let (line, field) = (object.line_of(name), object.path(name));
        let value = object.required_text(name)?;
        Ok(if is_regex {
            Pattern::Regex(self.regex(line, &field, &value)?)
        } else {
            Pattern::Exact(value.into())
        })
    }

    /// A `StringMatch` of Istio: one of `exact`, `prefix` and `regex`, or nothing.
    pub(super) fn string_match(&mut self, mut object: Object) -> Result<Option<Pattern>, Problem> {
        let mut found: Option<(&str, Pattern)> = None;
        for name in ["exact", "prefix", "regex"] {
            let (line, field) = (object.line_of(name), object.path(name));
            let Some(text) = object.text(name)? else {
                continue;
            };
            if let Some((other, _)) = found {
                let other = object.path(other).into();
                let field = field.into();
                return Err((line, ReadFault::Excluded { field, other }));
            }
            let pattern = match name {
                "exact" => Pattern::Exact(text.into()),
                "prefix" => Pattern::Prefix(text.into()),
                _ => Pattern::Regex(self.regex(line, &field, &text)?),
            };
            found = Some((name, pattern));
        }
        object.finish()?;
        Ok(found.map(|(_, pattern)| pattern))
    }
}

/// A host that is not one of several.
pub(super) fn precise_host(object: &mut Object, name: &str) -> Result<Option<Box<str>>, Problem> {
    object.mapped(name, |text| {
        let host: HostPattern = text.parse().ok()?;
        (!text.starts_with('*')).then(|| host.to_string().into())
    })
}

pub(super) fn hosts(object: &mut Object, name: &str) -> Result<Vec<HostPattern>, Problem> {
    let path = object.path(name);
    let texts = object.texts(name)?.into_iter();
    texts
        .map(|(line, text)| text.parse().map_err(|_| unfit(line, &path, &text)))
        .collect()
}

pub(super) fn field_name(line: u32, field: &str, name: &str) -> Result<FieldName, Problem> {
    FieldName::new(name).map_err(|fault| {
        let field = field.into();
        (line, ReadFault::Header { field, fault })
    })
}

pub(super) fn changeable(line: u32, field: &str, name: &str) -> Result<FieldName, Problem> {
    FieldName::changeable(name).map_err(|fault| {
        let field = field.into();
        (line, ReadFault::Header { field, fault })
    })
}

pub(super) fn field_value(line: u32, field: &str, value: &str) -> Result<FieldValue, Problem> {
    FieldValue::new(value).map_err(|fault| {
        let field = field.into();
        (line, ReadFault::Header { field, fault })
    })
}

/// Changes of headers, whose lines each API writes in its own way.
pub(super) fn edits(
    mut object: Object,
    lines: fn(&mut Object, &str) -> Result<HeaderLines, Problem>,
) -> Result<HeaderEdits, Problem> {
    let mut edits = HeaderEdits {
        set: lines(&mut object, "set")?,
        add: lines(&mut object, "add")?,
        remove: Vec::new(),
    };
    let path = object.path("remove");
    for (line, name) in object.texts("remove")? {
        edits.remove.push(changeable(line, &path, &name)?);
    }
    object.finish()?;
    Ok(edits)
}
