use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};

use super::offer::Offer;
use super::watch::Watch;

/// What comes first of what may be sent at a time: what protects or restricts, and then whom.
pub(super) const FIRST: [&str; 3] = [AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL, ADDRESS_TYPE_URL];

/// How far clients have to be in one type to be told of another.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The latest policy when addresses changed last.
    policies_first: u64,
    /// The latest manifest of each audience when addresses changed last.
    manifests_first: BTreeMap<Arc<str>, u64>,
    /// The latest address when policies were removed last.
    addresses_first: u64,
    /// The latest address when manifests of an audience were removed last.
    addresses_before_manifests: BTreeMap<Arc<str>, u64>,
}

impl Order {
    /// Addresses have changed.
    pub(super) fn addresses_changed(&mut self, offer: &Offer) {
        self.policies_first = offer.to(None, AUTHORIZATION_TYPE_URL).latest();
        let manifests = offer.reserved(MANIFEST_TYPE_URL);
        self.manifests_first = manifests
            .map(|(audience, catalog)| (Arc::clone(audience), catalog.latest()))
            .collect();
    }

    /// Policies were removed.
    pub(super) fn policies_removed(&mut self, offer: &Offer) {
        self.addresses_first = offer.to(None, ADDRESS_TYPE_URL).latest();
    }

    /// Manifests of these audiences were removed.
    pub(super) fn manifests_removed(&mut self, audiences: Vec<Arc<str>>, offer: &Offer) {
        let latest = offer.to(None, ADDRESS_TYPE_URL).latest();
        let there = |audience: &Arc<str>| offer.reserved(MANIFEST_TYPE_URL).any(|(known, _)| known == audience);
        self.addresses_before_manifests.retain(|audience, _| there(audience));
        let removed = audiences.into_iter().map(|audience| (audience, latest));
        self.addresses_before_manifests.extend(removed);
    }

    /// Whether a type has to wait for another one, wholly or with its removals.
    pub(super) fn holds_back(
        &self,
        watches: &BTreeMap<Arc<str>, Watch>,
        audience: Option<&str>,
        type_url: &str,
    ) -> (bool, bool) {
        // A client that does not ask for the other type waits for nothing.
        let is_behind = |other: &str, change| watches.get(other).is_some_and(|watch| watch.settled() < Some(change));
        let of_audience =
            |changes: &BTreeMap<Arc<str>, u64>| audience.and_then(|audience| changes.get(audience)).copied();
        // Its first request comes before that for addresses is known, its first answer after.
        let is_new = || is_behind(type_url, 0);
        match type_url {
            ADDRESS_TYPE_URL => {
                let manifests = of_audience(&self.manifests_first);
                let waits = is_behind(AUTHORIZATION_TYPE_URL, self.policies_first)
                    || manifests.is_some_and(|change| is_behind(MANIFEST_TYPE_URL, change));
                (waits, false)
            }
            AUTHORIZATION_TYPE_URL => (false, is_new() || is_behind(ADDRESS_TYPE_URL, self.addresses_first)),
            MANIFEST_TYPE_URL => {
                let addresses = of_audience(&self.addresses_before_manifests);
                let is_early = addresses.is_some_and(|change| is_behind(ADDRESS_TYPE_URL, change));
                (false, is_new() || is_early)
            }
            _ => (false, false),
        }
    }
}
