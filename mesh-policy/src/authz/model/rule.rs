use std::marker::PhantomData;

use super::{
    field::{OperationField, SourceField},
    key::ConditionKey,
};
use crate::facts::Attribute;

/// A rule: one of its sources, and one of its operations, and all of its conditions. What is not
/// there is not asked for, so a rule without any of them matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    from: Vec<Source>,
    to: Vec<Operation>,
    when: Vec<Condition>,
}

impl Rule {
    /// The rule that matches everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source, one of which must match.
    #[must_use]
    pub fn from(mut self, source: Source) -> Self {
        self.from.push(source);
        self
    }

    /// Adds an operation, one of which must match.
    #[must_use]
    pub fn to(mut self, operation: Operation) -> Self {
        self.to.push(operation);
        self
    }

    /// Adds a condition, all of which must match.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.when.push(condition);
        self
    }

    /// Gives back what was taken in advance.
    #[cfg(feature = "k8s")]
    pub(super) fn shrink(&mut self) {
        self.from.shrink_to_fit();
        self.from.iter_mut().for_each(Entry::shrink);
        self.to.shrink_to_fit();
        self.to.iter_mut().for_each(Entry::shrink);
        self.when.shrink_to_fit();
        self.when.iter_mut().for_each(|condition| condition.constraint.shrink());
    }

    /// The sources.
    pub fn sources(&self) -> &[Source] {
        &self.from
    }

    /// The operations.
    pub fn operations(&self) -> &[Operation] {
        &self.to
    }

    /// The conditions.
    pub fn conditions(&self) -> &[Condition] {
        &self.when
    }
}

/// An entry of `from`: all of its fields must match.
pub type Source = Entry<SourceField>;

/// An entry of `to`: all of its fields must match.
pub type Operation = Entry<OperationField>;

/// An entry of a list of alternatives, with fields of one kind: all of them must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<F> {
    fields: Vec<Constraint>,
    kind: PhantomData<F>,
}

impl<F: Into<Attribute>> Entry<F> {
    /// An entry without fields, which no policy in use has: planes take it differently.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for one of these values.
    #[must_use]
    pub fn any_of(mut self, field: F, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        constraint(&mut self.fields, field.into())
            .any_of
            .extend(values.into_iter().map(Into::into));
        self
    }

    /// Asks for none of these values: the field's twin that begins with `not`.
    #[must_use]
    pub fn none_of(mut self, field: F, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        constraint(&mut self.fields, field.into())
            .none_of
            .extend(values.into_iter().map(Into::into));
        self
    }
}

impl<F> Entry<F> {
    /// The fields, each with its twin.
    pub fn fields(&self) -> &[Constraint] {
        &self.fields
    }

    #[cfg(feature = "k8s")]
    fn shrink(&mut self) {
        self.fields.shrink_to_fit();
        self.fields.iter_mut().for_each(Constraint::shrink);
    }
}

impl<F> Default for Entry<F> {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            kind: PhantomData,
        }
    }
}

/// An entry of `when`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    constraint: Constraint,
}

impl Condition {
    /// A condition that has yet to be given values.
    pub fn new(key: ConditionKey) -> Self {
        Self {
            constraint: Constraint::new(key.into_attribute()),
        }
    }

    /// Asks for one of these values (`values`).
    #[must_use]
    pub fn any_of(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.constraint.any_of.extend(values.into_iter().map(Into::into));
        self
    }

    /// Asks for none of these values (`notValues`).
    #[must_use]
    pub fn none_of(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.constraint.none_of.extend(values.into_iter().map(Into::into));
        self
    }

    /// What is asked.
    pub fn constraint(&self) -> &Constraint {
        &self.constraint
    }
}

/// What is asked of one attribute: one of the values, if there are any, and none of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    attribute: Attribute,
    any_of: Vec<Value>,
    none_of: Vec<Value>,
}

impl Constraint {
    fn new(attribute: Attribute) -> Self {
        Self {
            attribute,
            any_of: Vec::new(),
            none_of: Vec::new(),
        }
    }

    #[cfg(feature = "k8s")]
    fn shrink(&mut self) {
        self.any_of.shrink_to_fit();
        self.none_of.shrink_to_fit();
    }

    /// What it is asked of.
    pub fn attribute(&self) -> &Attribute {
        &self.attribute
    }

    /// The values of which one must match; none are no requirement.
    pub fn any_of(&self) -> &[Value] {
        &self.any_of
    }

    /// The values of which none may match.
    pub fn none_of(&self) -> &[Value] {
        &self.none_of
    }
}

/// A value as it is written, and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    text: Box<str>,
    line: u32,
}

impl Value {
    /// A value that was read in a line of a file; lines count from 1.
    pub fn at(text: &str, line: u32) -> Self {
        Self {
            text: text.into(),
            line,
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line, or 0 if the value was not read from a file.
    pub fn line(&self) -> u32 {
        self.line
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::at(text, 0)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self {
            text: text.into(),
            line: 0,
        }
    }
}

/// The constraint on an attribute, of which an entry has one.
fn constraint(fields: &mut Vec<Constraint>, attribute: Attribute) -> &mut Constraint {
    let at = fields
        .iter()
        .position(|field| field.attribute == attribute)
        .unwrap_or_else(|| {
            fields.push(Constraint::new(attribute));
            fields.len() - 1
        });
    #[expect(
        clippy::indexing_slicing,
        reason = "the index was found or pushed in the line before"
    )]
    &mut fields[at]
}
