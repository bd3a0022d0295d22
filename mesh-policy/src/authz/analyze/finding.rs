use thiserror::Error;

use crate::{
    authz::{dialect::Note, invalid::Fault},
    facts::Attribute,
};

/// Something in a policy that its author is unlikely to mean.
///
/// Found together with its place as [`Diagnostic`](crate::authz::Diagnostic).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Finding {
    /// The policy breaks a rule of the API, so the dialect does not take it.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// The dialect takes it otherwise than it reads.
    #[error(transparent)]
    Note(#[from] Note),
    /// There is another policy of this name, which counts.
    #[error("a later policy has the same name and takes its place")]
    Replaced,

    /// No request can meet all that the rule asks.
    #[error("the rule never matches")]
    NeverMatches,
    /// A rule of the same action matches all that this one matches.
    #[error("rule {rule} of `{policy}` matches everything that this rule matches")]
    Shadowed {
        /// The other policy, with its namespace.
        policy: Box<str>,
        /// The index of the other rule.
        rule: usize,
    },
    /// All that the rule allows is denied.
    #[error("rule {rule} of `{policy}` denies everything that this rule allows")]
    Overruled {
        /// The policy that denies, with its namespace.
        policy: Box<str>,
        /// The index of its rule.
        rule: usize,
    },

    /// There are too many rules that may leave others without effect.
    #[error("too many rules are alike: of this one and {} others it is not known whether others leave them without effect", rules - 1)]
    Unfinished {
        /// How many rules were not looked at, this one among them.
        rules: usize,
    },

    /// The negated values leave nothing of the others.
    #[error("the negated values leave out every value of `{attribute}`, so it never matches")]
    Excluded {
        /// What the values are of.
        attribute: Attribute,
    },
    /// Two fields that must both match have nothing in common.
    #[error("{}", disjoint(one, other))]
    Disjoint {
        /// What one of them asks about.
        one: Attribute,
        /// What the other asks about.
        other: Attribute,
    },
    /// A rule that allows keeps identities out, and lets peers without one in.
    #[error("peers without a certificate are allowed too: add a positive field, such as principals `*`")]
    AdmitsPlaintext,
    /// A rule that allows keeps tokens out, and lets requests without one in.
    #[error("requests without a token are allowed too: add a positive field, such as requestPrincipals `*`")]
    AdmitsTokenless,

    /// A principal with its scheme, which is compared without.
    #[error("principals are compared without `spiffe://`, so `{value}` never matches")]
    Scheme {
        /// The value.
        value: Box<str>,
    },
    /// A principal that no workload of a mesh has.
    #[error("`{value}` is not of the form `DOMAIN/ns/NAMESPACE/sa/ACCOUNT`")]
    Principal {
        /// The value.
        value: Box<str>,
    },
    /// Trust domains and namespaces are in lower case.
    #[error("`{value}` has upper case, which trust domains, namespaces and service accounts do not have")]
    UpperCaseIdentity {
        /// The value.
        value: Box<str>,
    },
    /// Methods are compared in their case.
    #[error("methods are compared in their case, and `{value}` is not in upper case")]
    LowerCaseMethod {
        /// The value.
        value: Box<str>,
    },
    /// The value has something that no authority has.
    #[error("no authority is like `{value}`: it is a host, and a port behind it if the client writes one")]
    Host {
        /// The value.
        value: Box<str>,
    },
    /// The host is compared together with the port, if the client writes one.
    #[error("`{value}` does not match where the client writes a port: add `{value}:*`")]
    HostWithoutPort {
        /// The value.
        value: Box<str>,
    },
    /// No path is like that.
    #[error("`{value}` never matches: paths begin with `/` and are compared without query and fragment")]
    Path {
        /// The value.
        value: Box<str>,
    },
    /// Paths are normalized before they are compared.
    #[error("paths are normalized before they are compared, so `{value}` never matches: write `{normalized}`")]
    PathNotNormalized {
        /// The value.
        value: Box<str>,
        /// How a path like that is compared.
        normalized: Box<str>,
    },
    /// What stops at one path lets its neighbours pass.
    #[error("only `{value}` itself is meant, and not `{value}/` or what is below it")]
    OnePath {
        /// The value.
        value: Box<str>,
    },
    /// Envoy's templates match no path with certain bytes, so that what denies can be escaped.
    #[error("a path with a byte such as `[` is not matched by the template `{value}`")]
    TemplateGap {
        /// The value.
        value: Box<str>,
    },
    /// A star that stands for itself.
    #[error("a star stands for anything only as the first or the last character, so one in `{value}` is no wildcard")]
    LiteralStar {
        /// The value.
        value: Box<str>,
    },
    /// All addresses of one family.
    #[error("`{value}` has no address of the other IP version")]
    OneFamily {
        /// The value.
        value: Box<str>,
    },
    /// A block with bits that do not count.
    #[error("`{value}` is taken for the whole block that the address is in")]
    HostBits {
        /// The value.
        value: Box<str>,
    },
    /// Another value of the list matches all that this one matches.
    #[error("`{by}` in the same list matches all that `{value}` matches")]
    RedundantValue {
        /// The value.
        value: Box<str>,
        /// The other value.
        by: Box<str>,
    },
}

fn disjoint(one: &Attribute, other: &Attribute) -> String {
    if one == other {
        format!("the rule asks twice for `{one}`, and no value meets both")
    } else {
        format!("nothing matches both `{one}` and `{other}` here")
    }
}

/// How much a [`Finding`] weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What is written counts, and may surprise.
    Advice,
    /// What is written does something else, or nothing.
    Warning,
    /// What is written is not taken at all.
    Error,
}

impl Finding {
    /// How much it weighs.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Invalid(_) => Severity::Error,
            Self::Note(
                Note::UnknownToSome { .. }
                | Note::TrustDomain { .. }
                | Note::InnerStar { .. }
                | Note::AnyCertificate
                | Note::EmptyHeader,
            )
            | Self::HostWithoutPort { .. }
            | Self::OnePath { .. }
            | Self::TemplateGap { .. }
            | Self::OneFamily { .. }
            | Self::HostBits { .. }
            | Self::RedundantValue { .. } => Severity::Advice,
            _ => Severity::Warning,
        }
    }
}
