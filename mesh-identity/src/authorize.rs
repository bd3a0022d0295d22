use std::{borrow::Cow, collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::{
    aliases::TrustDomainAliases,
    spiffe_id::{SpiffeId, SpiffeIdError},
    trust_domain::TrustDomain,
};

/// Which verified peers may speak.
///
/// A policy is a set: equal policies list the same patterns, in whatever order they were given, so
/// a policy can be part of a key. Cloning is cheap. The empty set permits nobody, and there is no
/// default. Policies are combined with [`and`](Self::and), [`or`](Self::or) and
/// [`except`](Self::except).
///
/// ```
/// use mesh_identity::{PeerPattern, PeerPolicy};
///
/// let shop: PeerPattern = "spiffe://cluster.local/ns/shop/*".parse()?;
/// let policy = PeerPolicy::matching([shop]);
/// assert!(policy.check(&"spiffe://cluster.local/ns/shop/sa/cart".parse()?).is_ok());
/// assert!(policy.check(&"spiffe://cluster.local/ns/shopping/sa/cart".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerPolicy(Arc<Rule>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Rule {
    Matching {
        exact: BTreeSet<SpiffeId>,
        /// Permits what lies strictly below each.
        below: BTreeSet<SpiffeId>,
    },
    AnyAuthenticated,
    /// Never empty, and none of them an `All`.
    All(BTreeSet<PeerPolicy>),
    /// Never empty, and none of them an `Any`.
    Any(BTreeSet<PeerPolicy>),
    Except {
        base: PeerPolicy,
        excluded: PeerPolicy,
    },
}

impl PeerPolicy {
    /// Permits one ID.
    pub fn exact(id: SpiffeId) -> Self {
        Self::one_of([id])
    }

    /// Permits the listed IDs; an empty list permits nobody.
    pub fn one_of(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self::matching(ids.into_iter().map(PeerPattern::from))
    }

    /// Permits every member of a trust domain.
    pub fn member_of(trust_domain: TrustDomain) -> Self {
        Self::matching([PeerPattern(Pattern::Below(trust_domain.into()))])
    }

    /// Permits the IDs that match one of the patterns; no patterns permit nobody.
    pub fn matching(patterns: impl IntoIterator<Item = PeerPattern>) -> Self {
        let (mut exact, mut below) = (BTreeSet::new(), BTreeSet::new());
        for PeerPattern(pattern) in patterns {
            match pattern {
                Pattern::Exact(id) => exact.insert(id),
                Pattern::Below(prefix) => below.insert(prefix),
            };
        }
        Self(Arc::new(Rule::Matching { exact, below }))
    }

    /// Permits everybody whose certificate is believed, in every trust domain that has a bundle.
    ///
    /// This is for a program that decides later, request by request. Anything less deliberate
    /// should name its peers.
    pub fn any_authenticated() -> Self {
        Self(Arc::new(Rule::AnyAuthenticated))
    }

