//! Whether two sets of policies decide alike, and if not, a request that shows it.
//!
//! ```
//! use mesh_policy::authz::{
//!     AuthorizationPolicy, Compiler, Dialect,
//!     compare::{Answer, Comparison},
//!     model::{Operation, OperationField, Rule},
//! };
//!
//! let ports = |ports: &[&'static str]| {
//!     let operation = Operation::new().any_of(OperationField::Ports, ports.iter().copied());
//!     Compiler::new(Dialect::Strict).compile([AuthorizationPolicy::allow("n", "p").rule(Rule::new().to(operation))])
//! };
//! let (before, after) = (ports(&["80"])?, ports(&["80", "81"])?);
//! let Answer::Refuted(witness) = Comparison::new(&before, &after).is_no_wider() else { panic!() };
//! assert_eq!(witness.sample().destination_port, Some(81));
//! assert!(matches!(Comparison::new(&after, &before).is_no_wider(), Answer::Proven));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::{
    compile::PolicySet,
    cover::{Effort, rules},
    decision::{Decision, Verdict},
};
use crate::sample::Sample;

mod branch;
mod name;
mod point;
mod proof;
mod search;

/// Pairs of rules, fields and values that a proof may look at, and values that the search for a
/// witness may: seconds each.
const MAX_PAIRS: u64 = 50_000_000;

/// Two sets of policies, to be compared by what they admit. Whatever else they decide, such as
/// what is audited or tried out, does not count.
///
/// The sets may be of different dialects: that shows what changes when the same policies move from
/// one plane to another. Facts are given to both sets alike.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'s> {
    before: &'s PolicySet,
    after: &'s PolicySet,
    candidates: usize,
}

/// What a comparison comes to.
#[derive(Clone, Debug)]
#[must_use]
pub enum Answer {
    /// It is so, for whatever facts: it follows from the rules.
    Proven,
    /// It is not so, and here is a case of it.
    Refuted(Box<Witness>),
    /// Neither: so many candidates were tried, and none is a case of the contrary. That is no
    /// proof.
    Open {
        /// How many were tried.
        candidates: usize,
    },
}

/// Facts about which two sets disagree. Both have been asked.
#[derive(Clone, Debug)]
pub struct Witness {
    sample: Sample,
    before: Decision,
    after: Decision,
}

impl<'s> Comparison<'s> {
    /// Compares a set with the one that is to take its place.
    pub fn new(before: &'s PolicySet, after: &'s PolicySet) -> Self {
        Self {
            before,
            after,
            candidates: 100_000,
        }
    }

    /// How many candidates for a witness to try before giving up. Default: 100,000, which take a
    /// second or less.
    #[must_use]
    pub fn candidates(mut self, candidates: usize) -> Self {
        self.candidates = candidates;
        self
    }

    /// Whether both sets admit the same, and ask the same providers about it.
    pub fn is_same(&self) -> Answer {
        let effort = Effort::new(MAX_PAIRS);
        let (before, after) = (rules(self.before), rules(self.after));
        let narrower = proof::gaps(self.before, &before, self.after, &after, &effort);
        let wider = proof::gaps(self.after, &after, self.before, &before, &effort);
        if narrower.is_empty() && wider.is_empty() {
            return Answer::Proven;
        }
        let gaps: Vec<_> = narrower.into_iter().chain(wider).collect();
        self.search(&gaps, |before, after| before != after)
    }

    /// Whether the set after admits nothing that the one before does not, and asks every provider
    /// that the other asks.
    pub fn is_no_wider(&self) -> Answer {
        let effort = Effort::new(MAX_PAIRS);
        let (before, after) = (rules(self.before), rules(self.after));
        let gaps = proof::gaps(self.before, &before, self.after, &after, &effort);
        if gaps.is_empty() {
            return Answer::Proven;
        }
        self.search(&gaps, |before, after| match (before, after) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(before), Some(after)) => !before.iter().all(|name| after.contains(name)),
        })
    }

    /// `differs` gets the providers to ask from each set, or none if it denies.
    fn search(
        &self,
        gaps: &[proof::Gap<'_>],
        differs: impl Fn(&Option<Vec<&'s str>>, &Option<Vec<&'s str>>) -> bool,
    ) -> Answer {
        let ask = |sample: &Sample| {
            sample.with(|facts| {
                let (before, after) = (self.before.decide(facts), self.after.decide(facts));
                let differ = differs(&admission(&before, self.before), &admission(&after, self.after));
                differ.then_some((before, after))
            })
        };
        let mut search = search::Search::new(self.candidates, |sample| ask(sample).is_some());
        let effort = Effort::new(MAX_PAIRS);
        let found = search.run(gaps, [&rules(self.before), &rules(self.after)], &effort);
        let candidates = search.tried();
        match found.and_then(|sample| Some((ask(&sample)?, sample))) {
            Some(((before, after), sample)) => Answer::Refuted(Box::new(Witness { sample, before, after })),
            None => Answer::Open { candidates },
        }
    }
}

/// The providers to ask, sorted; none at all for a denial.
fn admission<'s>(decision: &Decision, set: &'s PolicySet) -> Option<Vec<&'s str>> {
    match decision.verdict() {
        Verdict::Allow(_) => Some(decision.providers(set).collect()),
        Verdict::Deny(_) => None,
    }
}

impl Witness {
    /// The connection or request.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// What the set before decides about it.
    pub fn before(&self) -> Decision {
        self.before
    }

    /// What the set after decides about it.
    pub fn after(&self) -> Decision {
        self.after
    }
}

#[cfg(test)]
mod tests;
