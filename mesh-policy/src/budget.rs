use std::fmt;

use thiserror::Error;

/// Something that policies use up, and that a [`Budget`] limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of one file of policies. Default: 16 MiB.
    DocumentBytes,
    /// Nested mappings and sequences in a file. Default: 32; the deepest field of a policy has 8.
    DocumentDepth,
    /// Values and names in a file, of all its documents. Default: 1,048,576; each takes some 100
    /// bytes of memory beside its text.
    DocumentNodes,
    /// Policies in a set. Default: 65,536.
    Policies,
    /// Rules in a policy. Default: 512, as in Istio's resource definition.
    Rules,
    /// Entries of a rule's `from`, `to` or `when`. Default: 512, as in Istio's resource definition
    /// for `from`; the others have no limit there.
    Alternatives,
    /// Values in a policy. Default: 65,536; an object of Kubernetes holds 1.5 MiB.
    Values,
    /// Bytes of a value, or of a condition's key. Default: 4,096, twice the longest SPIFFE ID.
    ValueBytes,
    /// Rules, entries and values in a set, after trust domains have been expanded: what its arrays
    /// hold. Default: 4,194,304. In a table of routes, kinds of requests for each host.
    SetItems,
    /// Bytes of memory that the compiled regular expressions of a file or of a table of routes take.
    /// Default: 64 MiB.
    ExpressionBytes,
}

/// As much as there may be of anything, so that a rule's number and its class are 32 bits.
const MOST: usize = 1 << 28;

impl Resource {
    const COUNT: usize = 10;

    fn default_limit(self) -> usize {
        match self {
            Self::DocumentBytes => 16 << 20,
            Self::DocumentDepth => 32,
            Self::DocumentNodes => 1 << 20,
            Self::Policies | Self::Values => 1 << 16,
            Self::Rules | Self::Alternatives => 512,
            Self::ValueBytes => 4096,
            Self::SetItems => 1 << 22,
            Self::ExpressionBytes => 64 << 20,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DocumentBytes => "bytes in a file",
            Self::DocumentDepth => "nested levels in a file",
            Self::DocumentNodes => "values and names in a file",
            Self::Policies => "policies in a set",
            Self::Rules => "rules in a policy",
            Self::Alternatives => "entries in a clause",
            Self::Values => "values in a policy",
            Self::ValueBytes => "bytes in a value or key",
            Self::SetItems => "rules, entries and values in a set",
            Self::ExpressionBytes => "bytes of compiled regular expressions",
        })
    }
}

/// How much of each [`Resource`] policies may use. Whoever writes policies can write large ones;
/// what exceeds the budget is refused before work is spent on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    raised: [Option<usize>; Resource::COUNT],
}

impl Budget {
    /// The default of every resource.
    pub const fn new() -> Self {
        Self {
            raised: [None; Resource::COUNT],
        }
    }

    /// Sets the limit of a resource; a set that needs exactly so much is accepted. What exceeds 2^28
    /// counts as that: larger sets could not be numbered.
    #[must_use]
    pub fn with_limit(mut self, resource: Resource, limit: usize) -> Self {
        if let Some(entry) = self.raised.get_mut(resource as usize) {
            *entry = Some(limit);
        }
        self
    }

    /// How much of a resource may be used.
    pub fn limit(&self, resource: Resource) -> usize {
        let raised = self.raised.get(resource as usize).copied().flatten();
        raised.unwrap_or(resource.default_limit()).min(MOST)
    }

    /// Whether so much of a resource may be used: for readers of formats that this crate has none
    /// for.
    ///
    /// # Errors
    ///
    /// More than the limit.
    pub fn check(&self, resource: Resource, used: usize) -> Result<(), OverBudget> {
        let limit = self.limit(resource);
        if used > limit {
            return Err(OverBudget { resource, used, limit });
        }
        Ok(())
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// Policies need more of a resource than the [`Budget`] grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{used} {resource} are more than {limit}")]
#[non_exhaustive]
pub struct OverBudget {
    /// What there is too much of.
    pub resource: Resource,
    /// How much there is.
    pub used: usize,
    /// How much there may be.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_be_reached_and_not_exceeded() {
        let budget = Budget::new().with_limit(Resource::SetItems, 3);
        assert_eq!(budget.check(Resource::SetItems, 3), Ok(()));
        let over = budget.check(Resource::SetItems, 4).unwrap_err();
        assert_eq!(over.to_string(), "4 rules, entries and values in a set are more than 3");
        assert_eq!(budget.limit(Resource::Rules), 512);
        assert_eq!(
            budget.with_limit(Resource::Rules, usize::MAX).limit(Resource::Rules),
            MOST
        );
    }
}
