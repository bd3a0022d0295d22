use std::{borrow::Cow, collections::BTreeMap};

use thiserror::Error;

use crate::{spiffe_id::SpiffeId, trust_domain::TrustDomain};

/// Other names of trust domains: how a mesh is renamed, or two are joined, without issuing every
/// certificate anew (Istio's `trustDomainAliases`).
///
/// Each alias stands for one trust domain, the program's own or a federated one. Whoever bears a
/// name in the alias is verified with the one bundle of what it stands for; bundles are never
/// merged. A policy that is about one of the names is about all of them, whether it permits or
/// excepts. The ID of a verified peer stays the one in its certificate.
///
/// ```
/// use mesh_identity::TrustDomainAliases;
///
/// let renamed = TrustDomainAliases::new([("old.example".parse()?, "cluster.local".parse()?)])?;
/// assert_eq!(renamed.resolve(&"old.example".parse()?).as_str(), "cluster.local");
/// assert_eq!(renamed.resolve(&"other.example".parse()?).as_str(), "other.example");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustDomainAliases {
    targets: BTreeMap<TrustDomain, TrustDomain>,
}

impl TrustDomainAliases {
    /// These aliases, each followed by the trust domain that it stands for. None is the default.
    ///
    /// # Errors
    ///
    /// An alias that occurs twice, or stands for itself or another alias.
    pub fn new(aliases: impl IntoIterator<Item = (TrustDomain, TrustDomain)>) -> Result<Self, AliasError> {
        let mut targets = BTreeMap::new();
        for (alias, target) in aliases {
            if targets.insert(alias.clone(), target).is_some() {
                return Err(AliasError::Repeated { alias });
            }
        }
        match targets.iter().find(|(_, target)| targets.contains_key(*target)) {
            Some((alias, _)) => Err(AliasError::Chained { alias: alias.clone() }),
            None => Ok(Self { targets }),
        }
    }

    /// What `trust_domain` stands for: itself, unless it is an alias.
    pub fn resolve<'a>(&'a self, trust_domain: &'a TrustDomain) -> &'a TrustDomain {
        self.targets.get(trust_domain).unwrap_or(trust_domain)
    }

    /// The aliases, each followed by what it stands for, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &TrustDomain)> {
        self.targets.iter()
    }

    pub(crate) fn contains(&self, alias: &TrustDomain) -> bool {
        self.targets.contains_key(alias)
    }

    /// Adds aliases that are new here and stand for no alias.
    pub(crate) fn extend<'a>(&mut self, aliases: impl Iterator<Item = (&'a TrustDomain, &'a TrustDomain)>) {
        let aliases = aliases.map(|(alias, target)| (alias.clone(), target.clone()));
        self.targets.extend(aliases);
    }

    /// Every other name of a trust domain: what it stands for, and what else stands for that.
    pub(crate) fn synonyms<'a>(&'a self, trust_domain: &'a TrustDomain) -> Vec<&'a TrustDomain> {
        let target = self.resolve(trust_domain);
        let aliases = self
            .targets
            .iter()
            .filter_map(|(alias, named)| (named == target).then_some(alias));
        aliases.chain([target]).filter(|name| *name != trust_domain).collect()
    }

    /// The same workload under every name of its trust domain, its own among them.
    pub(crate) fn spellings<'a>(&self, id: &'a SpiffeId) -> Vec<Cow<'a, SpiffeId>> {
        let others = self.synonyms(id.trust_domain());
        others
            .into_iter()
            .map(|name| Cow::Owned(id.moved_to(name.clone())))
            .chain([Cow::Borrowed(id)])
            .collect()
    }
}

/// Why aliases cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AliasError {
    /// An alias stands for two trust domains.
    #[error("alias `{alias}` is given twice")]
    Repeated {
        /// The alias.
        alias: TrustDomain,
    },
    /// An alias stands for itself or for another alias.
    #[error("alias `{alias}` stands for an alias")]
    Chained {
        /// The alias.
        alias: TrustDomain,
    },
    /// An alias has a bundle of its own, so that it would have two.
    #[error("alias `{alias}` has a bundle of its own")]
    OwnBundle {
        /// The alias.
        alias: TrustDomain,
    },
    /// An alias stands for a trust domain without a bundle.
    #[error("alias `{alias}` stands for `{target}`, which has no bundle")]
    NoBundle {
        /// The alias.
        alias: TrustDomain,
        /// What it stands for.
        target: TrustDomain,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn td(name: &str) -> TrustDomain {
        name.parse().unwrap()
    }

    #[test]
    fn each_alias_stands_for_one_trust_domain() {
        let error = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(alias, target)| (td(alias), td(target)));
            TrustDomainAliases::new(pairs).unwrap_err()
        };
        assert_eq!(
            error(&[("a", "own"), ("a", "b")]),
            AliasError::Repeated { alias: td("a") }
        );
        assert_eq!(error(&[("a", "a")]), AliasError::Chained { alias: td("a") });
        assert_eq!(
            error(&[("b", "own"), ("a", "b")]),
            AliasError::Chained { alias: td("a") }
        );
    }

    #[test]
    fn spellings_stay_within_what_an_alias_stands_for() {
        let aliases =
            TrustDomainAliases::new([("a", "own"), ("b", "own"), ("c", "other")].map(|(a, t)| (td(a), td(t)))).unwrap();
        let spelled = |text: &str| {
            let id = text.parse().unwrap();
            let mut names: Vec<_> = aliases.spellings(&id).iter().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let own = ["spiffe://a/x", "spiffe://b/x", "spiffe://own/x"];
        assert_eq!(spelled("spiffe://own/x"), own);
        assert_eq!(spelled("spiffe://b/x"), own);
        assert_eq!(spelled("spiffe://c/x"), ["spiffe://c/x", "spiffe://other/x"]);
        assert_eq!(spelled("spiffe://third/x"), ["spiffe://third/x"]);
    }
}
