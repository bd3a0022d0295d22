//! What is known about a connection or a request when it is decided about.
//!
//! Facts borrow: they are put together for one decision and cost nothing to make. Every attribute
//! is one of three, [`Known`]: present, absent, or unavailable at this layer. What nobody set is
//! unavailable, so a forgotten attribute can refuse and never admit.

use std::net::IpAddr;

pub use self::{
    attribute::Attribute,
    claims::{Claim, Claims},
    header::Headers,
    metadata::Metadata,
    peer::{Peer, PeerError, PeerName},
};
use crate::normalize::NormalizedPath;

mod attribute;
mod claims;
pub(crate) mod header;
mod metadata;
mod peer;

/// An attribute's value, so far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// It has this value.
    Present(T),
    /// It is known not to be there: a peer without a certificate, a request without a token.
    Absent,
    /// This layer cannot know: a method, where only the connection is seen.
    Unavailable,
}

impl<T> Known<T> {
    /// The value, if it is present.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unavailable => None,
        }
    }

    /// The same of a value made from this one.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Present(value) => Known::Present(make(value)),
            Self::Absent => Known::Absent,
            Self::Unavailable => Known::Unavailable,
        }
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> Known<&T> {
        match self {
            Self::Present(value) => Known::Present(value),
            Self::Absent => Known::Absent,
            Self::Unavailable => Known::Unavailable,
        }
    }

    /// Whether this layer cannot know.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

impl<T> From<Option<T>> for Known<T> {
    /// `None` is an attribute that is known not to be there.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Present)
    }
}

/// What is known about a connection.
///
/// IPv4 addresses that are written as IPv6 ones (`::ffff:10.0.0.1`) are taken for what they are.
///
/// ```
/// use mesh_policy::{ConnectionFacts, Known, Peer};
///
/// let peer = Peer::from(&"spiffe://cluster.local/ns/shop/sa/cart".parse()?);
/// let facts = ConnectionFacts::new()
///     .peer(Known::Present(&peer))
///     .source_ip("10.1.2.3".parse()?)
///     .destination_ip("10.1.2.4".parse()?)
///     .destination_port(8080);
/// # let _ = facts;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct ConnectionFacts<'a> {
    peer: Known<&'a Peer>,
    source_ip: Known<IpAddr>,
    remote_ip: Known<IpAddr>,
    destination_ip: Known<IpAddr>,
    destination_port: Known<u16>,
    sni: Known<&'a [u8]>,
    metadata: Known<&'a dyn Metadata>,
}

impl<'a> ConnectionFacts<'a> {
    /// A connection of which nothing is known.
    pub fn new() -> Self {
        Self {
            peer: Known::Unavailable,
            source_ip: Known::Unavailable,
            remote_ip: Known::Unavailable,
            destination_ip: Known::Unavailable,
            destination_port: Known::Unavailable,
            sni: Known::Unavailable,
            metadata: Known::Unavailable,
        }
    }

    /// Who is at the other end; absent for a peer without a certificate.
    #[must_use]
    pub fn peer(mut self, peer: Known<&'a Peer>) -> Self {
        self.peer = peer;
        self
    }

    /// The address that the connection came from physically (`ipBlocks`, `source.ip`).
    #[must_use]
    pub fn source_ip(mut self, address: IpAddr) -> Self {
        self.source_ip = Known::Present(address.to_canonical());
        self
    }

    /// The address of the original client, as the PROXY protocol or trusted forwarding headers give
    /// it (`remoteIpBlocks`, `remote.ip`). Without those it is the source's.
    #[must_use]
    pub fn remote_ip(mut self, address: IpAddr) -> Self {
        self.remote_ip = Known::Present(address.to_canonical());
        self
    }

    /// The address that the connection is for (`destination.ip`).
    #[must_use]
    pub fn destination_ip(mut self, address: IpAddr) -> Self {
        self.destination_ip = Known::Present(address.to_canonical());
        self
    }

    /// The port that the workload listens on, not the service's (`ports`, `destination.port`). For
    /// a tunnel it is the port inside, not that of the tunnel.
    #[must_use]
    pub fn destination_port(mut self, port: u16) -> Self {
        self.destination_port = Known::Present(port);
        self
    }

    /// The server name of the TLS handshake (`connection.sni`); absent if the client sent none.
    #[must_use]
    pub fn sni(mut self, name: Known<&'a [u8]>) -> Self {
        self.sni = name;
        self
    }

    /// What other filters found out (`experimental.envoy.filters`).
    #[must_use]
    pub fn metadata(mut self, metadata: Known<&'a dyn Metadata>) -> Self {
        self.metadata = metadata;
        self
    }
}

impl Default for ConnectionFacts<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known about a request, and about the connection it came by.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    connection: ConnectionFacts<'a>,
    method: &'a [u8],
    authority: Known<&'a [u8]>,
    path: Known<NormalizedPath<'a>>,
    headers: Known<&'a dyn Headers>,
    claims: Known<&'a Claims>,
}

impl<'a> RequestFacts<'a> {
    /// A request with its method and its header lines. Authority, path and claims are unavailable
    /// until they are set.
    pub fn new(connection: ConnectionFacts<'a>, method: &'a [u8], headers: &'a dyn Headers) -> Self {
        Self {
            headers: Known::Present(headers),
            ..Self::without_headers(connection, method)
        }
    }

