use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use prost_types::value::Kind;
use thiserror::Error;

use super::catalog::{Catalog, Published};
use super::limits::{MAX_NAME_LENGTH, PARTS};
use super::offer::Offer;
use super::order;
use super::watch::{Terms, Watch};

/// Types that one client may ask for. Ambient has two.
const MAX_TYPES: usize = 16;

/// Bytes of what a client says about itself, which is kept as long as its stream. Istio's say a few
/// kilobytes.
const MAX_NODE_BYTES: usize = 64 << 10;

/// Removals that a type remembers for clients that have not heard of them. If more gather, the
/// clients that are behind lose their streams, and learn of them when they come back.
const MAX_TOMBSTONES: usize = 1_000_000;

/// Resources that a client may have and the server has not, in all types together: each is kept until
/// the client is told.
const MAX_UNKNOWN: usize = 1_000_000;

/// The limits of a [`Server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    answer_timeout: Duration,
    max_clients: usize,
    max_names: usize,
    max_response_bytes: usize,
    part_bytes: usize,
}

impl ServerConfig {
    /// The default limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            answer_timeout: Duration::from_secs(30),
            max_clients: 10_000,
            max_names: 100_000,
            max_response_bytes: 64 << 20,
            part_bytes: 512 << 10,
        }
    }

    /// How long a client may take to answer a response; 30 s by default.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Clients at once, 10,000 by default: Kubernetes counts to 5,000 nodes.
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Self {
        self.max_clients = clients;
        self
    }

    /// Names of one type that a client may ask for, 100,000 by default.
    #[must_use]
    pub fn max_names(mut self, names: usize) -> Self {
        self.max_names = names;
        self
    }

    /// Bytes of resources in one response, 64 MiB by default; the next ones follow in another
    /// response. ztunnel takes 200 MiB, and takes the first response for all that there is.
    #[must_use]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Bytes of resources in one response to a client of this crate, 512 KiB by default. It knows
    /// which response is the last one of an answer, so nobody has to hold a whole mesh in a message.
    #[must_use]
    pub fn part_bytes(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes;
        self
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Names a stream of a [`Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(u64);

/// The server's side of incremental discovery, for any number of clients.
///
/// A driver [connects](Self::connect) a client for each stream, hands in its requests by
/// [`receive`](Self::receive), sends [`next_response`](Self::next_response) until there is none,
/// after each request and after each change of what is published, and closes streams that
/// [are stalled](Self::is_stalled).
///
/// One response of each type is under way to a client at any time, or two parts of an answer to one
/// of this crate's clients: it applies one while the other is made.
///
/// Policies and manifests reach a client before the workloads and services that were published after
/// them, and leave it after those that were removed before them. So publish policies first and remove
/// them last: no client then knows a workload without the policies that are to protect it.
///
/// A type is published [for all](Self::publish), or [for audiences](Self::publish_to), each of which
/// hears of its own only: one way or the other, from the start. Where the way changes, what was
/// published before is gone, and clients that have asked for the type lose their streams. Which audience a client belongs to is not for the client to say: the driver
/// [knows](Self::connect_as) it from the transport.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    offer: Offer,
    clients: BTreeMap<ClientId, Peer>,
    serial: u64,
    nonces: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// Whom its transport knows it to be.
    audience: Option<Arc<str>>,
    /// From its first request.
    node: Option<Node>,
    watches: BTreeMap<Arc<str>, Watch>,
}

/// How far a client is with one type of resources.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The type.
    pub type_url: String,
    /// The number of the latest change of what is published. Each server counts from its start.
    pub latest: u64,
    /// The number of the change up to which the client has what it wants; `None` before it has
    /// answered anything.
    pub held: Option<u64>,
    /// What the client last said against a response of this stream, up to 1,000 characters.
    pub refusal: Option<String>,
}

/// What a request said of an earlier response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// Nothing: it only asks.
    Request,
    /// It was taken.
    Taken,
    /// It was refused, wholly or in part. What it held is not sent again until it changes.
    Refused {
        /// The type of the resources.
        type_url: String,
        /// The client's words: names and reasons.
        message: String,
    },
    /// Something of a response that is none of this stream's, or was answered before.
    Stale,
}

/// Why there is no room for a stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// As many clients are there as may be.
    #[error("{0} clients are connected already")]
    TooManyClients(usize),
}

/// Why a stream has to be closed: its client broke a rule.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// There is no such stream.
    #[error("the client is not connected")]
    NotConnected,
    /// Another type than those before, and there were too many.
    #[error("the client asks for more than {MAX_TYPES} types")]
    TooManyTypes,
    /// More names than a client may ask for.
    #[error("the client asks for {names} names of type `{type_url}`, more than {limit}")]
    TooManyNames {
        /// The type of the resources.
        type_url: String,
        /// How many it would be.
        names: usize,
        /// How many may be.
        limit: usize,
    },
    /// The client has more that the server has not than a client may have.
    #[error("the client has {0} resources that are unknown here, more than {MAX_UNKNOWN}")]
    TooManyUnknown(usize),
    /// A name, or a type, that cannot be one.
    #[error("the client asks for a name of {0} bytes, more than {MAX_NAME_LENGTH}")]
    NameTooLong(usize),
    /// The client says too much about itself.
    #[error("the client describes its node in {0} bytes, more than {MAX_NODE_BYTES}")]
    NodeTooLarge(usize),
}

impl Server {
    /// A server that has nothing.
    #[must_use]
    pub fn new(config: ServerConfig) -> Self {
        Self {
            config,
            offer: Offer::default(),
            clients: BTreeMap::new(),
            serial: 0,
            nonces: 0,
        }
    }

    /// Replaces everything of a type. Clients get what differs.
    pub fn publish(&mut self, type_url: &str, resources: impl IntoIterator<Item = Published>) {
        self.share(type_url);
        let has_removed = self.offer.shared(type_url).replace(resources, true);
        self.changed(type_url, has_removed);
    }

    /// Adds, replaces and then removes some resources of a type.
    pub fn update<'a>(
        &mut self,
        type_url: &str,
        resources: impl IntoIterator<Item = Published>,
        removed: impl IntoIterator<Item = &'a str>,
    ) {
        self.share(type_url);
        let catalog = self.offer.shared(type_url);
        catalog.replace(resources, false);
        let mut has_removed = false;
        for name in removed {
            catalog.remove(name);
            has_removed = true;
        }
        self.changed(type_url, has_removed);
    }

    /// Replaces everything of a type that is not the same for all: each audience gets its own, and
    /// those that are not named, nothing. Clients of one audience hear nothing of another's, not even
    /// names.
    pub fn publish_to(&mut self, type_url: &str, resources: impl IntoIterator<Item = (Arc<str>, Vec<Published>)>) {
        self.unshare(type_url);
        let has_removed = self.offer.reserve(type_url, resources, true);
        self.reserved(type_url, has_removed);
    }

    /// Adds and replaces some resources of a type that is not the same for all.
    pub fn update_to(&mut self, type_url: &str, resources: impl IntoIterator<Item = (Arc<str>, Vec<Published>)>) {
        self.unshare(type_url);
        let has_removed = self.offer.reserve(type_url, resources, false);
        self.reserved(type_url, has_removed);
    }

    /// A client has opened a stream.
    ///
    /// # Errors
    ///
    /// The limit of clients is reached.
    pub fn connect(&mut self) -> Result<ClientId, ConnectError> {
        self.connect_as(None)
    }

    /// A client has opened a stream, of which its transport knows the audience that it belongs to.
    ///
    /// # Errors
    ///
    /// The limit of clients is reached.
    pub fn connect_as(&mut self, audience: Option<Arc<str>>) -> Result<ClientId, ConnectError> {
        if self.clients.len() >= self.config.max_clients {
            return Err(ConnectError::TooManyClients(self.clients.len()));
        }
        self.serial += 1;
        let id = ClientId(self.serial);
        let peer = Peer {
            audience,
            ..Peer::default()
        };
        self.clients.insert(id, peer);
        Ok(id)
    }

    /// A stream ended.
    pub fn disconnect(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// Takes a request, and tells what it says of an earlier response.
    ///
    /// # Errors
    ///
    /// The client breaks a rule, and the stream should be closed with a status that says which.
    pub fn receive(&mut self, id: ClientId, request: &DeltaDiscoveryRequest) -> Result<Heard, Violation> {
        let peer = self.clients.get_mut(&id).ok_or(Violation::NotConnected)?;
        check_size(request)?;
        if peer.node.is_none() {
            peer.node.clone_from(&request.node);
        }
        let limit = self.config.max_names;
        let is_known = peer.watches.contains_key(request.type_url.as_str());
        if !is_known && peer.watches.len() == MAX_TYPES {
            return Err(Violation::TooManyTypes);
        }
        let catalog = self.offer.to(peer.audience.as_deref(), &request.type_url);
        if !is_known {
            check_held(request, catalog, &peer.watches)?;
        }
        let watch = peer.watches.entry(request.type_url.as_str().into()).or_default();
        if is_known {
            watch.change(request);
        } else {
            watch.begin(request, catalog);
        }
        if watch.names() > limit {
            return Err(Violation::TooManyNames {
                type_url: request.type_url.clone(),
                names: watch.names(),
                limit,
            });
        }
        Ok(if request.response_nonce.is_empty() {
            Heard::Request
        } else if !watch.answered(&request.response_nonce) {
            Heard::Stale
        } else if let Some(status) = &request.error_detail {
            watch.refused(&status.message);
            Heard::Refused {
                type_url: request.type_url.clone(),
                message: status.message.clone(),
            }
        } else {
            Heard::Taken
        })
    }

    /// The next response for a client.
    pub fn next_response(&mut self, id: ClientId, now: Instant) -> Option<DeltaDiscoveryResponse> {
        let peer = self.clients.get_mut(&id)?;
        let mut types: Vec<_> = peer.watches.keys().cloned().collect();
        types.sort_by_key(|type_url| {
            let place = order::FIRST.iter().position(|name| **name == **type_url);
            place.unwrap_or(order::FIRST.len())
        });
        // Twice, because a look at addresses may be what the removal of policies waits for.
        for type_url in types.iter().chain(&types) {
            let audience = peer.audience.as_deref();
            let (waits, withholds_removals) = order::holds_back(&self.offer, &peer.watches, audience, type_url);
            let marks_parts = peer.knows_parts();
            let limit = self.config.max_response_bytes;
            let terms = Terms {
                node: peer.node.as_ref().and_then(node_name),
                room: if marks_parts {
                    limit.min(self.config.part_bytes)
                } else {
                    limit
                },
                marks_parts,
                withholds_removals,
                nonce: self.nonces + 1,
                now,
                patience: self.config.answer_timeout,
            };
            let catalog = self.offer.to(audience, type_url);
            let watch = peer.watches.get_mut(type_url).filter(|_| !waits);
            if let Some(mut response) = watch.and_then(|watch| watch.next_response(catalog, terms)) {
                self.nonces += 1;
                address_to(&mut response, type_url);
                return Some(response);
            }
        }
        None
    }

    /// Whether a client owes an answer for too long, so that its stream should be closed.
    #[must_use]
    pub fn is_stalled(&self, id: ClientId, now: Instant) -> bool {
        self.deadline(id).is_some_and(|deadline| deadline <= now)
    }

    /// When a client's stream stalls unless an answer comes.
    #[must_use]
    pub fn deadline(&self, id: ClientId) -> Option<Instant> {
        self.clients.get(&id)?.watches.values().filter_map(Watch::overdue).min()
    }

    /// Whether a stream is still wanted. It is not if its client fell too far behind, or a type that it
    /// asked for was published for all and now is for audiences, or the other way.
    #[must_use]
    pub fn is_connected(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// Who a client says it is; `None` before its first request.
    #[must_use]
    pub fn node(&self, id: ClientId) -> Option<&Node> {
        self.clients.get(&id)?.node.as_ref()
    }

    /// How far a client is with each type that it has asked for.
    pub fn standings(&self, id: ClientId) -> impl Iterator<Item = Standing> {
        let peer = self.clients.get(&id);
        let watches = peer.into_iter().flat_map(|peer| {
            let audience = peer.audience.as_deref();
            peer.watches
                .iter()
                .map(move |(type_url, watch)| (audience, type_url, watch))
        });
        watches.map(|(audience, type_url, watch)| Standing {
            type_url: type_url.to_string(),
            latest: self.offer.to(audience, type_url).latest(),
            held: watch.settled(),
            refusal: watch.refusal().map(str::to_owned),
        })
    }

    /// The streams there are.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    fn share(&mut self, type_url: &str) {
        if self.offer.end_reserved(type_url) {
            self.dismiss(type_url);
        }
    }

    fn unshare(&mut self, type_url: &str) {
        if self.offer.end_shared(type_url) {
            self.dismiss(type_url);
        }
    }

    /// Sends away who has asked for a type: its place in a catalog is none in another.
    fn dismiss(&mut self, type_url: &str) {
        self.clients.retain(|_, peer| !peer.watches.contains_key(type_url));
    }

    /// Something of a type was published for all, or removed.
    fn changed(&mut self, type_url: &str, has_removed: bool) {
        order::changed(&mut self.offer, type_url, has_removed);
        self.prune(None, type_url);
    }

    /// Something of a type was published for audiences, or removed.
    fn reserved(&mut self, type_url: &str, has_removed: bool) {
        order::changed(&mut self.offer, type_url, has_removed);
        let audiences = self.offer.reserved(type_url).map(|(audience, _)| Arc::clone(audience));
        for audience in audiences.collect::<Vec<_>>() {
            self.prune(Some(&audience), type_url);
        }
        let clients = &self.clients;
        self.offer.forget(type_url, |audience| {
            clients.values().any(|peer| peer.audience.as_deref() == Some(audience))
        });
    }

    /// Forgets removals that all clients have heard of, and clients that keep it from that for too
    /// long.
    fn prune(&mut self, audience: Option<&str>, type_url: &str) {
        let Some(catalog) = self.offer.to_mut(audience, type_url) else {
            return;
        };
        if catalog.tombstones() == 0 {
            return;
        }
        let is_told = |peer: &Peer| audience.is_none() || peer.audience.as_deref() == audience;
        let heard = |peer: &Peer| {
            peer.watches
                .get(type_url)
                .filter(|_| is_told(peer))
                .and_then(Watch::heard)
        };
        if catalog.tombstones() > MAX_TOMBSTONES {
            let latest = catalog.latest();
            self.clients
                .retain(|_, peer| heard(peer).is_none_or(|change| change == latest));
        }
        let all_heard = self
            .clients
            .values()
            .filter_map(heard)
            .min()
            .unwrap_or(catalog.latest());
        catalog.prune(all_heard);
    }
}

impl Peer {
    fn knows_parts(&self) -> bool {
        let features = self.node.iter().flat_map(|node| &node.client_features);
        features.into_iter().any(|feature| feature == PARTS)
    }
}

/// Says of what type a response and its resources are.
fn address_to(response: &mut DeltaDiscoveryResponse, type_url: &str) {
    type_url.clone_into(&mut response.type_url);
    let bodies = response
        .resources
        .iter_mut()
        .filter_map(|resource| resource.resource.as_mut());
    for body in bodies {
        type_url.clone_into(&mut body.type_url);
    }
}

/// Checks that there is not too much of what is kept.
fn check_size(request: &DeltaDiscoveryRequest) -> Result<(), Violation> {
    let node = request.node.as_ref().map_or(0, Node::encoded_len);
    if node > MAX_NODE_BYTES {
        return Err(Violation::NodeTooLarge(node));
    }
    let names = [&request.type_url]
        .into_iter()
        .chain(&request.resource_names_subscribe)
        .chain(&request.resource_names_unsubscribe);
    let held = request
        .initial_resource_versions
        .iter()
        .flat_map(|(name, version)| [name, version]);
    match names
        .chain(held)
        .map(String::len)
        .find(|length| *length > MAX_NAME_LENGTH)
    {
        Some(length) => Err(Violation::NameTooLong(length)),
        None => Ok(()),
    }
}

/// Checks that what the client has, and is to lose, is not too much to be kept.
fn check_held(
    request: &DeltaDiscoveryRequest,
    catalog: &Catalog,
    watches: &BTreeMap<Arc<str>, Watch>,
) -> Result<(), Violation> {
    let names = request.initial_resource_versions.keys();
    let unknown = names.filter(|name| catalog.get(name).is_none()).count();
    let kept: usize = watches.values().map(Watch::removals).sum();
    match unknown > 0 && unknown + kept > MAX_UNKNOWN {
        true => Err(Violation::TooManyUnknown(unknown + kept)),
        false => Ok(()),
    }
}

/// The name of the machine that a client runs on, as Istio's clients tell it.
fn node_name(node: &Node) -> Option<&str> {
    match node.metadata.as_ref()?.fields.get("NODE_NAME")?.kind.as_ref()? {
        Kind::StringValue(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}
