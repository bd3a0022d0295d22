use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    bundle::{
        TrustBundles,
        document::{BundleDocument, DocumentError},
    },
    json::{Json, JsonError},
    trust_domain::{TrustDomain, TrustDomainError},
};

/// The largest map that is read, in bytes.
pub const MAX_MAP_BYTES: usize = 8 << 20;

/// SPIFFE bundles of several trust domains in one document (SPIFFE Trust Domain and Bundle §5).
///
/// A map is read as a whole or not at all. The refresh hints of its bundles are not about the map.
///
/// ```
/// use mesh_identity::BundleMap;
///
/// let map = BundleMap::parse(br#"{"trust_domains": {"a.example": {"keys": []}, "b.example": {"keys": []}}}"#)?;
/// assert_eq!(map.iter().count(), 2);
/// assert!(BundleMap::parse(br#"{"trust_domains": {"a.example": {"keys": []}, "a.example": {"keys": []}}}"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleMap {
    documents: BTreeMap<TrustDomain, BundleDocument>,
}

impl BundleMap {
    /// The map of these bundles; there may be none.
    ///
    /// # Errors
    ///
    /// Two bundles of the same trust domain.
    pub fn new(documents: impl IntoIterator<Item = BundleDocument>) -> Result<Self, BundleMapError> {
        let mut map = BTreeMap::new();
        for document in documents {
            let trust_domain = document.trust_domain().clone();
            if map.insert(trust_domain.clone(), document).is_some() {
                return Err(BundleMapError::Repeated { trust_domain });
            }
        }
        Ok(Self { documents: map })
    }

    /// Reads a map.
    ///
    /// # Errors
    ///
    /// A text that is too large, is no JSON object, has no `trust_domains`, has a name twice in an
    /// object, or holds a bundle that [`BundleDocument::parse`] would refuse or a name that is no
    /// trust domain.
    pub fn parse(text: &[u8]) -> Result<Self, BundleMapError> {
        if text.len() > MAX_MAP_BYTES {
            return Err(BundleMapError::TooLarge { bytes: text.len() });
        }
        let map = Json::parse(text)?;
        let members = map
            .as_object()
            .and_then(|map| map.get("trust_domains"))
            .and_then(Json::as_object)
            .ok_or(BundleMapError::NoTrustDomains)?;
        let mut documents = BTreeMap::new();
        for (name, document) in members {
            let trust_domain: TrustDomain = name.parse()?;
            let document =
                BundleDocument::from_value(trust_domain.clone(), document).map_err(|fault| BundleMapError::Bundle {
                    trust_domain: trust_domain.clone(),
                    fault,
                })?;
            documents.insert(trust_domain, document);
        }
        Ok(Self { documents })
    }

    /// The map as JSON text.
    pub fn to_json(&self) -> String {
        let documents = self.iter();
        let members: Map<String, Value> = documents
            .map(|document| (document.trust_domain().to_string(), document.to_value()))
            .collect();
        Value::from(Map::from_iter([("trust_domains".to_owned(), members.into())])).to_string()
    }

    /// The bundle of a trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&BundleDocument> {
        self.documents.get(trust_domain)
    }

    /// The bundles, in the order of their trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &BundleDocument> {
        self.documents.values()
    }

    /// The X.509 authorities, each trust domain's apart, to verify with.
    pub fn trust_bundles(&self) -> TrustBundles {
        TrustBundles::of_distinct(self.iter().map(|document| document.trust_bundle().clone()))
    }
}

/// Why a document is no SPIFFE bundle map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleMapError {
    /// The text is larger than [`MAX_MAP_BYTES`].
    #[error("the bundle map has {bytes} bytes, more than {MAX_MAP_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The text is no JSON, or has a name twice.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// There is no `trust_domains`, or it is no JSON object.
    #[error("the bundle map has no object `trust_domains`")]
    NoTrustDomains,
    /// A bundle is filed under what is no trust domain's name.
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    /// A trust domain has two bundles.
    #[error("trust domain `{trust_domain}` has two bundles")]
    Repeated {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// A bundle cannot be read.
    #[error("the bundle of trust domain `{trust_domain}`: {fault}")]
    Bundle {
        /// The trust domain.
        trust_domain: TrustDomain,
        /// What is wrong with its bundle.
        #[source]
        fault: DocumentError,
    },
}
