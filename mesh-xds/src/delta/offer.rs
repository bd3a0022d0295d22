use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::catalog::{Catalog, Published};

/// What a [`Server`](super::Server) has to offer: of each type one catalog for all clients, or one
/// for each audience, never both.
#[derive(Debug, Default)]
pub(super) struct Offer {
    shared: HashMap<Arc<str>, Catalog>,
    /// By type, then by audience.
    reserved: HashMap<Arc<str>, BTreeMap<Arc<str>, Catalog>>,
    nothing: Catalog,
}

impl Offer {
    /// Takes back what was offered of a type to audiences; whether anything was.
    pub(super) fn end_reserved(&mut self, type_url: &str) -> bool {
        self.reserved.remove(type_url).is_some()
    }

    /// Takes back what was offered of a type to all; whether anything was.
    pub(super) fn end_shared(&mut self, type_url: &str) -> bool {
        self.shared.remove(type_url).is_some()
    }

    /// What all clients are offered of a type, to be changed.
    pub(super) fn shared(&mut self, type_url: &str) -> &mut Catalog {
        self.shared.entry(type_url.into()).or_default()
    }

    /// What the clients of each audience are offered of a type.
    pub(super) fn reserved(&self, type_url: &str) -> impl Iterator<Item = (&Arc<str>, &Catalog)> {
        self.reserved.get(type_url).into_iter().flatten()
    }

    /// Adds and replaces resources of a type for some audiences; if that is to be all, removes the
    /// others, of audiences that are not named, too. Tells whether there were any.
    pub(super) fn reserve(
        &mut self,
        type_url: &str,
        resources: impl IntoIterator<Item = (Arc<str>, Vec<Published>)>,
        is_all: bool,
    ) -> bool {
        let catalogs = self.reserved.entry(type_url.into()).or_default();
        let mut named: BTreeMap<Arc<str>, Vec<Published>> = BTreeMap::new();
        for (audience, resources) in resources {
            named.entry(audience).or_default().extend(resources);
        }
        if is_all {
            for audience in catalogs.keys() {
                named.entry(Arc::clone(audience)).or_default();
            }
        }
        let mut has_removed = false;
        for (audience, resources) in named {
            has_removed |= catalogs.entry(audience).or_default().replace(resources, is_all);
        }
        has_removed
    }

    /// Marks all that is offered of a type, to whomever.
    pub(super) fn mark(&mut self, type_url: &str) {
        let reserved = self.reserved.get_mut(type_url).into_iter().flatten();
        let reserved = reserved.map(|(_, catalog)| catalog);
        self.shared
            .get_mut(type_url)
            .into_iter()
            .chain(reserved)
            .for_each(Catalog::mark);
    }

    /// What a client of an audience is offered of a type.
    pub(super) fn to(&self, audience: Option<&str>, type_url: &str) -> &Catalog {
        let reserved = || self.reserved.get(type_url)?.get(audience?);
        let offered = self.shared.get(type_url).or_else(reserved);
        offered.unwrap_or(&self.nothing)
    }

    /// The same, to be changed, if there is any.
    pub(super) fn to_mut(&mut self, audience: Option<&str>, type_url: &str) -> Option<&mut Catalog> {
        match self.shared.get_mut(type_url) {
            Some(shared) => Some(shared),
            None => self.reserved.get_mut(type_url)?.get_mut(audience?),
        }
    }

    /// Forgets audiences that nothing is offered to and nobody is of.
    pub(super) fn forget(&mut self, type_url: &str, is_there: impl Fn(&str) -> bool) {
        if let Some(catalogs) = self.reserved.get_mut(type_url) {
            catalogs.retain(|audience, catalog| !catalog.is_empty() || is_there(audience));
        }
    }
}
