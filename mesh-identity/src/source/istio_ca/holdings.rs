use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::{answer::Issued, call::CaError, schedule::Number};
use crate::{
    bundle::{BundleError, TrustBundle, TrustBundles},
    source::snapshot::Snapshot,
    spiffe_id::SpiffeId,
    svid::Svid,
    trust_domain::TrustDomain,
};

/// The certificates in use, and what is wrong with the others.
pub(super) struct Holdings {
    trust: Trust,
    held: BTreeMap<Number, Held>,
    problems: BTreeMap<Number, IdentityProblem>,
}

struct Held {
    svid: Arc<Svid>,
    roots: Arc<[CertificateDer<'static>]>,
}

enum Trust {
    Configured(Arc<TrustBundles>),
    /// The roots of all certificates in use.
    Answered {
        trust_domain: TrustDomain,
        roots: HashSet<CertificateDer<'static>>,
        bundles: Arc<TrustBundles>,
    },
}

impl Holdings {
    pub(super) fn new(trust_domain: TrustDomain, configured: Option<Arc<TrustBundles>>) -> Self {
        Self {
            trust: match configured {
                Some(bundles) => Trust::Configured(bundles),
                None => Trust::Answered {
                    trust_domain,
                    roots: HashSet::new(),
                    bundles: Arc::default(),
                },
            },
            held: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Whether the roots in use would still make a bundle with this answer in place of the one before.
    /// Were it held otherwise, nothing could be published any more, not even what has to go.
    pub(super) fn check(&self, number: Number, issued: &Issued) -> Result<(), BundleError> {
        let Trust::Answered { trust_domain, .. } = &self.trust else {
            return Ok(());
        };
        if self.held.values().any(|held| *held.roots == *issued.roots) {
            return Ok(());
        }
        let others = self.held.iter().filter(|(other, _)| **other != number);
        let roots: HashSet<_> = others
            .flat_map(|(_, held)| held.roots.iter())
            .chain(&issued.roots)
            .cloned()
            .collect();
        TrustBundle::new(trust_domain.clone(), roots).map(drop)
    }

    pub(super) fn hold(&mut self, number: Number, issued: Issued) {
        // Nearly always everybody's roots are the same.
        let known = self.held.values().find(|held| *held.roots == *issued.roots);
        let roots = known.map_or_else(|| issued.roots.into(), |held| Arc::clone(&held.roots));
        self.problems.remove(&number);
        self.held.insert(
            number,
            Held {
                svid: issued.svid,
                roots,
            },
        );
    }

    pub(super) fn withdraw(&mut self, number: Number) {
        self.held.remove(&number);
    }

    pub(super) fn fail(&mut self, number: Number, problem: IdentityProblem) {
        self.problems.insert(number, problem);
    }

    /// Nobody wants the identity, so that nothing about it is a problem.
    pub(super) fn forget(&mut self, number: Number) {
        self.withdraw(number);
        self.problems.remove(&number);
    }

    /// The problem to show: the one of the identity that was wanted first.
    pub(super) fn problem(&self) -> Option<&IdentityProblem> {
        self.problems.values().next()
    }

    /// Everything in use, in the order in which it was first wanted.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot, BundleError> {
        let trust = self.trust.of(&self.held)?;
        Ok(Snapshot::new(
            self.held.values().map(|held| Arc::clone(&held.svid)),
            trust,
        ))
    }
}

impl Trust {
    fn of(&mut self, held: &BTreeMap<Number, Held>) -> Result<Arc<TrustBundles>, BundleError> {
        let (trust_domain, known, bundles) = match self {
            Self::Configured(bundles) => return Ok(Arc::clone(bundles)),
            Self::Answered {
                trust_domain,
                roots,
                bundles,
            } => (trust_domain, roots, bundles),
        };
        let mut sets = HashSet::new();
        let current: HashSet<_> = held
            .values()
            .filter(|held| sets.insert(Arc::as_ptr(&held.roots)))
            .flat_map(|held| held.roots.iter().cloned())
            .collect();
        if current != *known {
            *bundles = if current.is_empty() {
                Arc::default()
            } else {
                let bundle = TrustBundle::new(trust_domain.clone(), current.iter().cloned())?;
                Arc::new(bundle.into())
            };
            *known = current;
        }
        Ok(Arc::clone(bundles))
    }
}

/// Why there is no new certificate for an identity.
#[derive(Clone, Debug, Error)]
#[error("`{id}`: {error}")]
pub struct IdentityProblem {
    pub(super) id: SpiffeId,
    #[source]
    pub(super) error: Arc<CaError>,
}

impl IdentityProblem {
    /// The identity.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// What went wrong.
    pub fn error(&self) -> &CaError {
        &self.error
    }
}
