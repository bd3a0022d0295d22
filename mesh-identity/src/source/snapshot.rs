use std::{collections::HashMap, sync::Arc};

use crate::{bundle::TrustBundles, spiffe_id::SpiffeId, svid::Svid};

/// What a process presents and trusts at one moment.
///
/// An empty snapshot, which is the default, presents nothing and trusts nobody.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    svids: Vec<Arc<Svid>>,
    /// The places in `svids`: a node's proxy has hundreds, and asks for one with each connection.
    places: HashMap<SpiffeId, usize>,
    trust: Arc<TrustBundles>,
}

impl Snapshot {
    /// A snapshot of `svids`, the default one first, and of the bundles that peers are verified
    /// with. Of two SVIDs with the same SPIFFE ID the first is used.
    pub fn new(svids: impl IntoIterator<Item = Arc<Svid>>, trust: Arc<TrustBundles>) -> Self {
        let svids: Vec<_> = svids.into_iter().collect();
        let mut places = HashMap::with_capacity(svids.len());
        for (place, svid) in svids.iter().enumerate() {
            places.entry(svid.id().clone()).or_insert(place);
        }
        Self { svids, places, trust }
    }

    /// All SVIDs, the default one first.
    pub fn svids(&self) -> &[Arc<Svid>] {
        &self.svids
    }

    /// The SVID to present where nothing says which.
    pub fn default_svid(&self) -> Option<&Arc<Svid>> {
        self.svids.first()
    }

    /// The SVID with this SPIFFE ID.
    pub fn svid(&self, id: &SpiffeId) -> Option<&Arc<Svid>> {
        self.svids.get(*self.places.get(id)?)
    }

    /// The bundles that peers are verified with.
    pub fn trust(&self) -> &Arc<TrustBundles> {
        &self.trust
    }

    /// Whether there is nothing to present.
    pub fn is_empty(&self) -> bool {
        self.svids.is_empty()
    }

    /// Whether there is nothing to present and nobody is trusted: before a source has published
    /// anything, and after it took back all it had.
    pub fn is_blank(&self) -> bool {
        self.is_empty() && !self.has_bundles()
    }

    /// Whether there is any bundle, be it one that distrusts its trust domain.
    pub(super) fn has_bundles(&self) -> bool {
        self.trust.iter().next().is_some()
    }
}
