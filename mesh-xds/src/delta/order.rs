use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};

use super::offer::Offer;
use super::watch::Watch;

/// What comes first of what may be sent at a time: what protects or restricts, and then whom.
pub(super) const FIRST: [&str; 3] = [AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL, ADDRESS_TYPE_URL];

/// What comes before addresses, and goes after them.
const GUARDS: [&str; 2] = [AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL];

/// Something of a type was published or removed: marks how far clients have to be in others before
/// they are told.
pub(super) fn changed(offer: &mut Offer, type_url: &str, has_removed: bool) {
    if type_url == ADDRESS_TYPE_URL {
        GUARDS.into_iter().for_each(|guard| offer.mark(guard));
    } else if has_removed && GUARDS.contains(&type_url) {
        offer.mark(ADDRESS_TYPE_URL);
    }
}

/// Whether a type has to wait for another one, wholly or with its removals.
pub(super) fn holds_back(
    offer: &Offer,
    watches: &BTreeMap<Arc<str>, Watch>,
    audience: Option<&str>,
    type_url: &str,
) -> (bool, bool) {
    // A client that does not ask for the other type waits for nothing.
    let is_behind = |other: &str, change| watches.get(other).is_some_and(|watch| watch.settled() < Some(change));
    let is_before_mark = |other: &str| is_behind(other, offer.to(audience, other).marked());
    // Its first request comes before that for addresses is known, its first answer after.
    let is_new = || is_behind(type_url, 0);
    if type_url == ADDRESS_TYPE_URL {
        (GUARDS.into_iter().any(is_before_mark), false)
    } else if GUARDS.contains(&type_url) {
        (false, is_new() || is_before_mark(ADDRESS_TYPE_URL))
    } else {
        (false, false)
    }
}
