use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use prost_types::Any;

use super::catalog::{Catalog, Published};
use super::limits::{MORE, WILDCARD};

/// Resources that a client on demand gets at most: what it asked for, with companions.
const MAX_VIEW: usize = 200_000;

/// Parts of an answer that may be on their way when the next one is made, so that a client has
/// something to apply while the server makes more. Each that waits at a client takes memory there.
const PARTS_AHEAD: usize = 1;

/// Characters that are kept of what a client says against a response.
const MAX_REFUSAL: usize = 1000;

/// What one client has, and is to have, of one type of resources.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether it wants everything.
    wildcard: bool,
    /// Its place in the catalog's log.
    place: u64,
    /// The latest change when it began to want everything. Removals up to there concern it only as
    /// far as it had something, and that was said in the first response.
    begun: u64,
    /// The changes that it had heard of when the stream began, in order, until its place has reached
    /// `begun`.
    known: Vec<u64>,
    /// The names that it asked for.
    wanted: BTreeSet<Arc<str>>,
    /// What it was told under names that it asked for and others that came with them: a version, or
    /// that there is nothing.
    sent: HashMap<Arc<str>, Option<Arc<str>>>,
    /// The version that it was told last of a resource under any of its names, by its own name: what
    /// one name brings is what the client has under all of them.
    latest: HashMap<Arc<str>, Arc<str>>,
    /// What a client that wants everything has and is to lose: removals that nothing was said of yet.
    removed: BTreeSet<Arc<str>>,
    /// A response is due, even an empty one.
    owes: bool,
    /// The names have changed since the last look at the catalog, or that was not finished.
    stale: bool,
    /// The catalog's latest change at the last look.
    seen: u64,
    /// The latest change up to which the client has answered everything that it was to get;
    /// removals that are withheld aside.
    settled: Option<u64>,
    /// What it last said against a response.
    refusal: Option<String>,
    /// Responses on their way, in the order in which they were made: one, or [`PARTS_AHEAD`] parts of
    /// an answer and the next one.
    outstanding: VecDeque<Outstanding>,
}

/// How the next response of a type is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// The machine of the client.
    pub(super) node: Option<&'a str>,
    /// Bytes of resources and names that the response may have; one goes in any case.
    pub(super) room: usize,
    /// Whether the client is told that there is more.
    pub(super) marks_parts: bool,
    /// Whether what is gone stays for now, because something else has to go first. Names that were
    /// asked for are answered all the same.
    pub(super) withholds_removals: bool,
    /// The number of the response.
    pub(super) nonce: u64,
    pub(super) now: Instant,
    /// How long an answer may take.
    pub(super) patience: Duration,
}

/// A response on its way.
#[derive(Debug)]
struct Outstanding {
    nonce: String,
    /// Whether the client knows that the next one belongs to it.
    is_part: bool,
    /// The catalog's change that the client has with it, unless more has to follow.
    brings: Option<u64>,
    overdue: Instant,
}

