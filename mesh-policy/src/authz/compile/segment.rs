use std::sync::Arc;

use super::{index::Index, span::Span, test::Test};
use crate::{
    authz::model::{Action, AuthorizationPolicy},
    facts::Attribute,
};

/// Bits of the number of a rule; budgets keep numbers below.
const NUMBER_BITS: u32 = 29;

/// Compiled policies that never change: flat arrays, in which things are numbers.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// Sorted by the names of their rules.
    pub(crate) policies: Vec<Compiled>,
    /// Sorted by policy and then by name, so that a rule's number is its rank.
    pub(crate) rules: Vec<Rule>,
    pub(crate) entries: Vec<Span>,
    pub(crate) fields: Vec<Field>,
    pub(crate) values: Vec<u32>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) tests: Vec<Test>,
    pub(crate) lists: Vec<Index>,
    /// Whether any of the attributes is one of requests only.
    pub(crate) has_http: bool,
    pub(crate) connection: Finder,
    pub(crate) request: Finder,
}

#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) policy: Arc<AuthorizationPolicy>,
    /// `false` if the plane knows nothing of it.
    pub(crate) exists: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) policy: u32,
    /// In the policy.
    pub(crate) index: u32,
    /// In `entries`, one of which must match; empty asks for nothing.
    pub(crate) from: Span,
    pub(crate) to: Span,
    /// In `fields`.
    pub(crate) when: Span,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) attribute: u32,
    pub(crate) any: Option<Values>,
    pub(crate) none: Values,
}

/// A list of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    /// In `values`, which are numbers of tests.
    pub(crate) span: Span,
    /// In `lists`, if the list is long.
    pub(crate) list: Option<u32>,
}

/// What a rule decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    Allow,
    Deny,
    Audit,
    DryAllow,
    DryDeny,
    Custom,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Allow,
        Self::Deny,
        Self::Audit,
        Self::DryAllow,
        Self::DryDeny,
        Self::Custom,
    ];
    pub(crate) const COUNT: usize = Self::ALL.len();

    /// None for what Istio does not try out.
    pub(super) fn of(policy: &AuthorizationPolicy) -> Option<Self> {
        Some(match (policy.action(), policy.is_dry_run()) {
            (Action::Allow, false) => Self::Allow,
            (Action::Allow, true) => Self::DryAllow,
            (Action::Deny, false) => Self::Deny,
            (Action::Deny, true) => Self::DryDeny,
            (Action::Audit, false) => Self::Audit,
            (Action::Custom { .. }, false) => Self::Custom,
            (Action::Audit | Action::Custom { .. }, true) => return None,
        })
    }

    /// Whether a rule that may or may not match counts as one that does.
    pub(crate) fn counts_unknown(self) -> bool {
        !matches!(self, Self::Allow | Self::DryAllow)
    }
}

/// A rule as it is filed: sorted by class, and then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filed(u32);

impl Filed {
    pub(super) fn new(class: Class, number: u32) -> Self {
        Self((class as u32) << NUMBER_BITS | number)
    }

    /// What an index has, which was made of one of these.
    pub(crate) fn from_posting(posting: u32) -> Self {
        Self(posting)
    }

    pub(super) fn posting(self) -> u32 {
        self.0
    }

    pub(crate) fn number(self) -> u32 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    pub(crate) fn class(self) -> Class {
        let class = Class::ALL.get((self.0 >> NUMBER_BITS) as usize);
        class.copied().unwrap_or(Class::Deny)
    }
}

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Connection,
    Request,
}

/// Finds the rules that may match. All that it has is sorted as [`Filed`] is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finder {
    pub(crate) index: Index,
    /// Rules that no index finds.
    pub(crate) always: Vec<u32>,
    /// Rules that are found by an attribute, for facts that lack it, if they count then.
    pub(crate) lacking: Vec<(u32, Vec<u32>)>,
}

impl Segment {
    pub(crate) fn finder(&self, layer: Layer) -> &Finder {
        // Without fields about requests, both layers are the same.
        if layer == Layer::Request && self.has_http {
            &self.request
        } else {
            &self.connection
        }
    }
}
