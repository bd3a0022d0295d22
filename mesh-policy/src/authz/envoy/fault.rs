use thiserror::Error;

use crate::manifest::{self, fault::ReadFault as FileFault};

/// Why a file of filters holds no policies, in one line.
pub type ReadError = manifest::ReadError<ReadFault>;

/// What keeps filters from being policies.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadFault {
    /// The file is not one of filters.
    #[error(transparent)]
    File(#[from] FileFault),
    /// A filter or a matcher of a kind that policies do not become.
    #[error("no policy becomes a `{kind}` at `{field}`")]
    Kind {
        /// The field that has it.
        field: Box<str>,
        /// What it is.
        kind: Box<str>,
    },
    /// A message that asks for one thing asks for several, or for none.
    #[error("`{field}` asks for one thing")]
    NotOne {
        /// The message.
        field: Box<str>,
    },
    /// No value of a policy asks for that.
    #[error("no value of a policy asks for what `{field}` does")]
    Value {
        /// The matcher.
        field: Box<str>,
    },
    /// Alternatives about different things, where a policy has values of one field.
    #[error("the alternatives at `{field}` are about different things")]
    Mixed {
        /// The alternatives.
        field: Box<str>,
    },
    /// A rule asks for a combination that no rule of Istio asks for.
    #[error("no rule of a policy can ask for `{field}` besides the rest of it")]
    Combination {
        /// What is too much.
        field: Box<str>,
    },
    /// A second filter of a kind that admits: a request has to pass both, while of policies one is
    /// enough.
    #[error("`{field}` admits what another filter has to admit as well")]
    SecondAllow {
        /// Its rules.
        field: Box<str>,
    },
    /// The name of a rule tells neither policy nor index.
    #[error("`{name}` is no name that istiod gives a rule of this filter")]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// Two filters have a policy of the same name.
    #[error("policy `{policy}` is there with two actions")]
    Conflict {
        /// Namespace and name.
        policy: Box<str>,
    },
}

/// What is wrong, and in which line.
pub(super) type Problem = (u32, ReadFault);

pub(super) fn of_file((line, fault): (u32, FileFault)) -> Problem {
    (line, fault.into())
}