    /// A request of whose header lines nothing is known, which is not that it has none. Authority,
    /// path and claims are unavailable until they are set.
    pub fn without_headers(connection: ConnectionFacts<'a>, method: &'a [u8]) -> Self {
        Self {
            connection,
            method,
            authority: Known::Unavailable,
            path: Known::Unavailable,
            headers: Known::Unavailable,
            claims: Known::Unavailable,
        }
    }

    /// The request's `:authority`, in HTTP/1 its `Host` or the authority of an absolute target.
    #[must_use]
    pub fn authority(mut self, authority: Known<&'a [u8]>) -> Self {
        self.authority = authority;
        self
    }

    /// The request's path; absent for a CONNECT without one.
    #[must_use]
    pub fn path(mut self, path: Known<NormalizedPath<'a>>) -> Self {
        self.path = path;
        self
    }

    /// The claims of the verified token; absent if there is none. Claims of a token that was not
    /// verified must not be given.
    #[must_use]
    pub fn claims(mut self, claims: Known<&'a Claims>) -> Self {
        self.claims = claims;
        self
    }
}

/// What a decision is about: a connection, or a request on one.
///
/// Made of [`ConnectionFacts`] or [`RequestFacts`] where facts are asked for. The getters are for
/// evaluators; those about requests answer [`Known::Unavailable`] for a connection.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    connection: &'a ConnectionFacts<'a>,
    request: Option<&'a RequestFacts<'a>>,
}

impl<'a> Facts<'a> {
    /// Whether there is a request, and not only a connection.
    pub fn is_request(&self) -> bool {
        self.request.is_some()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Known<&'a Peer> {
        self.connection.peer
    }

    /// The physical source.
    pub fn source_ip(&self) -> Known<IpAddr> {
        self.connection.source_ip
    }

    /// The original client.
    pub fn remote_ip(&self) -> Known<IpAddr> {
        self.connection.remote_ip
    }

    /// The destination's address.
    pub fn destination_ip(&self) -> Known<IpAddr> {
        self.connection.destination_ip
    }

    /// The destination's port.
    pub fn destination_port(&self) -> Known<u16> {
        self.connection.destination_port
    }

    /// The server name of the TLS handshake.
    pub fn sni(&self) -> Known<&'a [u8]> {
        self.connection.sni
    }

    /// What other filters found out.
    pub fn metadata(&self) -> Known<&'a dyn Metadata> {
        self.connection.metadata
    }

    /// The request's method.
    pub fn method(&self) -> Known<&'a [u8]> {
        self.request
            .map_or(Known::Unavailable, |request| Known::Present(request.method))
    }

    /// The request's authority.
    pub fn authority(&self) -> Known<&'a [u8]> {
        self.request.map_or(Known::Unavailable, |request| request.authority)
    }

    /// The request's path.
    pub fn path(&self) -> Known<NormalizedPath<'a>> {
        self.request.map_or(Known::Unavailable, |request| request.path)
    }

    /// The request's header lines.
    pub fn headers(&self) -> Known<&'a dyn Headers> {
        self.request.map_or(Known::Unavailable, |request| request.headers)
    }

    /// The claims of the request's token.
    pub fn claims(&self) -> Known<&'a Claims> {
        self.request.map_or(Known::Unavailable, |request| request.claims)
    }

    /// Whether an attribute cannot be known here.
    pub fn lacks(&self, attribute: &Attribute) -> bool {
        match attribute {
            Attribute::Principal | Attribute::Namespace | Attribute::ServiceAccount | Attribute::TrustDomain => {
                self.peer().is_unavailable()
            }
            Attribute::SourceIp => self.source_ip().is_unavailable(),
            Attribute::RemoteIp => self.remote_ip().is_unavailable(),
            Attribute::DestinationIp => self.destination_ip().is_unavailable(),
            Attribute::DestinationPort => self.destination_port().is_unavailable(),
            Attribute::Sni => self.sni().is_unavailable(),
            Attribute::Metadata { .. } => self.metadata().is_unavailable(),
            Attribute::Method => self.method().is_unavailable(),
            Attribute::Host => self.authority().is_unavailable(),
            Attribute::Path => self.path().is_unavailable(),
            Attribute::Header(name) => match &**name {
                ":authority" | "host" => self.authority().is_unavailable(),
                ":method" => self.method().is_unavailable(),
                ":path" => self.path().is_unavailable(),
                _ if attribute.is_beyond_facts() => true,
                _ => self.headers().is_unavailable(),
            },
            Attribute::RequestPrincipal | Attribute::Audiences | Attribute::Presenter | Attribute::Claim(_) => {
                self.claims().is_unavailable()
            }
        }
    }
}

impl<'a> From<&'a ConnectionFacts<'a>> for Facts<'a> {
    fn from(connection: &'a ConnectionFacts<'a>) -> Self {
        Self {
            connection,
            request: None,
        }
    }
}

impl<'a> From<&'a RequestFacts<'a>> for Facts<'a> {
    fn from(request: &'a RequestFacts<'a>) -> Self {
        Self {
            connection: &request.connection,
            request: Some(request),
        }
    }
}
