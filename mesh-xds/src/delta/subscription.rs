use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_xds_types::discovery::{DeltaDiscoveryRequest, Resource};
use mesh_xds_types::rpc::Status;

use super::held::Held;
use super::limits::{MAX_NAME_LENGTH, WILDCARD};

/// Responses of a stream whose repetition is noticed. A server has few under way for each type.
const REMEMBERED_NONCES: usize = 32;

/// Bytes of the explanation in a refusal. What is cut off is told by the count of resources.
const MAX_EXPLANATION: usize = 4096;

/// The gRPC status of a refusal.
const INVALID_ARGUMENT: i32 = 3;

/// Which resources of a type a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    All,
    OnDemand,
}

/// What is known of a name that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// No answer yet.
    Pending,
    Present,
    Absent,
}

/// A client's part in one type of resources.
#[derive(Debug)]
pub(super) struct Subscription {
    type_url: Arc<str>,
    interest: Interest,
    /// What the client has.
    held: Held,
    /// What was asked for, of resources on demand.
    wanted: BTreeMap<Arc<str>, Knowledge>,
    /// The names of `wanted` that were never answered.
    pending: BTreeSet<Arc<str>>,
    /// The names of `wanted` that are known as further names of a resource, by its name.
    carried: HashMap<Box<str>, Vec<Arc<str>>>,
    /// Whether all wanted resources were delivered once.
    synced: bool,
    stream: Stream,
}

/// What belongs to one stream only.
#[derive(Debug, Default)]
struct Stream {
    /// Whether its first request was made.
    started: bool,
    /// Whether there was a response to it. Nothing is asked for before: a server would take a second
    /// request for the first one if that got lost.
    opened: bool,
    /// What the next request asks for, and no longer asks for.
    subscribe: BTreeSet<Arc<str>>,
    unsubscribe: BTreeSet<Arc<str>>,
    /// Responses to answer: nonce and refusal.
    answers: VecDeque<(String, Option<String>)>,
    nonces: VecDeque<String>,
    /// When the server's answer to a request is overdue.
    overdue: Option<Instant>,
    /// When the names that were not answered are asked for again. Responses do not tell what they
    /// answer, so a lost request may look like an answered one.
    ask_again: Option<Instant>,
}

impl Subscription {
    pub(super) fn new(type_url: Arc<str>, interest: Interest) -> Self {
        Self {
            type_url,
            interest,
            held: Held::default(),
            wanted: BTreeMap::new(),
            pending: BTreeSet::new(),
            carried: HashMap::new(),
            synced: false,
            stream: Stream::default(),
        }
    }

    /// A new stream: everything that was said on the last one has to be said again.
    pub(super) fn restart(&mut self) {
        self.stream = Stream::default();
    }

    /// Adds a name to those asked for.
    pub(super) fn want(&mut self, name: &Arc<str>) {
        self.wanted.insert(Arc::clone(name), Knowledge::Pending);
        self.pending.insert(Arc::clone(name));
        self.stream.unsubscribe.remove(name);
        self.stream.subscribe.insert(Arc::clone(name));
    }

    /// Takes a name from those asked for, and forgets what was held under it.
    pub(super) fn release(&mut self, name: &str) -> bool {
        let Some((name, _)) = self.wanted.remove_entry(name) else {
            return false;
        };
        self.held.remove(&name);
        self.drop_carried(&name, &[]);
        self.pending.remove(&name);
        if !self.stream.subscribe.remove(&name) {
            self.stream.unsubscribe.insert(name);
        }
        true
    }

    /// Notes a response, and answers whether it came before.
    pub(super) fn is_repeated(&mut self, nonce: &str) -> bool {
        self.stream.overdue = None;
        self.stream.opened = true;
        let nonces = &mut self.stream.nonces;
        // Without nonces there is nothing to tell responses apart by.
        if nonce.is_empty() {
            return false;
        }
        if nonces.iter().any(|known| known == nonce) {
            return true;
        }
        if nonces.len() == REMEMBERED_NONCES {
            nonces.pop_front();
        }
        nonces.push_back(nonce.to_owned());
        false
    }

    /// Has a resource from now on.
    pub(super) fn hold(&mut self, resource: &Resource) {
        self.held.insert(&resource.name, &resource.version);
        self.learn(&resource.name, Knowledge::Present);
        self.drop_carried(&resource.name, &resource.aliases);
        for alias in &resource.aliases {
            let Some((wanted, _)) = self.wanted.get_key_value(alias.as_str()) else {
                continue;
            };
            let carried = self.carried.entry(resource.name.as_str().into()).or_default();
            if !self.held.contains(alias) && !carried.contains(wanted) {
                carried.push(Arc::clone(wanted));
            }
            self.learn(alias, Knowledge::Present);
        }
    }

    /// Has a resource no longer.
    pub(super) fn drop_held(&mut self, name: &str) {
        self.held.remove(name);
        self.drop_carried(name, &[]);
        self.learn(name, Knowledge::Absent);
    }

    /// Answers a response, with a refusal or without.
    pub(super) fn answer(&mut self, nonce: String, refusal: Option<String>, is_whole: bool) {
        self.synced |= is_whole;
        self.stream.answers.push_back((nonce, refusal));
    }

