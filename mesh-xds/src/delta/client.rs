use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use mesh_xds_types::rpc::Status;
use thiserror::Error;

use super::backoff::Backoff;
use super::limits::{MAX_NAME_LENGTH, MORE, PARTS};
use super::subscription::{Interest, Knowledge, Subscription, explain, names, sift};
use super::waiters::{WaiterId, Waiters};

/// What a [`Client`] asks for, and how patiently.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    node: Node,
    types: Vec<(Arc<str>, Interest)>,
    first_backoff: Duration,
    max_backoff: Duration,
    answer_timeout: Duration,
    max_resources: usize,
    max_names: usize,
    max_waiters: usize,
}

impl ClientConfig {
    /// A client that introduces itself as `node` and asks for nothing yet.
    #[must_use]
    pub fn new(mut node: Node) -> Self {
        if !node.client_features.iter().any(|feature| feature == PARTS) {
            node.client_features.push(PARTS.to_owned());
        }
        Self {
            node,
            types: Vec::new(),
            first_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(30),
            max_resources: 2_000_000,
            max_names: 100_000,
            max_waiters: 65_536,
        }
    }

    /// Asks for all resources of a type.
    #[must_use]
    pub fn all(mut self, type_url: impl Into<Arc<str>>) -> Self {
        self.types.push((type_url.into(), Interest::All));
        self
    }

    /// Asks for resources of a type as they are [demanded](Client::demand). The server may send
    /// more of them.
    #[must_use]
    pub fn on_demand(mut self, type_url: impl Into<Arc<str>>) -> Self {
        self.types.push((type_url.into(), Interest::OnDemand));
        self
    }

    /// How long to wait before connecting again: `first` (10 ms by default), then twice as long
    /// after each failure up to `max` (15 s by default), each less a random part.
    #[must_use]
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.first_backoff = first;
        self.max_backoff = max.max(first);
        self
    }

    /// How long the server may take to answer a request; 30 s by default. The first answer can be
    /// the whole mesh, so this is no round-trip time.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Resources of one type that are taken, 2,000,000 by default: four times the largest mesh that
    /// this crate is measured with. Further ones are refused.
    #[must_use]
    pub fn max_resources(mut self, resources: usize) -> Self {
        self.max_resources = resources;
        self
    }

    /// Names that may be in demand at once, 100,000 by default.
    #[must_use]
    pub fn max_names(mut self, names: usize) -> Self {
        self.max_names = names;
        self
    }

    /// Waiters that there may be at once, 65,536 by default: as many connections may wait for their
    /// destination to be known.
    #[must_use]
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.max_waiters = waiters;
        self
    }
}

/// The client's side of incremental discovery, over any number of streams one after the other.
///
/// A driver tells it what happens and asks it what to do: connect at [`connect_at`](Self::connect_at),
/// send [`next_request`](Self::next_request) until there is none, hand in each response by
/// [`receive`](Self::receive), apply it and say so by [`settle`](Self::settle), and close the stream
/// when it [is stalled](Self::is_stalled).
///
/// `W` is whatever the program tells one of its tasks by that a name is known; it comes back in an
/// [`Answer`].
#[derive(Debug)]
pub struct Client<W> {
    config: ClientConfig,
    subscriptions: Vec<Subscription>,
    waiters: Vec<Waiters<W>>,
    answers: VecDeque<Answer<W>>,
    /// Responses of types that nobody asked for: type and nonce.
    strays: VecDeque<(String, String)>,
    backoff: Backoff,
    link: Link,
    /// Counts the streams, so that a response is answered on its own stream only.
    streams: u64,
}

#[derive(Debug)]
enum Link {
    /// No stream before this moment; no wait before the first.
    Down {
        retry_at: Option<Instant>,
    },
    Up {
        introduced: bool,
    },
}

/// A response on its way to the program, which has to [settle](Client::settle) it.
#[derive(Debug)]
#[must_use = "a response that is not settled is never acknowledged"]
pub struct Push {
    subscription: usize,
    stream: u64,
    type_url: Arc<str>,
    nonce: String,
    resources: Vec<Resource>,
    removed: Vec<String>,
    refused: Vec<(String, &'static str)>,
    is_part: bool,
}

impl Push {
    /// The type of its resources.
    #[must_use]
    pub fn type_url(&self) -> &str {
        &self.type_url
    }

    /// What is new or changed. Each has a name of its own, and content.
    #[must_use]
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Names of what does not exist. The program may never have heard of them.
    #[must_use]
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// The names of what is not among the resources because it could not be taken as one.
    pub(crate) fn unfit(&self) -> impl Iterator<Item = &str> {
        self.refused.iter().map(|(name, _)| name.as_str())
    }

    /// Whether more belongs to it that comes in another one, so that a program that has to know all
    /// does not yet.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.is_part
    }
}

/// A resource that a program cannot use, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name in the resource's envelope.
    pub name: String,
    /// What is wrong, for the people who run the server: one line.
    pub reason: String,
}

