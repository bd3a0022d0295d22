//! What a tunnel says about itself beside its destination: baggage, hops, trace, network, and
//! custom header fields.

mod baggage;
pub(crate) mod fields;
mod forwarded;
mod node;
mod token;
mod traceparent;

use std::fmt;

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub use self::baggage::{Baggage, BaggageError, BaggageKey, WorkloadKind};
pub use self::fields::HeaderError;
pub use self::forwarded::{Forwarded, ForwardedElement, ForwardedError};
pub use self::node::{Node, NodeError, NodeName, NodePort};
pub use self::traceparent::{TraceParent, TraceParentError};

use self::fields::{BAGGAGE, FORWARDED, FORWARDED_NETWORK, TRACEPARENT};

/// The metadata of a CONNECT request.
///
/// All of it is a claim of the sender: it serves telemetry and routing hints, and never decides who
/// the peer is. Therefore a receiver does not refuse a tunnel over metadata that it cannot read. A
/// malformed field counts as absent, and [`Metadata::malformed`] says which one and why.
///
/// `Debug` shows the names of custom fields but not their values, which may be credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    baggage: Option<Baggage>,
    forwarded: Option<Forwarded>,
    traceparent: Option<TraceParent>,
    forwarded_network: Option<Box<str>>,
    headers: HeaderMap,
    malformed: Vec<MalformedMetadata>,
}

impl Metadata {
    /// Makes empty metadata.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the metadata among the header fields of a request.
    ///
    /// Never fails: see [`Metadata::malformed`]. All fields that neither HBONE nor HTTP itself
    /// gives a meaning become custom fields. The size of the head is not checked here, but when the
    /// request is read.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut malformed = Vec::new();
        Self {
            baggage: keep(read_baggage(headers), &mut malformed),
            forwarded: keep(read_forwarded(headers), &mut malformed),
            traceparent: keep(read_traceparent(headers), &mut malformed),
            forwarded_network: keep(read_network(headers), &mut malformed),
            headers: fields::custom(headers),
            malformed,
        }
    }

    /// Sets the labels of the source workload. An empty baggage is not sent.
    #[must_use]
    pub fn with_baggage(mut self, baggage: Baggage) -> Self {
        self.baggage = Some(baggage).filter(|baggage| !baggage.is_empty());
        self
    }

    /// Sets the hops before this tunnel. An empty list is not sent.
    #[must_use]
    pub fn with_forwarded(mut self, forwarded: Forwarded) -> Self {
        self.forwarded = Some(forwarded).filter(|forwarded| !forwarded.elements().is_empty());
        self
    }

    /// Sets the trace context.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: TraceParent) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// Sets the name of the network that the connection comes from: 1 to 255 bytes of visible
    /// ASCII.
    ///
    /// Istio's proxies send it only in the inner request of a tunnel through a tunnel.
    ///
    /// # Errors
    ///
    /// [`NetworkError`] if `network` is anything else.
    pub fn with_forwarded_network(mut self, network: &str) -> Result<Self, NetworkError> {
        self.forwarded_network = Some(parse_network(network.as_bytes())?);
        Ok(self)
    }

    /// Adds a custom header field; fields of the same name add up.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if HTTP/2 or this library reserves the name, or the custom fields become too
    /// large.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Result<Self, HeaderError> {
        fields::append_custom(&mut self.headers, name, value)?;
        Ok(self)
    }

    /// The labels of the source workload, as its proxy claims them.
    #[must_use]
    pub fn baggage(&self) -> Option<&Baggage> {
        self.baggage.as_ref()
    }

    /// The hops before this tunnel.
    #[must_use]
    pub fn forwarded(&self) -> Option<&Forwarded> {
        self.forwarded.as_ref()
    }

    /// The trace context.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.traceparent
    }

    /// The name of the network that the connection comes from. Names compare without regard to
    /// case.
    #[must_use]
    pub fn forwarded_network(&self) -> Option<&str> {
        self.forwarded_network.as_deref()
    }

    /// The custom header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The fields that could not be read, and therefore count as absent.
    #[must_use]
    pub fn malformed(&self) -> &[MalformedMetadata] {
        &self.malformed
    }

    /// All fields, as they go on the wire.
    #[must_use]
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(baggage) = &self.baggage {
            headers.insert(BAGGAGE, printed(baggage));
        }
        if let Some(forwarded) = &self.forwarded {
            headers.insert(FORWARDED, printed(forwarded));
        }
        if let Some(traceparent) = &self.traceparent {
            headers.insert(TRACEPARENT, printed(traceparent));
        }
        if let Some(network) = &self.forwarded_network {
            headers.insert(FORWARDED_NETWORK, printed(network));
        }
        headers
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("baggage", &self.baggage)
            .field("forwarded", &self.forwarded)
            .field("traceparent", &self.traceparent)
            .field("forwarded_network", &self.forwarded_network)
            .field("headers", &fields::Names(&self.headers))
            .field("malformed", &self.malformed)
            .finish()
    }
}

