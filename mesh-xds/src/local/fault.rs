use thiserror::Error;

use crate::store::ResourceError;

/// Bytes of a file: some hundred thousand workloads.
pub const MAX_LENGTH: usize = 128 << 20;

/// How deeply values may lie in each other. A policy's need nine.
pub const MAX_DEPTH: usize = 32;

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LocalFault {
    /// It is longer than a file may be.
    #[error("the file has {0} bytes, more than {MAX_LENGTH}")]
    TooLong(usize),
    /// It is not YAML. What the parser says of it.
    #[error("no YAML: {0}")]
    Syntax(String),
    /// Values lie in each other too deeply.
    #[error("values lie in each other more than {MAX_DEPTH} times")]
    TooDeep,
    /// A part stands for another one.
    #[error("anchors and aliases are not supported")]
    Alias,
    /// A mapping has a field twice, or the list of policies a `namespace/name`.
    #[error("`{0}` is there more than once")]
    Repeated(String),
    /// A mapping's field is not a text.
    #[error("a field's name is not a text")]
    FieldName,
    /// A field that the format does not have.
    #[error("`{0}` is unknown")]
    Unknown(String),
    /// A field that has to be there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A value of another kind.
    #[error("`{field}` is not {expected}")]
    Kind {
        /// The field.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field of a resource that cannot be taken.
    #[error(transparent)]
    Resource(#[from] ResourceError),
}

/// A fault, and the line that it is in.
pub(super) type Located<T> = Result<T, (usize, LocalFault)>;