    /// Permits whom both policies permit.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let parts = [self, other].into_iter().flat_map(|policy| match &*policy.0 {
            Rule::All(parts) => parts.clone(),
            _ => BTreeSet::from([policy]),
        });
        Self::of_parts(parts.collect(), Rule::All)
    }

    /// Permits whom either policy permits.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let parts = [self, other].into_iter().flat_map(|policy| match &*policy.0 {
            Rule::Any(parts) => parts.clone(),
            _ => BTreeSet::from([policy]),
        });
        Self::of_parts(parts.collect(), Rule::Any)
    }

    /// Permits whom this policy permits and `excluded` does not. A policy can only be negated as
    /// part of another one, so that who is left in has been said.
    ///
    /// ```
    /// use mesh_identity::PeerPolicy;
    ///
    /// let members = PeerPolicy::member_of("cluster.local".parse()?);
    /// let debuggers = PeerPolicy::matching(["spiffe://cluster.local/ns/debug/*".parse()?]);
    /// let policy = members.except(debuggers);
    /// assert!(policy.check(&"spiffe://cluster.local/ns/shop/sa/cart".parse()?).is_ok());
    /// assert!(policy.check(&"spiffe://cluster.local/ns/debug/sa/tool".parse()?).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn except(self, excluded: Self) -> Self {
        Self(Arc::new(match &*self.0 {
            Rule::Except { base, excluded: before } => Rule::Except {
                base: base.clone(),
                excluded: before.clone().or(excluded),
            },
            _ => Rule::Except { base: self, excluded },
        }))
    }

    /// Whether `peer` may speak.
    ///
    /// # Errors
    ///
    /// [`Denied`], with the reason, if not.
    pub fn check(&self, peer: &SpiffeId) -> Result<(), Denied> {
        self.judge(&[Cow::Borrowed(peer)]).map_err(|reason| Denied {
            peer: peer.clone(),
            reason,
        })
    }

    /// Whether `peer` may speak, if trust domains go by several names: a pattern is then about the
    /// same path under each of them, where it permits and where it is excluded.
    ///
    /// # Errors
    ///
    /// [`Denied`], with the reason, if not.
    pub fn check_under(&self, aliases: &TrustDomainAliases, peer: &SpiffeId) -> Result<(), Denied> {
        self.judge(&aliases.spellings(peer)).map_err(|reason| Denied {
            peer: peer.clone(),
            reason,
        })
    }

    /// One policy is itself; a set of one has no need of a rule around it.
    fn of_parts(parts: BTreeSet<Self>, rule: fn(BTreeSet<Self>) -> Rule) -> Self {
        match parts.first() {
            Some(only) if parts.len() == 1 => only.clone(),
            _ => Self(Arc::new(rule(parts))),
        }
    }

    /// Judges a peer by all the names that it goes by.
    fn judge(&self, names: &[Cow<'_, SpiffeId>]) -> Result<(), DenyReason> {
        match &*self.0 {
            Rule::AnyAuthenticated => Ok(()),
            Rule::Matching { exact, below } => {
                let listed = |name: &Cow<'_, SpiffeId>| {
                    exact.contains(&**name) || below.iter().any(|prefix| is_below(name, prefix))
                };
                let mut patterns = exact.iter().chain(below);
                if names.iter().any(listed) {
                    Ok(())
                } else if patterns.any(|id| names.iter().any(|name| id.trust_domain() == name.trust_domain())) {
                    Err(DenyReason::NotListed)
                } else {
                    Err(DenyReason::TrustDomain)
                }
            }
            Rule::All(parts) => {
                let reasons = parts.iter().filter_map(|part| part.judge(names).err());
                reasons.min_by_key(|reason| reason.closeness()).map_or(Ok(()), Err)
            }
            Rule::Any(parts) => {
                let mut closest = DenyReason::TrustDomain;
                for part in parts {
                    match part.judge(names) {
                        Ok(()) => return Ok(()),
                        Err(reason) if reason.closeness() > closest.closeness() => closest = reason,
                        Err(_) => {}
                    }
                }
                Err(closest)
            }
            Rule::Except { base, excluded } => {
                base.judge(names)?;
                match excluded.judge(names) {
                    Ok(()) => Err(DenyReason::Excluded),
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

impl fmt::Debug for PeerPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Rule::Matching { exact, below } => f
                .debug_struct("PeerPolicy")
                .field("exact", exact)
                .field("below", below)
                .finish(),
            Rule::AnyAuthenticated => f.write_str("PeerPolicy(any authenticated)"),
            Rule::All(parts) => f.debug_tuple("All").field(parts).finish(),
            Rule::Any(parts) => f.debug_tuple("Any").field(parts).finish(),
            Rule::Except { base, excluded } => f.debug_tuple("Except").field(base).field(excluded).finish(),
        }
    }
}

/// One ID, or all IDs below a prefix, as written on a command line or in a configuration.
///
/// | text | matches |
/// |---|---|
/// | `spiffe://td/ns/shop/sa/cart` | this ID |
/// | `spiffe://td/ns/shop/*` | every ID with more segments after `/ns/shop` |
/// | `spiffe://td/*` | every ID with a path in the trust domain |
///
/// The prefix ends at a segment: `/ns/shop/*` does not match `/ns/shopping/sa/cart`, nor `/ns/shop`
/// itself. Nothing else is special, and `*` has no other place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerPattern(Pattern);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pattern {
    Exact(SpiffeId),
    /// Strictly below this ID's path.
    Below(SpiffeId),
}

