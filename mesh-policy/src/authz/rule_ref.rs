/// A rule of the set that decided; [`PolicySet::rule`](super::PolicySet::rule) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleRef(u32);

/// Marks rules of the changed part. Budgets keep rule numbers below it.
const CHANGED: u32 = 1 << 31;

impl RuleRef {
    pub(super) fn new(origin: Origin, number: u32) -> Self {
        match origin {
            Origin::Base => Self(number),
            Origin::Changed => Self(number | CHANGED),
        }
    }

    pub(super) fn parts(self) -> (Origin, u32) {
        if self.0 & CHANGED == 0 {
            (Origin::Base, self.0)
        } else {
            (Origin::Changed, self.0 & !CHANGED)
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
