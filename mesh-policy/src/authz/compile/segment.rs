use std::sync::Arc;

use super::{index::Index, span::Span, test::Test};
use crate::{
    authz::model::{Action, AuthorizationPolicy},
    facts::Attribute,
};

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
    pub(crate) connection: Vec<Finder>,
    pub(crate) request: Vec<Finder>,
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

/// What kind of rules a finder finds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Class {
    pub(crate) action: Action,
    pub(crate) dry_run: bool,
}

impl Class {
    pub(super) fn of(policy: &AuthorizationPolicy) -> Self {
        Self {
            action: policy.action().clone(),
            dry_run: policy.is_dry_run(),
        }
    }

    /// Whether a rule that may or may not match counts as one that does.
    pub(crate) fn counts_unknown(&self) -> bool {
        self.action != Action::Allow
    }
}

/// What facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Connection,
    Request,
}

/// Finds the rules of a class that may match.
#[derive(Clone, Debug)]
pub(crate) struct Finder {
    pub(crate) class: Class,
    pub(crate) index: Index,
    /// Rules that no index finds, sorted.
    pub(crate) always: Vec<u32>,
    /// Rules that are found by an attribute, for facts that lack it, sorted.
    pub(crate) lacking: Vec<(u32, Vec<u32>)>,
}

impl Segment {
    pub(crate) fn finders(&self, layer: Layer) -> &[Finder] {
        // Without fields about requests, both layers are the same.
        if layer == Layer::Request && self.has_http {
            &self.request
        } else {
            &self.connection
        }
    }
}