    /// The next thing to say, if there is one. An answer to it is late after `patience`.
    pub(super) fn next_request(&mut self, now: Instant, patience: Duration) -> Option<DeltaDiscoveryRequest> {
        if self.stream.ask_again.is_some_and(|at| at <= now) {
            self.stream.subscribe.extend(self.pending.iter().cloned());
        }
        let mut request = DeltaDiscoveryRequest {
            type_url: self.type_url.to_string(),
            ..DeltaDiscoveryRequest::default()
        };
        if !self.stream.started {
            self.first_request(&mut request);
        } else if !self.stream.opened {
            return None;
        } else {
            let subscribe = std::mem::take(&mut self.stream.subscribe);
            let unsubscribe = std::mem::take(&mut self.stream.unsubscribe);
            let answer = self.stream.answers.pop_front();
            if subscribe.is_empty() && unsubscribe.is_empty() && answer.is_none() {
                return None;
            }
            request.resource_names_subscribe = subscribe.iter().map(ToString::to_string).collect();
            request.resource_names_unsubscribe = unsubscribe.iter().map(ToString::to_string).collect();
            if let Some((nonce, refusal)) = answer {
                request.response_nonce = nonce;
                request.error_detail = refusal.map(refused);
            }
        }
        let is_answered = !request.resource_names_subscribe.is_empty() || !self.stream.started;
        if is_answered {
            self.stream.overdue.get_or_insert(now + patience);
            self.stream.ask_again = Some(now + patience);
        }
        self.stream.started = true;
        Some(request)
    }

    pub(super) fn type_url(&self) -> &str {
        &self.type_url
    }

    pub(super) fn is_on_demand(&self) -> bool {
        self.interest == Interest::OnDemand
    }

    /// Whether the first response was taken; what is on demand needs none.
    pub(super) fn is_synced(&self) -> bool {
        self.synced || self.is_on_demand()
    }

    pub(super) fn knowledge(&self, name: &str) -> Option<Knowledge> {
        self.wanted.get(name).copied()
    }

    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.held.contains(name)
    }

    /// When the server's answer is late.
    pub(super) fn overdue(&self) -> Option<Instant> {
        self.stream.overdue
    }

    /// When there is something to ask for again.
    pub(super) fn ask_again(&self) -> Option<Instant> {
        self.stream.ask_again.filter(|_| !self.pending.is_empty())
    }

    /// Interest in everything is said by no names at all, interest in names only by taking back the
    /// wildcard: servers take a first request without names for the former.
    fn first_request(&mut self, request: &mut DeltaDiscoveryRequest) {
        let held = self
            .held
            .iter()
            .map(|(name, version)| (name.to_string(), version.to_string()));
        request.initial_resource_versions = held.collect();
        if self.is_on_demand() {
            request.resource_names_subscribe.push(WILDCARD.to_owned());
            request
                .resource_names_subscribe
                .extend(self.wanted.keys().map(ToString::to_string));
            request.resource_names_unsubscribe.push(WILDCARD.to_owned());
        }
        self.stream.subscribe.clear();
        self.stream.unsubscribe.clear();
    }

    /// Asks again for the names that were known as those of a resource, but for some that still are.
    fn drop_carried(&mut self, name: &str, still: &[String]) {
        for alias in self.carried.remove(name).unwrap_or_default() {
            let is_held = self.held.contains(&alias) || still.iter().any(|name| **name == *alias);
            if !is_held && self.wanted.contains_key(&alias) {
                self.want(&alias);
            }
        }
    }

    fn learn(&mut self, name: &str, knowledge: Knowledge) {
        if let Some(known) = self.wanted.get_mut(name) {
            *known = knowledge;
            self.pending.remove(name);
        }
    }
}

/// All names of a resource.
pub(super) fn names(resource: &Resource) -> impl Iterator<Item = &str> {
    [&resource.name]
        .into_iter()
        .chain(&resource.aliases)
        .map(String::as_str)
}

/// The resources of a response that can be told apart, and why the others cannot be taken.
pub(super) fn sift(
    resources: Vec<Resource>,
    mut has_room: impl FnMut(&str) -> bool,
) -> (Vec<Resource>, Vec<(String, &'static str)>) {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for resource in &resources {
        if !seen.insert(resource.name.as_str()) {
            repeated.insert(resource.name.clone());
        }
    }
    let mut refused = Vec::new();
    let mut taken = Vec::with_capacity(resources.len());
    for resource in resources {
        let fault = if resource.name.is_empty() {
            "has no name"
        } else if names(&resource).any(|name| name.len() > MAX_NAME_LENGTH) || resource.version.len() > MAX_NAME_LENGTH
        {
            "has a name or version that is too long"
        } else if repeated.contains(&resource.name) {
            "is there more than once"
        } else if resource.resource.is_none() {
            "has no content"
        } else if !has_room(&resource.name) {
            "is one too many"
        } else {
            taken.push(resource);
            continue;
        };
        refused.push((resource.name, fault));
    }
    (taken, refused)
}

/// The explanation of a refusal: `name: reason` for each resource, as far as there is room.
pub(super) fn explain<'a>(refusals: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for (name, reason) in refusals {
        if text.len() + name.len() + reason.len() > MAX_EXPLANATION {
            left_out += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(name);
        text.push_str(": ");
        text.push_str(reason);
    }
    if left_out > 0 {
        text.push_str(&format!("; and {left_out} more"));
    }
    (!text.is_empty()).then_some(text)
}

fn refused(message: String) -> Status {
    Status {
        code: INVALID_ARGUMENT,
        message,
        details: Vec::new(),
    }
}
