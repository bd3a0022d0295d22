use std::num::NonZeroU32;

/// A rule of the set that decided; [`PolicySet::rule`](super::PolicySet::rule) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef(
    /// One more than the rule's number, so that having none takes no room.
    NonZeroU32,
);

/// Marks rules of the changed part. Budgets keep rule numbers below it.
const CHANGED: u32 = 1 << 31;

impl RuleRef {
    pub(super) fn new(origin: Origin, number: u32) -> Self {
        let number = match origin {
            Origin::Base => number,
            Origin::Changed => number | CHANGED,
        };
        Self(NonZeroU32::MIN.saturating_add(number))
    }

    pub(super) fn parts(self) -> (Origin, u32) {
        let number = self.0.get() - 1;
        if number & CHANGED == 0 {
            (Origin::Base, number)
        } else {
            (Origin::Changed, number & !CHANGED)
        }
    }
}

/// The part of a set that a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Base,
    Changed,
}

impl Origin {
    pub(super) fn is_base(self) -> bool {
        self == Self::Base
    }
}