impl Watch {
    /// The first request of a stream: names, and what the client has.
    pub(super) fn begin(&mut self, request: &DeltaDiscoveryRequest, catalog: &Catalog) {
        let names = &request.resource_names_subscribe;
        self.owes = true;
        if names.is_empty() {
            self.wildcard = true;
        }
        self.change(request);
        self.begun = catalog.latest();
        for (name, version) in &request.initial_resource_versions {
            if self.wildcard {
                match catalog.change_of(name) {
                    Some((change, published)) if **published.version() == **version => self.known.push(change),
                    Some(_) => {}
                    None => drop(self.removed.insert(name.as_str().into())),
                }
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            // Without a version it is one that was asked for and not answered. Others are sent again:
            // a version under one name does not tell what has come under another one since.
            if !version.is_empty() && !self.wanted.contains(&name) {
                self.sent.insert(Arc::clone(&name), Some(Arc::default()));
            }
            // Istio's clients do not repeat the names that they have asked for before.
            self.wanted.insert(name);
        }
        self.known.sort_unstable();
    }

    /// Names that the client wants from now on, or no longer.
    pub(super) fn change(&mut self, request: &DeltaDiscoveryRequest) {
        for name in &request.resource_names_subscribe {
            self.owes = true;
            self.settled = None;
            // What is on its way knows nothing of the name.
            for outstanding in &mut self.outstanding {
                outstanding.brings = None;
            }
            if name == WILDCARD {
                self.wildcard = true;
                continue;
            }
            let name: Arc<str> = name.as_str().into();
            self.stale = true;
            // Whoever asks again has forgotten the answer.
            self.sent.remove(&name);
            self.wanted.insert(name);
        }
        for name in &request.resource_names_unsubscribe {
            if name == WILDCARD {
                // Whoever wants everything again gets all of it: no removals are kept for others.
                self.wildcard = false;
                self.place = 0;
                self.known.clear();
                self.removed.clear();
                continue;
            }
            self.stale = true;
            self.wanted.remove(name.as_str());
            self.sent.remove(name.as_str());
        }
    }

    /// Takes an answer, and tells whether it is to a response that is on its way. The client has what
    /// it brings once those before it are answered, too.
    pub(super) fn answered(&mut self, nonce: &str) -> bool {
        let place = self.outstanding.iter().position(|response| response.nonce == nonce);
        let Some(answered) = place.and_then(|place| self.outstanding.remove(place)) else {
            return false;
        };
        match self.outstanding.back_mut() {
            Some(last) => last.brings = last.brings.or(answered.brings),
            None => self.settled = answered.brings.or(self.settled),
        }
        true
    }

    /// Takes what the client says against a response.
    pub(super) fn refused(&mut self, message: &str) {
        self.refusal = Some(message.chars().take(MAX_REFUSAL).collect());
    }

    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The next response, if one is due and nothing on its way has to be answered before.
    pub(super) fn next_response(&mut self, catalog: &Catalog, terms: Terms<'_>) -> Option<DeltaDiscoveryResponse> {
        let says_removals = !terms.withholds_removals && !self.removed.is_empty();
        let looked = self.seen == catalog.latest() && !self.stale && !says_removals;
        let is_ahead =
            self.outstanding.len() > PARTS_AHEAD || self.outstanding.iter().any(|response| !response.is_part);
        if is_ahead || (looked && !self.owes) {
            return None;
        }
        let mut parcel = Parcel::new(terms.room);
        self.stale = false;
        self.seen = catalog.latest();
        if self.wildcard {
            self.look_at_log(catalog, &mut parcel);
        }
        self.look_at_names(catalog, terms.node, &mut parcel);
        if !terms.withholds_removals {
            self.report_removals(catalog, &mut parcel);
        }
        self.stale = parcel.is_full;
        if parcel.resources.is_empty() && parcel.removed.is_empty() && !self.owes {
            match self.outstanding.back_mut() {
                Some(last) => last.brings = Some(self.seen),
                None => self.settled = Some(self.seen),
            }
            return None;
        }
        let is_part = parcel.is_full && terms.marks_parts;
        // Whoever was told that there is more waits for the last, should the rest be gone by then.
        self.owes = is_part;
        let nonce = format!("{:x}", terms.nonce);
        // Nobody looks at it while something is before it.
        let begun = self.outstanding.back().map_or(terms.now, |last| last.overdue);
        self.outstanding.push_back(Outstanding {
            nonce: nonce.clone(),
            is_part,
            brings: (!self.stale).then_some(self.seen),
            overdue: begun + terms.patience,
        });
        Some(DeltaDiscoveryResponse {
            system_version_info: if is_part {
                MORE.to_owned()
            } else {
                catalog.latest().to_string()
            },
            resources: parcel.resources,
            nonce,
            removed_resources: parcel.removed,
            ..DeltaDiscoveryResponse::default()
        })
    }

    /// How many names it remembers of the client.
    pub(super) fn names(&self) -> usize {
        self.wanted.len()
    }

    /// How many removals it remembers that the client was not told of yet.
    pub(super) fn removals(&self) -> usize {
        self.removed.len()
    }

    /// The change from which on it needs the removals, if it wants any.
    pub(super) fn heard(&self) -> Option<u64> {
        self.wildcard.then(|| self.place.max(self.begun))
    }

    /// The latest change up to which the client has answered everything that it was to get.
    pub(super) fn settled(&self) -> Option<u64> {
        self.settled
    }

    pub(super) fn overdue(&self) -> Option<Instant> {
        self.outstanding.front().map(|outstanding| outstanding.overdue)
    }

    fn look_at_log(&mut self, catalog: &Catalog, parcel: &mut Parcel) {
        for (change, name, published) in catalog.changes_after(self.place) {
            match published {
                Some(_) if self.known.binary_search(&change).is_ok() => {}
                Some(published) => {
                    if !parcel.add(name, published) {
                        return;
                    }
                }
                None if change <= self.begun => {}
                None => drop(self.removed.insert(Arc::clone(name))),
            }
            self.place = change;
        }
        self.known = Vec::new();
    }

    fn report_removals(&mut self, catalog: &Catalog, parcel: &mut Parcel) {
        while let Some(name) = self.removed.pop_first() {
            // Some may have come back before there was a response to report them in.
            if catalog.get(&name).is_none() && !parcel.add_removed(&name) {
                self.removed.insert(name);
                return;
            }
        }
    }

    /// Who wants everything still has to be answered under the names that it asked for, where those
    /// are not names of resources.
    fn look_at_names(&mut self, catalog: &Catalog, node: Option<&str>, parcel: &mut Parcel) {
        let view = if self.wildcard {
            if self.wanted.is_empty() {
                return;
            }
            catalog.view(self.wanted.iter(), None, self.wanted.len())
        } else {
            catalog.view(self.wanted.iter(), node, MAX_VIEW)
        };
        // The log may have brought some under the same name.
        let logged: HashSet<&str> = parcel.resources.iter().map(|resource| resource.name.as_str()).collect();
        let fresh: Vec<_> = view
            .iter()
            .filter(|(name, _)| !logged.contains(name.as_ref()))
            .collect();
        for (name, published) in fresh {
            let version = published.version();
            let is_sent = self.sent.get(*name).is_some_and(|sent| sent.as_ref() == Some(version));
            if is_sent && self.latest.get(published.name()) == Some(version) {
                continue;
            }
            if !parcel.add(name, published) {
                return;
            }
            self.sent.insert(Arc::clone(name), Some(Arc::clone(version)));
            self.latest.insert(Arc::clone(published.name()), Arc::clone(version));
        }
        for name in self.wanted.iter().filter(|name| !view.contains_key(*name)) {
            if self.sent.get(name) != Some(&None) {
                if !parcel.add_removed(name) {
                    return;
                }
                self.sent.insert(Arc::clone(name), None);
            }
        }
        if self.latest.len() > 2 * view.len() + 64 {
            let seen: HashSet<_> = view.values().map(|published| published.name()).collect();
            self.latest.retain(|name, _| seen.contains(name));
        }
        let (wanted, has_all) = (&self.wanted, self.wildcard);
        self.sent.retain(|name, version| {
            let is_due = wanted.contains(name) || view.contains_key(name);
            // What came along with a name stays with who wants everything.
            let stays = has_all && catalog.get(name).is_some();
            is_due || (version.is_some() && !stays && !parcel.add_removed(name))
        });
    }
}

/// A response being filled.
struct Parcel {
    resources: Vec<Resource>,
    removed: Vec<String>,
    room: usize,
    is_full: bool,
}

impl Parcel {
    fn new(room: usize) -> Self {
        Self {
            resources: Vec::new(),
            removed: Vec::new(),
            room,
            is_full: false,
        }
    }

    /// Adds a resource under a name, unless there is no room for it.
    fn add(&mut self, name: &str, published: &Published) -> bool {
        if !self.has_room(name.len() + published.version().len() + published.body().len()) {
            return false;
        }
        let aliases = (name != &**published.name()).then(|| published.name().to_string());
        self.resources.push(Resource {
            version: published.version().to_string(),
            resource: Some(Any {
                // Filled in by who knows the type.
                type_url: String::new(),
                value: published.body().to_vec(),
            }),
            name: name.to_owned(),
            aliases: aliases.into_iter().collect(),
            ttl: None,
        });
        true
    }

    /// Adds the name of what is not there any more, unless there is no room for it.
    fn add_removed(&mut self, name: &str) -> bool {
        let has_room = self.has_room(name.len());
        if has_room {
            self.removed.push(name.to_owned());
        }
        has_room
    }

    fn has_room(&mut self, size: usize) -> bool {
        let is_empty = self.resources.is_empty() && self.removed.is_empty();
        self.is_full |= size > self.room && !is_empty;
        if !self.is_full {
            self.room = self.room.saturating_sub(size);
        }
        !self.is_full
    }
}
