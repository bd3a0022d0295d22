use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// A resource as a [`Server`](super::Server) offers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    name: Arc<str>,
    version: Arc<str>,
    body: Arc<[u8]>,
    aliases: Vec<Arc<str>>,
    node: Option<Arc<str>>,
    companions: Vec<Arc<str>>,
}

impl Published {
    /// A resource with its name, its version and its encoded content. The same version has to mean
    /// the same content, also after a restart of the server: a hash of the content does.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, version: impl Into<Arc<str>>, body: impl Into<Arc<[u8]>>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            body: body.into(),
            aliases: Vec::new(),
            node: None,
            companions: Vec::new(),
        }
    }

    /// Further names that it can be asked for by, as `network/IP`.
    #[must_use]
    pub fn aliases(mut self, aliases: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.aliases = aliases.into_iter().map(Into::into).collect();
        self
    }

    /// The node that it runs on: clients on that node get it without asking.
    #[must_use]
    pub fn node(mut self, node: impl Into<Arc<str>>) -> Self {
        self.node = Some(node.into());
        self
    }

    /// Names of what is of no use without it, or it without them: they go to whoever asks for this
    /// resource. Companions of companions do, too.
    #[must_use]
    pub fn companions(mut self, companions: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.companions = companions.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn version(&self) -> &Arc<str> {
        &self.version
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// All resources of a type, and the order in which they changed.
///
/// A change has a number. The log holds the latest change of each name, those of removed names
/// included, so it is at most as long as there are names, and a client's place in it is one number.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    latest: u64,
    /// The latest change when it was marked last.
    marked: u64,
    entries: HashMap<Arc<str>, (u64, Arc<Published>)>,
    tombstones: HashMap<Arc<str>, u64>,
    log: BTreeMap<u64, Arc<str>>,
    aliases: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    nodes: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Catalog {
    /// Adds or replaces a resource; the same version again changes nothing.
    pub(super) fn insert(&mut self, published: Published) {
        let published = Arc::new(published);
        let name = Arc::clone(&published.name);
        if self.entries.get(&name).is_some_and(|(_, known)| **known == *published) {
            return;
        }
        self.forget(&name);
        self.latest += 1;
        self.log.insert(self.latest, Arc::clone(&name));
        for alias in &published.aliases {
            self.aliases
                .entry(Arc::clone(alias))
                .or_default()
                .insert(Arc::clone(&name));
        }
        if let Some(node) = &published.node {
            self.nodes
                .entry(Arc::clone(node))
                .or_default()
                .insert(Arc::clone(&name));
        }
        self.entries.insert(name, (self.latest, published));
    }

    /// Adds and replaces resources; if that is to be all, removes the others. Tells whether there
    /// were any.
    pub(super) fn replace(&mut self, resources: impl IntoIterator<Item = Published>, is_all: bool) -> bool {
        let mut gone: BTreeSet<Arc<str>> = match is_all {
            true => self.entries.keys().cloned().collect(),
            false => BTreeSet::new(),
        };
        for published in resources {
            gone.remove(published.name());
            self.insert(published);
        }
        for name in &gone {
            self.remove(name);
        }
        !gone.is_empty()
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.entries.contains_key(name)
            && let Some(name) = self.forget(name)
        {
            self.latest += 1;
            self.log.insert(self.latest, Arc::clone(&name));
            self.tombstones.insert(name, self.latest);
        }
    }

    /// Forgets removals up to a change: nobody has to hear of them any more.
    pub(super) fn prune(&mut self, heard: u64) {
        let log = &mut self.log;
        self.tombstones.retain(|_, change| {
            let keep = *change > heard;
            if !keep {
                log.remove(change);
            }
            keep
        });
    }

    /// The number of the latest change.
    pub(super) fn latest(&self) -> u64 {
        self.latest
    }

    /// Marks the latest change as what clients have to have before something else is told.
    pub(super) fn mark(&mut self) {
        self.marked = self.latest;
    }

    /// The change that was marked last; 0 before.
    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    pub(super) fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Published>> {
        self.entries.get(name).map(|(_, published)| published)
    }

    /// A resource with the number of its latest change.
    pub(super) fn change_of(&self, name: &str) -> Option<(u64, &Arc<Published>)> {
        self.entries.get(name).map(|(change, published)| (*change, published))
    }

    /// What a name means: the resource of that name, or the first one that has it as an alias.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Published>> {
        self.get(name).or_else(|| self.get(self.aliases.get(name)?.first()?))
    }

    /// The names that changed after a change, with what they mean now.
    pub(super) fn changes_after(&self, change: u64) -> impl Iterator<Item = (u64, &Arc<str>, Option<&Arc<Published>>)> {
        let changes = self.log.range((Bound::Excluded(change), Bound::Unbounded));
        changes.map(|(change, name)| (*change, name, self.get(name)))
    }

    /// Whether there is nothing, and nothing that somebody has to hear the end of.
    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// What a client of `node` gets when it asks for `wanted`, by the name to send it under. The
    /// walk along companions ends at `limit` resources.
    pub(super) fn view<'a>(
        &'a self,
        wanted: impl Iterator<Item = &'a Arc<str>>,
        node: Option<&str>,
        limit: usize,
    ) -> BTreeMap<&'a Arc<str>, &'a Arc<Published>> {
        let mut view = BTreeMap::new();
        let mut open = Vec::new();
        for name in wanted {
            if let Some(published) = self.find(name) {
                view.insert(name, published);
                open.push(published);
            }
        }
        let local = node.and_then(|node| self.nodes.get(node)).into_iter().flatten();
        for published in local.filter_map(|name| self.get(name)) {
            if view.insert(&published.name, published).is_none() {
                open.push(published);
            }
        }
        while let Some(published) = open.pop() {
            for companion in published.companions.iter().filter_map(|name| self.get(name)) {
                if view.len() >= limit {
                    return view;
                }
                if view.insert(&companion.name, companion).is_none() {
                    open.push(companion);
                }
            }
        }
        view
    }

    /// Takes a name out of everything, its tombstone included.
    fn forget(&mut self, name: &str) -> Option<Arc<str>> {
        if let Some(change) = self.tombstones.remove(name) {
            self.log.remove(&change);
        }
        let (name, (change, published)) = self.entries.remove_entry(name)?;
        self.log.remove(&change);
        for alias in &published.aliases {
            drop_from(&mut self.aliases, alias, &name);
        }
        if let Some(node) = &published.node {
            drop_from(&mut self.nodes, node, &name);
        }
        Some(name)
    }
}

fn drop_from(index: &mut HashMap<Arc<str>, BTreeSet<Arc<str>>>, key: &str, name: &str) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
