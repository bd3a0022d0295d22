use std::{io, sync::Arc};

use rustls_pki_types::CertificateDer;
use thiserror::Error;

use super::{
    fetch::FetchError,
    record::Record,
    relationship::{EndpointProfile, Relationship},
    store::BundleStore,
};
use crate::{
    bundle::{BundleError, TrustBundles, document::BundleDocument},
    source::Snapshot,
    trust_domain::TrustDomain,
};

/// The most relationships of one federation.
const MAX_RELATIONSHIPS: usize = 256;

/// What is known of each related trust domain.
pub(super) struct Members {
    members: Vec<Member>,
    store: Option<Arc<dyn BundleStore>>,
}

struct Member {
    relationship: Relationship,
    record: Record,
    failure: Option<Arc<FetchError>>,
    /// Whether the store has the bundle that is held.
    is_saved: bool,
}

/// What a fetch has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Another bundle is held.
    Bundle,
    /// The bundle is the same; it had been a problem before that it could not be fetched.
    Recovery,
    Nothing,
}

impl Members {
    /// The members of these relationships, with what the store has of them.
    pub(super) fn new(
        own: &TrustDomain,
        relationships: Vec<Relationship>,
        web_roots: &[CertificateDer<'static>],
        store: Option<Arc<dyn BundleStore>>,
    ) -> Result<Self, FederationError> {
        if relationships.len() > MAX_RELATIONSHIPS {
            return Err(FederationError::TooMany);
        }
        for (place, relationship) in relationships.iter().enumerate() {
            let others = relationships.iter().take(place);
            check(own, relationship, others, &relationships, web_roots)?;
        }
        let members = relationships
            .into_iter()
            .map(|relationship| Member::new(relationship, store.as_deref()))
            .collect();
        Ok(Self { members, store })
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn relationship(&self, place: usize) -> Option<&Relationship> {
        self.members.get(place).map(|member| &member.relationship)
    }

    /// The bundle of a trust domain.
    pub(super) fn document(&self, trust_domain: &TrustDomain) -> Option<&Arc<BundleDocument>> {
        self.members
            .iter()
            .find(|member| member.relationship.trust_domain == *trust_domain)
            .and_then(|member| member.record.document())
    }

    /// The bundle that is held in one place.
    pub(super) fn held(&self, place: usize) -> Option<&Arc<BundleDocument>> {
        self.members.get(place).and_then(|member| member.record.document())
    }

    pub(super) fn documents(&self) -> Vec<Arc<BundleDocument>> {
        let documents = self.members.iter().filter_map(|member| member.record.document());
        documents.cloned().collect()
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, BundleError> {
        let documents = self.members.iter().filter_map(|member| member.record.document());
        let bundles = TrustBundles::new(documents.map(|document| document.trust_bundle().clone()))?;
        Ok(Snapshot::new([], Arc::new(bundles)))
    }

    /// Takes the text that a fetch has brought.
    pub(super) fn take(&mut self, place: usize, text: &[u8]) -> Change {
        let Some(member) = self.members.get_mut(place) else {
            return Change::Nothing;
        };
        let failed = member.failure.take().is_some();
        let taken = BundleDocument::parse(member.relationship.trust_domain.clone(), text)
            .map_err(FetchError::from)
            .and_then(|document| member.record.take(document).map_err(FetchError::from));
        let change = match taken {
            Ok(true) => {
                member.is_saved = false;
                Change::Bundle
            }
            Ok(false) if failed => Change::Recovery,
            Ok(false) => Change::Nothing,
            Err(error) => {
                member.failure = Some(Arc::new(error));
                return Change::Nothing;
            }
        };
        match member.save(self.store.as_deref()) {
            Ok(()) => change,
            Err(error) => {
                member.failure = Some(Arc::new(FetchError::Store(error)));
                if change == Change::Bundle {
                    change
                } else {
                    Change::Nothing
                }
            }
        }
    }

    /// Takes note of a fetch that failed. The bundle that is held stays.
    pub(super) fn fail(&mut self, place: usize, error: FetchError) {
        if let Some(member) = self.members.get_mut(place) {
            member.failure = Some(Arc::new(error));
        }
    }

    /// The problem with one member, or else with the first that has one.
    pub(super) fn problem(&self, place: Option<usize>) -> Option<FederationProblem> {
        let one = place
            .and_then(|place| self.members.get(place))
            .and_then(Member::problem);
        one.or_else(|| self.members.iter().find_map(Member::problem))
    }

    /// The places of those whose endpoint could not be verified for want of this trust domain's
    /// bundle.
    pub(super) fn waiting_for(&self, trust_domain: &TrustDomain) -> Vec<usize> {
        let lacks = |member: &Member| matches!(member.failure.as_deref(), Some(FetchError::NoBundle { trust_domain: lacking }) if lacking == trust_domain);
        let places = self.members.iter().enumerate();
        places
            .filter(|(_, member)| lacks(member))
            .map(|(place, _)| place)
            .collect()
    }
}

impl Member {
    fn new(mut relationship: Relationship, store: Option<&dyn BundleStore>) -> Self {
        let mut failure = None;
        let stored = store.and_then(|store| {
            load(store, &relationship.trust_domain).unwrap_or_else(|error| {
                failure = Some(Arc::new(error));
                None
            })
        });
        let record = Record::new(relationship.bootstrap.take(), stored.clone());
        Self {
            is_saved: stored.is_some() && record.document().map(|held| &**held) == stored.as_ref(),
            record,
            relationship,
            failure,
        }
    }

    /// Saves the bundle, unless that was done.
    fn save(&mut self, store: Option<&dyn BundleStore>) -> io::Result<()> {
        if let (Some(store), Some(document), false) = (store, self.record.document(), self.is_saved) {
            store.save(document)?;
            self.is_saved = true;
        }
        Ok(())
    }

    fn problem(&self) -> Option<FederationProblem> {
        let error = Arc::clone(self.failure.as_ref()?);
        Some(FederationProblem {
            trust_domain: self.relationship.trust_domain.clone(),
            error,
        })
    }
}

fn load(store: &dyn BundleStore, trust_domain: &TrustDomain) -> Result<Option<BundleDocument>, FetchError> {
    let stored = store.load(trust_domain).map_err(FetchError::Store)?;
    let parse = |text: Vec<u8>| BundleDocument::parse(trust_domain.clone(), &text);
    stored.map(parse).transpose().map_err(FetchError::Stored)
}

fn check<'r>(
    own: &TrustDomain,
    relationship: &Relationship,
    mut others: impl Iterator<Item = &'r Relationship>,
    all: &[Relationship],
    web_roots: &[CertificateDer<'static>],
) -> Result<(), FederationError> {
    let trust_domain = &relationship.trust_domain;
    if trust_domain == own {
        return Err(FederationError::OwnTrustDomain {
            trust_domain: own.clone(),
        });
    }
    if others.any(|other| other.trust_domain == *trust_domain) {
        return Err(FederationError::Repeated {
            trust_domain: trust_domain.clone(),
        });
    }
    if let Some(document) = &relationship.bootstrap
        && document.trust_domain() != trust_domain
    {
        return Err(FederationError::Bootstrap {
            trust_domain: trust_domain.clone(),
            bundle: document.trust_domain().clone(),
        });
    }
    match &relationship.profile {
        EndpointProfile::HttpsWeb if web_roots.is_empty() => Err(FederationError::NoWebRoots {
            trust_domain: trust_domain.clone(),
        }),
        EndpointProfile::HttpsSpiffe { endpoint }
            if !all.iter().any(|other| other.trust_domain == *endpoint.trust_domain()) =>
        {
            Err(FederationError::UnrelatedEndpoint {
                trust_domain: trust_domain.clone(),
                endpoint: endpoint.trust_domain().clone(),
            })
        }
        _ => Ok(()),
    }
}

/// Why relationships make no federation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FederationError {
    /// A relationship is with one's own trust domain.
    #[error("trust domain `{trust_domain}` is one's own")]
    OwnTrustDomain {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// Two relationships are with the same trust domain.
    #[error("trust domain `{trust_domain}` has two relationships")]
    Repeated {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// There are more relationships than may be.
    #[error("there are more than {MAX_RELATIONSHIPS} relationships")]
    TooMany,
    /// The bundle to begin with is another trust domain's.
    #[error("the bundle to begin with is of trust domain `{bundle}`, and not `{trust_domain}`")]
    Bootstrap {
        /// The trust domain of the relationship.
        trust_domain: TrustDomain,
        /// The trust domain of the bundle.
        bundle: TrustDomain,
    },
    /// An endpoint is known by a web certificate, and no roots of such are given.
    #[error("no web roots are given to know the endpoint of trust domain `{trust_domain}` by")]
    NoWebRoots {
        /// The trust domain of the relationship.
        trust_domain: TrustDomain,
    },
    /// A web root is no certificate.
    #[error("web root {number} is malformed")]
    WebRoot {
        /// Which root, counting from one.
        number: usize,
    },
    /// An endpoint is of a third trust domain, with which there is no relationship.
    #[error("the endpoint of trust domain `{trust_domain}` is of `{endpoint}`, with which there is no relationship")]
    UnrelatedEndpoint {
        /// The trust domain of the relationship.
        trust_domain: TrustDomain,
        /// The endpoint's trust domain.
        endpoint: TrustDomain,
    },
}

/// Why there is no newer bundle of a trust domain. The one that is held stays in use.
#[derive(Clone, Debug, Error)]
#[error("trust domain `{trust_domain}`: {error}")]
pub struct FederationProblem {
    trust_domain: TrustDomain,
    #[source]
    error: Arc<FetchError>,
}

impl FederationProblem {
    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What went wrong.
    pub fn error(&self) -> &FetchError {
        &self.error
    }
}
