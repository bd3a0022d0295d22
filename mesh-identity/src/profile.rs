use std::fmt;

/// How strictly certificates are verified: which rules of the standards are relaxed, each by name.
///
/// Most rules cannot be relaxed and have no name here. Among them are the two that keep identities
/// apart, which common meshes give up: a leaf has exactly one URI name, and a path ends at an
/// anchor of the leaf's own trust domain.
///
/// The default, which also holds where no profile is chosen, is [`istio`](Self::istio).
///
/// ```
/// use mesh_identity::{Profile, ProfileRule};
///
/// assert_eq!(Profile::spiffe().relaxed().count(), 0);
/// assert!(Profile::istio().relaxes(ProfileRule::CriticalKeyUsage));
/// let old_tools = Profile::spiffe().relaxing(ProfileRule::LeafConstraints);
/// assert_eq!(old_tools.relaxed().map(ProfileRule::name).collect::<Vec<_>>(), ["leaf_constraints"]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Profile {
    /// One bit for each rule, at its place in [`ProfileRule::ALL`].
    relaxed: u8,
}

impl Profile {
    /// Everything that X509-SVID and RFC 5280 require, and nothing relaxed.
    pub const fn spiffe() -> Self {
        Self { relaxed: 0 }
    }

    /// What Istio's proxies accept of the certificates in use around Istio: by istiod with plugged-in
    /// authorities, by cert-manager, by openssl. Every rule of [`ProfileRule`] is relaxed. Revocation
    /// is judged as ztunnel does.
    pub const fn istio() -> Self {
        let mut profile = Self::spiffe();
        let mut rules: &[ProfileRule] = &ProfileRule::ALL;
        while let [rule, rest @ ..] = rules {
            profile = profile.relaxing(*rule);
            rules = rest;
        }
        profile
    }

    /// The same profile with one more rule relaxed.
    #[must_use]
    pub const fn relaxing(self, rule: ProfileRule) -> Self {
        Self {
            relaxed: self.relaxed | rule.bit(),
        }
    }

    /// Whether a certificate may break `rule`.
    pub const fn relaxes(self, rule: ProfileRule) -> bool {
        self.relaxed & rule.bit() != 0
    }

    /// The rules that are relaxed, in the order of [`ProfileRule::ALL`].
    pub fn relaxed(self) -> impl Iterator<Item = ProfileRule> {
        ProfileRule::ALL.into_iter().filter(move |rule| self.relaxes(*rule))
    }

    pub(crate) const fn enforces(self, rule: ProfileRule) -> bool {
        !self.relaxes(rule)
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::istio()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Profile relaxing ")?;
        f.debug_set().entries(self.relaxed().map(ProfileRule::name)).finish()
    }
}

/// A rule that a [`Profile`] may relax.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProfileRule {
    /// KeyUsage is critical in every certificate of the path (X509-SVID §4.3). It is always
    /// evaluated, so the flag changes nothing here.
    CriticalKeyUsage,
    /// SubjectAltName of a leaf is critical if its subject is empty (RFC 5280 §4.2.1.6). It is
    /// always evaluated, so the flag changes nothing here.
    CriticalNames,
    /// ExtendedKeyUsage of a leaf, if present, names both purposes (X509-SVID §4.4). Relaxed, it has
    /// to name the one that the leaf is used for.
    BothPurposes,
    /// A leaf has BasicConstraints (X509-SVID §4.1). Relaxed, absent ones say that the leaf is no
    /// authority, as in RFC 5280 §4.2.1.9.
    LeafConstraints,
    /// The anchor has KeyUsage (X509-SVID §4.3). Intermediates always need it.
    AnchorKeyUsage,
    /// Where a bundle has revocation lists, the leaf and each intermediate are covered by one of
    /// them. Relaxed, what no list covers counts as not revoked.
    KnownRevocation,
    /// A revocation list counts until its `nextUpdate` and no longer (RFC 5280 §6.3.3). Relaxed, a
    /// list counts until it is replaced.
    FreshRevocation,
}

impl ProfileRule {
    /// Every rule that can be relaxed.
    pub const ALL: [Self; 7] = [
        Self::CriticalKeyUsage,
        Self::CriticalNames,
        Self::BothPurposes,
        Self::LeafConstraints,
        Self::AnchorKeyUsage,
        Self::KnownRevocation,
        Self::FreshRevocation,
    ];

    /// A short name, fit for a configuration or a metric's label. It does not change between
    /// releases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CriticalKeyUsage => "critical_key_usage",
            Self::CriticalNames => "critical_names",
            Self::BothPurposes => "both_purposes",
            Self::LeafConstraints => "leaf_constraints",
            Self::AnchorKeyUsage => "anchor_key_usage",
            Self::KnownRevocation => "known_revocation",
            Self::FreshRevocation => "fresh_revocation",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::CriticalKeyUsage => 1,
            Self::CriticalNames => 1 << 1,
            Self::BothPurposes => 1 << 2,
            Self::LeafConstraints => 1 << 3,
            Self::AnchorKeyUsage => 1 << 4,
            Self::KnownRevocation => 1 << 5,
            Self::FreshRevocation => 1 << 6,
        }
    }
}

impl fmt::Display for ProfileRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rules_are_relaxed_one_by_one() {
        for rule in ProfileRule::ALL {
            let profile = Profile::spiffe().relaxing(rule);
            assert_eq!(profile.relaxed().collect::<Vec<_>>(), [rule]);
        }
    }

    #[test]
    fn the_named_profiles_relax_nothing_and_everything() {
        assert_eq!(Profile::spiffe().relaxed().count(), 0);
        assert_eq!(Profile::istio().relaxed().collect::<Vec<_>>(), ProfileRule::ALL);
        assert_eq!(Profile::default(), Profile::istio());
    }

    #[test]
    fn names_tell_rules_apart() {
        let names: BTreeSet<_> = ProfileRule::ALL.map(ProfileRule::name).into();
        assert_eq!(names.len(), ProfileRule::ALL.len());
    }
}