impl PeerPattern {
    /// The one trust domain that the pattern can match in.
    pub fn trust_domain(&self) -> &TrustDomain {
        let (Pattern::Exact(id) | Pattern::Below(id)) = &self.0;
        id.trust_domain()
    }

    /// Whether `id` matches.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match &self.0 {
            Pattern::Exact(exact) => exact == id,
            Pattern::Below(prefix) => is_below(id, prefix),
        }
    }
}

impl From<SpiffeId> for PeerPattern {
    fn from(id: SpiffeId) -> Self {
        Self(Pattern::Exact(id))
    }
}

impl FromStr for PeerPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (prefix, wildcard) = match text.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if prefix.contains('*') {
            return Err(PatternError::Wildcard);
        }
        let id: SpiffeId = prefix.parse()?;
        match wildcard {
            true => Ok(Self(Pattern::Below(id))),
            false if id.path().is_empty() => Err(PatternError::NoPath),
            false => Ok(Self(Pattern::Exact(id))),
        }
    }
}

impl fmt::Display for PeerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact(id) => write!(f, "{id}"),
            Pattern::Below(prefix) => write!(f, "{prefix}/*"),
        }
    }
}

impl fmt::Debug for PeerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerPattern({self})")
    }
}

/// Why a text is not a [`PeerPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `*` stands elsewhere than as the whole last segment.
    #[error("`*` may only be the whole last segment of a pattern")]
    Wildcard,
    /// The pattern is a trust domain's own ID, which no peer has.
    #[error("the pattern has no path; all members of a trust domain are `spiffe://<trust domain>/*`")]
    NoPath,
    /// The pattern without its `/*` is not a SPIFFE ID.
    #[error(transparent)]
    SpiffeId(#[from] SpiffeIdError),
}

/// A verified peer that may not speak.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("peer `{peer}` is not permitted: {reason}")]
pub struct Denied {
    peer: SpiffeId,
    reason: DenyReason,
}

impl Denied {
    /// Who was denied.
    pub fn peer(&self) -> &SpiffeId {
        &self.peer
    }

    /// Why.
    pub fn reason(&self) -> DenyReason {
        self.reason
    }
}

/// Why a [`PeerPolicy`] denies a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenyReason {
    /// No pattern of the policy is about the peer's trust domain.
    TrustDomain,
    /// The policy is about the peer's trust domain, but not about this peer.
    NotListed,
    /// The policy is about this peer and makes an exception of it.
    Excluded,
}

impl DenyReason {
    /// How near the peer came to being permitted. A denial by several policies at once is given the
    /// reason that is farthest off, one by several alternatives the nearest.
    fn closeness(self) -> u8 {
        match self {
            Self::TrustDomain => 0,
            Self::NotListed => 1,
            Self::Excluded => 2,
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustDomain => "its trust domain is not the expected one",
            Self::NotListed => "it is none of the expected peers",
            Self::Excluded => "it is one of the excluded peers",
        })
    }
}

