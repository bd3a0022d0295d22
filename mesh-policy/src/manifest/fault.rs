use std::{fmt, sync::Arc};

use thiserror::Error;

#[cfg(feature = "traffic")]
use crate::traffic::{field::FieldError, regex::RegexError};
use crate::{authz::model::KeyError, budget::OverBudget, facts::PeerError, normalize::PathError};

/// What is wrong with a file, and in which line, from 1.
pub type Problem = (u32, ReadFault);

/// Why a file cannot be read, in one line: file, line and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadError<F = ReadFault> {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong.
    pub fault: F,
}

impl<F: fmt::Display> fmt::Display for ReadError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.fault)
    }
}

impl<F: std::error::Error + 'static> std::error::Error for ReadError<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// It is not YAML; in the parser's words.
    #[error("this is no yaml: {problem}")]
    Syntax {
        /// What the parser says.
        problem: Box<str>,
    },
    /// It refers back to something in the file, which could make it grow without end.
    #[error("an alias is not supported: write out what it stands for")]
    Alias,
    /// A mapping has the same name twice.
    #[error("`{}` is there twice", .field.escape_debug())]
    Duplicate {
        /// The field.
        field: Box<str>,
    },
    /// A name in a mapping is no text.
    #[error("the name of a field is no text")]
    FieldName,
    /// A field has a value of the wrong type.
    #[error("`{}` is not {expected}", .field.escape_debug())]
    Type {
        /// The field, with the path to it.
        field: Box<str>,
        /// What it should be.
        expected: &'static str,
    },
    /// A field is missing.
    #[error("`{}` is missing", .field.escape_debug())]
    Missing {
        /// The field, with the path to it.
        field: Box<str>,
    },
    /// The API has no such field.
    #[error("there is no field `{}`", .field.escape_debug())]
    UnknownField {
        /// The field, with the path to it.
        field: Box<str>,
    },
    /// A field has a value that it cannot have.
    #[error("`{}` cannot be `{}`", .field.escape_debug(), .value.escape_debug())]
    Value {
        /// The field, with the path to it.
        field: Box<str>,
        /// The value.
        value: Box<str>,
    },
    /// A list that must not be empty is.
    #[error("`{}` is empty", .field.escape_debug())]
    EmptyList {
        /// The field, with the path to it.
        field: Box<str>,
    },
    /// The API has this field, and nothing here carries it out.
    #[error("`{}` is not supported", .field.escape_debug())]
    Unsupported {
        /// The field, with the path to it.
        field: Box<str>,
    },
    /// Two fields exclude each other.
    #[error("`{}` and `{}` exclude each other", .field.escape_debug(), .other.escape_debug())]
    Excluded {
        /// The one, with the path to it.
        field: Box<str>,
        /// The other.
        other: Box<str>,
    },
    /// A list is longer than the API has it.
    #[error("`{}` has more than {limit} entries", .field.escape_debug())]
    TooMany {
        /// The list, with the path to it.
        field: Box<str>,
        /// How many there may be.
        limit: usize,
    },
    /// A regular expression.
    #[cfg(feature = "traffic")]
    #[error("`{}`: {fault}", .field.escape_debug())]
    Expression {
        /// The field that has it.
        field: Box<str>,
        /// What is wrong with it.
        fault: RegexError,
    },
    /// The name or the value of a header.
    #[cfg(feature = "traffic")]
    #[error("`{}`: {fault}", .field.escape_debug())]
    Header {
        /// The field that has it.
        field: Box<str>,
        /// What is wrong with it.
        fault: FieldError,
    },
    /// A policy has more than one of `selector`, `targetRef` and `targetRefs`.
    #[error("a policy has one of `selector`, `targetRef` and `targetRefs`")]
    Targets,
    /// The key of a condition.
    #[error("`{}`: {fault}", .key.escape_debug())]
    Key {
        /// The key.
        key: Box<str>,
        /// What is wrong with it.
        fault: KeyError,
    },
    /// The API has no such kind.
    #[error("there is no kind `{}` in the api", .kind.escape_debug())]
    Kind {
        /// The object's `kind`.
        kind: Box<str>,
    },
    /// The version of the API is unknown, or missing.
    #[error("`{}` is no known version of the api", .api_version.escape_debug())]
    Version {
        /// The object's `apiVersion`.
        api_version: Box<str>,
    },
    /// The path of a request.
    #[error("`{}`: {fault}", .path.escape_debug())]
    Path {
        /// The path.
        path: Box<str>,
        /// What is wrong with it.
        fault: PathError,
    },
    /// The names of a peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// There is too much of something.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}