/// A metadata field that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedMetadata {
    /// The `baggage` field.
    #[error(transparent)]
    Baggage(#[from] BaggageError),
    /// The `forwarded` field.
    #[error(transparent)]
    Forwarded(#[from] ForwardedError),
    /// The `traceparent` field.
    #[error(transparent)]
    TraceParent(#[from] TraceParentError),
    /// The `x-forwarded-network` field.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A field that may occur once occurs more often.
    #[error("`{field}` field occurs more than once")]
    Repeated {
        /// The name of the field.
        field: &'static str,
    },
}

/// Why a text cannot be the name of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The name is empty.
    #[error("network name is empty")]
    Empty,
    /// The name is longer than 255 bytes.
    #[error("network name of {len} bytes exceeds {MAX_NETWORK} bytes")]
    TooLong {
        /// Length of the name in bytes.
        len: usize,
    },
    /// The name contains a space, a control character or a byte outside ASCII.
    #[error("network name contains byte {byte:#04x}")]
    Byte {
        /// The first such byte.
        byte: u8,
    },
}

fn keep<T>(read: Result<Option<T>, MalformedMetadata>, malformed: &mut Vec<MalformedMetadata>) -> Option<T> {
    read.unwrap_or_else(|fault| {
        malformed.push(fault);
        None
    })
}

pub(crate) fn read_baggage(headers: &HeaderMap) -> Result<Option<Baggage>, MalformedMetadata> {
    let baggage = Baggage::parse(lines(headers, BAGGAGE))?;
    Ok(Some(baggage).filter(|baggage| !baggage.is_empty()))
}

fn read_forwarded(headers: &HeaderMap) -> Result<Option<Forwarded>, MalformedMetadata> {
    let forwarded = Forwarded::parse(lines(headers, FORWARDED))?;
    Ok(Some(forwarded).filter(|forwarded| !forwarded.elements().is_empty()))
}

fn read_traceparent(headers: &HeaderMap) -> Result<Option<TraceParent>, MalformedMetadata> {
    let Some(line) = single_line(headers, TRACEPARENT)? else {
        return Ok(None);
    };
    let text = str::from_utf8(line).map_err(|_| TraceParentError::Field)?;
    Ok(Some(text.parse::<TraceParent>()?))
}

fn read_network(headers: &HeaderMap) -> Result<Option<Box<str>>, MalformedMetadata> {
    let line = single_line(headers, FORWARDED_NETWORK)?;
    Ok(line.map(parse_network).transpose()?)
}

fn parse_network(name: &[u8]) -> Result<Box<str>, NetworkError> {
    if name.is_empty() {
        return Err(NetworkError::Empty);
    }
    if name.len() > MAX_NETWORK {
        return Err(NetworkError::TooLong { len: name.len() });
    }
    if let Some(&byte) = name.iter().find(|byte| !byte.is_ascii_graphic()) {
        return Err(NetworkError::Byte { byte });
    }
    Ok(name.iter().copied().map(char::from).collect())
}

fn lines<'a>(headers: &'a HeaderMap, field: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers.get_all(field).iter().map(HeaderValue::as_bytes)
}

fn single_line<'a>(headers: &'a HeaderMap, field: &'static str) -> Result<Option<&'a [u8]>, MalformedMetadata> {
    let mut lines = lines(headers, field);
    let line = lines.next();
    if lines.next().is_some() {
        return Err(MalformedMetadata::Repeated { field });
    }
    Ok(line)
}

#[expect(
    clippy::expect_used,
    reason = "setters and parsers admit only what prints as visible ASCII, spaces and tabs"
)]
pub(crate) fn printed(field: &impl fmt::Display) -> HeaderValue {
    HeaderValue::try_from(field.to_string()).expect("metadata prints as a field value")
}

const MAX_NETWORK: usize = 255;