/// What became of a name that somebody waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was delivered, and the program has applied it.
    Present,
    /// The server says that there is no such resource.
    Absent,
    /// It was delivered, and the program cannot use it. An earlier version may still be in force.
    Refused,
    /// The deadline passed.
    Expired,
    /// The name was released meanwhile.
    Released,
}

/// The end of a wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<W> {
    /// What was handed to [`Client::demand`].
    pub waiter: W,
    /// How it ended.
    pub outcome: Outcome,
}

/// Why a name cannot be demanded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DemandError {
    /// The type is not one that the client asks for on demand.
    #[error("resources of type `{0}` are not on demand")]
    NotOnDemand(String),
    /// The name cannot be one.
    #[error("a name has 1 to {MAX_NAME_LENGTH} bytes, not {0}")]
    NameLength(usize),
    /// As many names are in demand as may be.
    #[error("{0} names are in demand already")]
    TooManyNames(usize),
    /// As many waiters are there as may be.
    #[error("{0} are waiting already")]
    TooManyWaiters(usize),
}

impl<W> Client<W> {
    /// A client that has nothing and is not connected.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let subscriptions: Vec<_> = config
            .types
            .iter()
            .map(|(type_url, interest)| Subscription::new(Arc::clone(type_url), *interest))
            .collect();
        Self {
            waiters: subscriptions.iter().map(|_| Waiters::new()).collect(),
            subscriptions,
            answers: VecDeque::new(),
            strays: VecDeque::new(),
            backoff: Backoff::new(config.first_backoff, config.max_backoff),
            link: Link::Down { retry_at: None },
            streams: 0,
            config,
        }
    }

    /// A stream is there: what the client wants and has will be said on it.
    pub fn connected(&mut self) {
        self.link = Link::Up { introduced: false };
        self.streams += 1;
        self.strays.clear();
        for subscription in &mut self.subscriptions {
            subscription.restart();
        }
    }

    /// The stream ended, or there was none to be had. `jitter` is a random number that spreads the
    /// clients of a server in time.
    pub fn disconnected(&mut self, now: Instant, jitter: u32) {
        let retry_at = self.backoff.next(now, jitter);
        self.link = Link::Down {
            retry_at: Some(retry_at),
        };
    }

    /// Takes a response. There is nothing to apply if it is one that came before, or of a type that
    /// was not asked for; then the server is told so.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Option<Push> {
        let index = self
            .subscriptions
            .iter()
            .position(|known| known.type_url() == response.type_url);
        let Some((index, subscription)) = index.and_then(|index| Some((index, self.subscriptions.get_mut(index)?)))
        else {
            self.strays.push_back((response.type_url, response.nonce));
            return None;
        };
        if subscription.is_repeated(&response.nonce) {
            return None;
        }
        let mut room = self.config.max_resources.saturating_sub(subscription.held());
        let (resources, refused) = sift(response.resources, |name| {
            let known = subscription.holds(name);
            let fits = known || room > 0;
            room -= usize::from(fits && !known);
            fits
        });
        Some(Push {
            subscription: index,
            stream: self.streams,
            type_url: subscription.type_url().into(),
            nonce: response.nonce,
            resources,
            removed: response.removed_resources,
            refused,
            is_part: response.system_version_info == MORE,
        })
    }

    /// A response was applied, but for the refused resources. Those will be named to the server, and
    /// what the client had of them before it keeps.
    pub fn settle(&mut self, push: Push, refusals: &[Refusal]) {
        let (Some(subscription), Some(waiters)) = (
            self.subscriptions.get_mut(push.subscription),
            self.waiters.get_mut(push.subscription),
        ) else {
            return;
        };
        let unusable: HashSet<&str> = refusals.iter().map(|refusal| refusal.name.as_str()).collect();
        let mut wake = |name: &str, outcome: &Outcome| {
            let answer = |waiter| Answer {
                waiter,
                outcome: outcome.clone(),
            };
            self.answers.extend(waiters.take_all(name).into_iter().map(answer));
        };
        for resource in &push.resources {
            let outcome = if unusable.contains(resource.name.as_str()) {
                Outcome::Refused
            } else {
                subscription.hold(resource);
                Outcome::Present
            };
            for name in names(resource) {
                wake(name, &outcome);
            }
        }
        for (name, _) in &push.refused {
            wake(name, &Outcome::Refused);
        }
        for name in &push.removed {
            subscription.drop_held(name);
            wake(name, &Outcome::Absent);
        }
        // What was applied is known whatever became of the stream; the answer belongs to it alone.
        if push.stream == self.streams && matches!(self.link, Link::Up { .. }) {
            let unfit = push.refused.iter().map(|(name, reason)| (name.as_str(), *reason));
            let refused = refusals
                .iter()
                .map(|refusal| (refusal.name.as_str(), refusal.reason.as_str()));
            subscription.answer(push.nonce, explain(unfit.chain(refused)), !push.is_part);
            self.backoff.reset();
        }
    }

    /// Asks for a name, and for `waiter` to come back when it is known or the deadline passes. Any
    /// number may wait for a name. If the client knows already the answer is there at once.
    ///
    /// The server goes on to report changes of the name until it is [released](Self::release).
    ///
    /// # Errors
    ///
    /// A type that is not on demand, an impossible name, or a limit that is reached.
    pub fn demand(
        &mut self,
        type_url: &str,
        name: &str,
        deadline: Instant,
        waiter: W,
    ) -> Result<WaiterId, DemandError> {
        let index = self
            .subscriptions
            .iter()
            .position(|known| known.is_on_demand() && known.type_url() == type_url);
        let (subscription, waiters) = index
            .and_then(|index| Some((self.subscriptions.get_mut(index)?, self.waiters.get_mut(index)?)))
            .ok_or_else(|| DemandError::NotOnDemand(type_url.to_owned()))?;
        if name.is_empty() || name.len() > MAX_NAME_LENGTH {
            return Err(DemandError::NameLength(name.len()));
        }
        if waiters.len() >= self.config.max_waiters {
            return Err(DemandError::TooManyWaiters(waiters.len()));
        }
        let name: Arc<str> = name.into();
        let knowledge = subscription.knowledge(&name);
        if knowledge.is_none() {
            if subscription.wanted() >= self.config.max_names {
                return Err(DemandError::TooManyNames(subscription.wanted()));
            }
            subscription.want(&name);
        }
        let id = waiters.add(name, deadline, waiter);
        let outcome = match knowledge {
            Some(Knowledge::Present) => Outcome::Present,
            Some(Knowledge::Absent) => Outcome::Absent,
            Some(Knowledge::Pending) | None => return Ok(id),
        };
        self.answers
            .extend(waiters.take(id).map(|waiter| Answer { waiter, outcome }));
        Ok(id)
    }

    /// Takes a waiter back, if it has not been answered. The name stays in demand.
    pub fn abandon(&mut self, id: WaiterId) -> Option<W> {
        self.waiters.iter_mut().find_map(|waiters| waiters.take(id))
    }

    /// Takes a name out of demand and answers whether it was in. The program forgets what it has
    /// under that name: changes are no longer reported. A response that is under way may bring it
    /// once more; that stays until the next stream.
    pub fn release(&mut self, type_url: &str, name: &str) -> bool {
        for (subscription, waiters) in self.subscriptions.iter_mut().zip(&mut self.waiters) {
            if subscription.type_url() == type_url && subscription.release(name) {
                self.answers
                    .extend(waiters.take_all(name).into_iter().map(|waiter| Answer {
                        waiter,
                        outcome: Outcome::Released,
                    }));
                return true;
            }
        }
        false
    }

    /// The next request for the stream. To be asked after each event until there is none.
    pub fn next_request(&mut self, now: Instant) -> Option<DeltaDiscoveryRequest> {
        let Link::Up { introduced } = &mut self.link else {
            return None;
        };
        let patience = self.config.answer_timeout;
        let request = self
            .subscriptions
            .iter_mut()
            .find_map(|subscription| subscription.next_request(now, patience));
        if let Some(mut request) = request {
            if !*introduced {
                *introduced = true;
                request.node = Some(self.config.node.clone());
            }
            return Some(request);
        }
        self.strays
            .pop_front()
            .map(|(type_url, response_nonce)| DeltaDiscoveryRequest {
                error_detail: Some(Status {
                    message: format!("{type_url}: not asked for"),
                    ..Status::default()
                }),
                type_url,
                response_nonce,
                ..DeltaDiscoveryRequest::default()
            })
    }

    /// The next wait that ended. To be asked after each event, and at the [deadline](Self::deadline),
    /// until there is none.
    pub fn next_answer(&mut self, now: Instant) -> Option<Answer<W>> {
        self.answers.pop_front().or_else(|| {
            let waiter = self.waiters.iter_mut().find_map(|waiters| waiters.take_expired(now))?;
            Some(Answer {
                waiter,
                outcome: Outcome::Expired,
            })
        })
    }

    /// When to connect; `None` while there is a stream. A moment that has passed means at once.
    #[must_use]
    pub fn connect_at(&self, now: Instant) -> Option<Instant> {
        match self.link {
            Link::Down { retry_at } => Some(retry_at.unwrap_or(now)),
            Link::Up { .. } => None,
        }
    }

    /// Whether the server owes an answer for too long, so that the stream should be closed.
    #[must_use]
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.overdue().is_some_and(|overdue| overdue <= now)
    }

    /// When something happens by itself: a waiter's deadline, a request that is due again, or the
    /// stream stalls.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let waiters = self.waiters.iter().filter_map(Waiters::deadline);
        let is_up = matches!(self.link, Link::Up { .. });
        let requests = self
            .subscriptions
            .iter()
            .filter(|_| is_up)
            .filter_map(Subscription::ask_again);
        waiters.chain(requests).chain(self.overdue()).min()
    }

    /// Whether all that is wanted unconditionally was delivered once. It stays so when the server
    /// is lost.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.subscriptions.iter().all(Subscription::is_synced)
    }

    /// How many streams there have been.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.streams
    }

    fn overdue(&self) -> Option<Instant> {
        match self.link {
            Link::Down { .. } => None,
            Link::Up { .. } => self.subscriptions.iter().filter_map(Subscription::overdue).min(),
        }
    }
}
