use std::{fmt, sync::Arc};

use mesh_identity::jws::KeySetError;
use thiserror::Error;

use crate::authz::PolicyName;

/// The most rules that apply to one workload.
pub const MAX_RULES: usize = 64;
/// The most entries of each of a rule's lists.
pub const MAX_ENTRIES: usize = 64;

/// A rule of a RequestAuthentication that cannot be kept, in one line: file, line, policy, field and
/// what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidRule {
    /// The file that the policy was read from.
    pub file: Option<Arc<str>>,
    /// The line in the file that the rule begins in, from 1; 0 if it was not read from a file.
    pub line: u32,
    /// The RequestAuthentication.
    pub policy: PolicyName,
    /// The field, with the path to it.
    pub field: Box<str>,
    /// What is wrong.
    pub fault: RuleFault,
}

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}: ", self.line)?;
        }
        write!(f, "policy `{}`: {}: {}", self.policy, self.field, self.fault)
    }
}

impl std::error::Error for InvalidRule {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuleFault {
    /// There is neither an issuer nor an address of keys.
    #[error("a rule needs an issuer or an address of keys")]
    NoIssuer,
    /// A value is empty.
    #[error("the value is empty")]
    Empty,
    /// A list has more than [`MAX_ENTRIES`], or with this rule there are more than [`MAX_RULES`].
    #[error("{count} entries are more than {most}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A text is no name of a header.
    #[error("`{}` is no name of a header", name.escape_debug())]
    HeaderName {
        /// The text.
        name: Box<str>,
    },
    /// A header says how a message is framed or whom it is for, which no token may decide.
    #[error("header `{name}` is not for tokens to set")]
    ReservedHeader {
        /// The header's name.
        name: Box<str>,
    },
    /// A header is to be read for tokens and to be set from them. Since what a client sends in a
    /// header that is set is removed, its tokens would be too.
    #[error("header `{name}` has tokens, so it cannot be set from them")]
    ReadHeader {
        /// The header's name.
        name: Box<str>,
    },
    /// The way to a claim has an empty name in it.
    #[error("`{claim}` is no way to a claim")]
    Claim {
        /// The way.
        claim: Box<str>,
    },
    /// There are both inline keys and an address of keys.
    #[error("a rule has keys or an address of keys, not both")]
    KeysTwice,
    /// The address of keys is none of HTTP or HTTPS.
    #[error("`{}` is no http or https address", uri.escape_debug())]
    Uri {
        /// The address.
        uri: Box<str>,
    },
    /// The inline keys.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// The text is no duration above zero, such as `5s`.
    #[error("`{}` is no duration above zero", text.escape_debug())]
    Timeout {
        /// The text.
        text: Box<str>,
    },
}
