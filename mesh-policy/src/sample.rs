//! Connections and requests that hold their facts.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    facts::{Claims, ConnectionFacts, Facts, Known, Metadata, Peer, RequestFacts},
    normalize::OwnedPath,
};

/// A connection or a request that holds its facts, where [`ConnectionFacts`] and [`RequestFacts`]
/// borrow them: to be kept, changed, and asked about again. For tools and tests, not for traffic.
///
/// What nobody set is unavailable. Addresses and the port are there or unavailable: no connection is
/// without.
///
/// ```
/// use mesh_policy::{Known, Peer, Sample, authz::{Compiler, Dialect, Verdict}};
///
/// let mut sample = Sample::default();
/// sample.peer = Known::Present(Peer::from(&"spiffe://cluster.local/ns/shop/sa/cart".parse()?));
/// let set = Compiler::new(Dialect::Strict).compile([] as [mesh_policy::authz::AuthorizationPolicy; 0])?;
/// let verdict = sample.with(|facts| set.decide(facts).verdict());
/// assert!(matches!(verdict, Verdict::Allow(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Who is at the other end.
    pub peer: Known<Peer>,
    /// The physical source.
    pub source_ip: Option<IpAddr>,
    /// The original client.
    pub remote_ip: Option<IpAddr>,
    /// The destination's address.
    pub destination_ip: Option<IpAddr>,
    /// The destination's port.
    pub destination_port: Option<u16>,
    /// The server name of the TLS handshake.
    pub sni: Known<Box<[u8]>>,
    /// What filters found out.
    pub metadata: Known<FilterMetadata>,
    /// The request, if it is one and not only a connection.
    pub request: Option<SampleRequest>,
}

/// What filters found out, by filter and key.
pub type FilterMetadata = BTreeMap<(Box<str>, Box<str>), Found>;

/// What a filter found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A text.
    Text(Box<str>),
    /// A list of texts.
    List(Vec<Box<str>>),
}

/// The part of a [`Sample`] that a connection does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleRequest {
    /// The method.
    pub method: Box<[u8]>,
    /// The authority.
    pub authority: Known<Box<[u8]>>,
    /// The path, normalized.
    pub path: Known<OwnedPath>,
    /// All header lines, names and values, but those that have a field of their own here. Absent is
    /// as present and empty.
    pub headers: Known<Vec<(String, Vec<u8>)>>,
    /// The claims of the verified token.
    pub claims: Known<Claims>,
}

impl Default for Sample {
    /// A connection of which nothing is known.
    fn default() -> Self {
        Self {
            peer: Known::Unavailable,
            source_ip: None,
            remote_ip: None,
            destination_ip: None,
            destination_port: None,
            sni: Known::Unavailable,
            metadata: Known::Unavailable,
            request: None,
        }
    }
}

impl SampleRequest {
    /// A request with a method, of which nothing else is known.
    pub fn new(method: &[u8]) -> Self {
        Self {
            method: method.into(),
            authority: Known::Unavailable,
            path: Known::Unavailable,
            headers: Known::Unavailable,
            claims: Known::Unavailable,
        }
    }
}

impl Sample {
    /// Hands the facts to a function.
    pub fn with<T>(&self, function: impl FnOnce(Facts<'_>) -> T) -> T {
        let mut connection = ConnectionFacts::new()
            .peer(self.peer.as_ref())
            .sni(self.sni.as_ref().map(|name| &**name))
            .metadata(self.metadata.as_ref().map(|found| found as &dyn Metadata));
        if let Some(address) = self.source_ip {
            connection = connection.source_ip(address);
        }
        if let Some(address) = self.remote_ip {
            connection = connection.remote_ip(address);
        }
        if let Some(address) = self.destination_ip {
            connection = connection.destination_ip(address);
        }
        if let Some(port) = self.destination_port {
            connection = connection.destination_port(port);
        }
        let Some(request) = &self.request else {
            return function(Facts::from(&connection));
        };
        let none: &[(String, Vec<u8>); 0] = &[];
        let facts = match &request.headers {
            Known::Present(lines) => RequestFacts::new(connection, &request.method, lines),
            Known::Absent => RequestFacts::new(connection, &request.method, none),
            Known::Unavailable => RequestFacts::without_headers(connection, &request.method),
        };
        let facts = facts
            .authority(request.authority.as_ref().map(|authority| &**authority))
            .path(request.path.as_ref().map(OwnedPath::borrowed))
            .claims(request.claims.as_ref());
        function(Facts::from(&facts))
    }
}

impl Metadata for FilterMetadata {
    fn is_text(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let found = self.get(&(filter.into(), key.into()));
        matches!(found, Some(Found::Text(text)) if test(text.as_bytes()))
    }

    fn is_listed(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let found = self.get(&(filter.into(), key.into()));
        matches!(found, Some(Found::List(texts)) if texts.iter().any(|text| test(text.as_bytes())))
    }
}
