use std::collections::HashMap;

use crate::{
    bundle::{
        document::{BundleDocument, JwtAuthority},
        map::BundleMap,
    },
    trust_domain::TrustDomain,
};

/// The keys that may sign JWT-SVIDs, each trust domain's apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JwtBundles {
    authorities: HashMap<TrustDomain, Vec<JwtAuthority>>,
}

impl JwtBundles {
    /// The JWT authorities of a trust domain. None, like an empty list, means that its tokens are
    /// not believed.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        self.authorities.get(trust_domain).map(Vec::as_slice)
    }
}

impl From<&BundleDocument> for JwtBundles {
    fn from(document: &BundleDocument) -> Self {
        Self::of([document])
    }
}

impl From<&BundleMap> for JwtBundles {
    fn from(map: &BundleMap) -> Self {
        Self::of(map.iter())
    }
}

impl JwtBundles {
    /// The keys of trust domains that are known to be different.
    #[cfg(feature = "workload-api")]
    pub(crate) fn of_distinct(authorities: HashMap<TrustDomain, Vec<JwtAuthority>>) -> Self {
        Self { authorities }
    }

    fn of<'d>(documents: impl IntoIterator<Item = &'d BundleDocument>) -> Self {
        let authorities = documents
            .into_iter()
            .map(|document| (document.trust_domain().clone(), document.jwt_authorities().to_vec()))
            .collect();
        Self { authorities }
    }
}