fn is_below(id: &SpiffeId, prefix: &SpiffeId) -> bool {
    prefix.trust_domain() == id.trust_domain()
        && id
            .path()
            .strip_prefix(prefix.path())
            .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> SpiffeId {
        text.parse().unwrap()
    }

    fn pattern(text: &str) -> PeerPattern {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_end_at_segments_and_trust_domains() {
        let shop = pattern("spiffe://td/ns/shop/*");
        assert!(shop.matches(&id("spiffe://td/ns/shop/sa/a")));
        for other in [
            "spiffe://td/ns/shop",
            "spiffe://td/ns/shopping/sa/a",
            "spiffe://td.evil/ns/shop/sa/a",
            "spiffe://td/NS/shop/sa/a",
        ] {
            assert!(!shop.matches(&id(other)), "{other}");
        }
        let members = pattern("spiffe://td/*");
        assert!(members.matches(&id("spiffe://td/a")));
        assert!(!members.matches(&id("spiffe://td")));
        assert!(!members.matches(&id("spiffe://td.evil/a")));
    }

    #[test]
    fn dots_are_no_wildcards() {
        let policy = PeerPolicy::exact(id("spiffe://td/ns/n/sa/a.b"));
        assert!(policy.check(&id("spiffe://td/ns/n/sa/a.b")).is_ok());
        assert!(policy.check(&id("spiffe://td/ns/n/sa/axb")).is_err());
    }

    #[test]
    fn empty_policies_permit_nobody() {
        assert!(PeerPolicy::one_of([]).check(&id("spiffe://td/a")).is_err());
        assert!(PeerPolicy::matching([]).check(&id("spiffe://td/a")).is_err());
        assert!(PeerPolicy::any_authenticated().check(&id("spiffe://td/a")).is_ok());
    }

    #[test]
    fn says_whether_the_trust_domain_was_wrong() {
        let policy = PeerPolicy::one_of([id("spiffe://td/a"), id("spiffe://td/b")]);
        let reason = |peer| policy.check(&id(peer)).unwrap_err().reason();
        assert_eq!(reason("spiffe://td/c"), DenyReason::NotListed);
        assert_eq!(reason("spiffe://other/a"), DenyReason::TrustDomain);
        assert_eq!(
            policy.check(&id("spiffe://td/c")).unwrap_err().to_string(),
            "peer `spiffe://td/c` is not permitted: it is none of the expected peers"
        );
    }

    #[test]
    fn policies_combine_and_answer_with_a_reason() {
        let below = |text| PeerPolicy::matching([pattern(text)]);
        let reason = |policy: &PeerPolicy, peer| policy.check(&id(peer)).map_err(|denied| denied.reason());
        let both = below("spiffe://td/ns/*").and(below("spiffe://td/ns/shop/*"));
        assert_eq!(reason(&both, "spiffe://td/ns/shop/a"), Ok(()));
        assert_eq!(reason(&both, "spiffe://td/ns/b"), Err(DenyReason::NotListed));
        let nobody = below("spiffe://td/*").and(below("spiffe://other/*"));
        assert_eq!(reason(&nobody, "spiffe://td/a"), Err(DenyReason::TrustDomain));

        let either = below("spiffe://td/ns/shop/*").or(PeerPolicy::exact(id("spiffe://other/a")));
        assert_eq!(reason(&either, "spiffe://td/ns/shop/a"), Ok(()));
        assert_eq!(reason(&either, "spiffe://other/a"), Ok(()));
        assert_eq!(reason(&either, "spiffe://other/b"), Err(DenyReason::NotListed));
        assert_eq!(reason(&either, "spiffe://third/a"), Err(DenyReason::TrustDomain));

        let most = PeerPolicy::any_authenticated().except(below("spiffe://td/ns/shop/*"));
        assert_eq!(reason(&most, "spiffe://td/ns/shop/a"), Err(DenyReason::Excluded));
        assert_eq!(reason(&most, "spiffe://td/ns/shopping/a"), Ok(()));
        assert_eq!(
            most.check(&id("spiffe://td/ns/shop/a")).unwrap_err().to_string(),
            "peer `spiffe://td/ns/shop/a` is not permitted: it is one of the excluded peers"
        );
        let still = PeerPolicy::exact(id("spiffe://td/b")).except(PeerPolicy::any_authenticated());
        assert_eq!(reason(&still, "spiffe://td/b"), Err(DenyReason::Excluded));
        assert_eq!(reason(&still, "spiffe://td/c"), Err(DenyReason::NotListed));
    }

    #[test]
    fn combinations_are_the_same_in_any_order() {
        let [a, b, c] = ["spiffe://td/a", "spiffe://td/b", "spiffe://td/c"].map(|text| PeerPolicy::exact(id(text)));
        let [x, y, z] = [a, b, c].map(|policy| move || policy.clone());
        assert_eq!(x().or(y()).or(z()), z().or(x().or(y())).or(y()));
        assert_eq!(x().and(y()).and(z()), z().and(y().and(x())));
        assert_eq!(x().except(y()).except(z()), x().except(z().or(y())));
        assert_eq!(x().or(x()), x());
        assert_ne!(x().or(y()), x().and(y()));
    }

    #[test]
    fn aliases_count_where_a_policy_permits_and_where_it_excepts() {
        let td = |name: &str| name.parse::<TrustDomain>().unwrap();
        let aliases = TrustDomainAliases::new([(td("old"), td("td"))]).unwrap();
        let policy = PeerPolicy::member_of(td("td")).except(PeerPolicy::matching([pattern("spiffe://td/ns/debug/*")]));
        let reason = |peer| {
            let verdict = policy.check_under(&aliases, &id(peer));
            verdict.map_err(|denied| (denied.peer().to_string(), denied.reason()))
        };
        assert_eq!(reason("spiffe://old/ns/shop/a"), Ok(()));
        let evader = "spiffe://old/ns/debug/a";
        assert_eq!(reason(evader), Err((evader.to_owned(), DenyReason::Excluded)));
        assert_eq!(reason("spiffe://other/a").unwrap_err().1, DenyReason::TrustDomain);
        assert!(policy.check(&id("spiffe://old/ns/shop/a")).is_err());
    }

    #[test]
    fn order_and_repetition_do_not_distinguish_policies() {
        let (a, b) = (id("spiffe://td/a"), id("spiffe://td/b"));
        let policies = HashSet::from([
            PeerPolicy::one_of([a.clone(), b.clone()]),
            PeerPolicy::one_of([b.clone(), a.clone(), b.clone()]),
            PeerPolicy::matching([b.into(), a.clone().into()]),
        ]);
        assert_eq!(policies.len(), 1);
        assert_ne!(PeerPolicy::exact(a), PeerPolicy::any_authenticated());
        assert_ne!(PeerPolicy::one_of([]), PeerPolicy::any_authenticated());
    }

    #[test]
    fn rejects_patterns_that_would_not_mean_what_they_seem_to() {
        for (text, error) in [
            ("*", PatternError::Wildcard),
            ("spiffe://*/a", PatternError::Wildcard),
            ("spiffe://*/*", PatternError::Wildcard),
            ("spiffe://td/ns/*/sa/a", PatternError::Wildcard),
            ("spiffe://td/ns/shop*", PatternError::Wildcard),
            ("spiffe://td/ns/**", PatternError::Wildcard),
            ("spiffe://td", PatternError::NoPath),
            ("spiffe://td//*", SpiffeIdError::TrailingSlash.into()),
            ("td/ns/shop/*", SpiffeIdError::Scheme.into()),
        ] {
            assert_eq!(text.parse::<PeerPattern>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_then_parsing_is_identity(text in "spiffe://[a-z]{1,5}(/[A-Za-z0-9]{1,5}){1,4}(/\\*)?") {
            let parsed = pattern(&text);
            prop_assert_eq!(parsed.to_string(), text);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "(spiffe://)?[a-z/*.%]{0,20}|\\PC{0,20}") {
            if let Ok(parsed) = text.parse::<PeerPattern>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }

        #[test]
        fn prefixes_match_by_whole_segments(
            prefix in proptest::collection::vec("[ab]{1,2}", 0..3),
            path in proptest::collection::vec("[ab]{1,2}", 1..4),
        ) {
            let trust_domain: TrustDomain = "td".parse().unwrap();
            let borrow = |segments: &[String]| {
                let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
                SpiffeId::from_segments(&trust_domain, &segments).unwrap()
            };
            let below = path.len() > prefix.len() && path.starts_with(&prefix);
            let pattern = pattern(&format!("{}/*", borrow(&prefix)));
            prop_assert_eq!(pattern.matches(&borrow(&path)), below);
        }
    }
}
