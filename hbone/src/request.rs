//! The heads that open a tunnel: a CONNECT request and its successful response.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request, response};

use crate::authority::{Authority, AuthorityError};
use crate::metadata::{self, Baggage, HeaderError, MalformedMetadata, Metadata, fields};
use crate::wire::{HeadFault, Refusal, Rejection};

/// A request to open a tunnel.
///
/// # Examples
///
/// ```
/// use hbone::TunnelRequest;
///
/// let request = TunnelRequest::new("10.0.0.7:8080".parse()?);
/// let (head, ()) = request.to_head().into_parts();
/// assert_eq!(head.method, http::Method::CONNECT);
/// assert_eq!(TunnelRequest::from_parts(&head)?, request);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelRequest {
    authority: Authority,
    metadata: Metadata,
}

impl TunnelRequest {
    /// The most header fields of a head. Responses have the same limit.
    pub const MAX_FIELDS: usize = 128;

    /// The most bytes of header fields of a head: names and values, and 32 for each field, as
    /// RFC 9113, section 6.5.2 counts. Responses have the same limit.
    pub const MAX_FIELD_BYTES: usize = 16 * 1024;

    /// Makes a request without metadata.
    #[must_use]
    pub fn new(authority: Authority) -> Self {
        Self {
            authority,
            metadata: Metadata::new(),
        }
    }

    /// Reads the head of a request that a client sent.
    ///
    /// Malformed metadata does not fail the request: see [`Metadata::malformed`].
    ///
    /// Implements RFC 9113, sections 8.2.2 and 8.5.
    ///
    /// # Errors
    ///
    /// [`Rejection::NotConnect`], [`Rejection::MalformedHead`] or [`Rejection::MalformedAuthority`]
    /// if the head is no plain CONNECT with a destination and nothing that contradicts it.
    pub fn from_parts(head: &request::Parts) -> Result<Self, Rejection> {
        if head.method != Method::CONNECT {
            return Err(Rejection::NotConnect);
        }
        check_size(&head.headers)?;
        check_fields(&head.headers)?;
        if head.headers.contains_key(header::CONTENT_LENGTH) {
            return Err(HeadFault::ContentLength.into());
        }
        let authority = read_authority(head)?;
        check_host(&head.headers, &authority)?;
        Ok(Self {
            authority,
            metadata: Metadata::from_headers(&head.headers),
        })
    }

    /// Sets the metadata. Default: none.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The destination.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The head as it goes on the wire.
    #[must_use]
    pub fn to_head(&self) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = Method::CONNECT;
        *head.uri_mut() = to_uri(&self.authority);
        *head.version_mut() = http::Version::HTTP_2;
        *head.headers_mut() = self.metadata.to_headers();
        head
    }
}

/// A response that opens a tunnel.
///
/// `Debug` shows the names of custom fields but not their values, which may be credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelResponse {
    status: StatusCode,
    baggage: Option<Baggage>,
    headers: HeaderMap,
    malformed: Option<MalformedMetadata>,
}

impl TunnelResponse {
    /// Makes a response with status 200, without metadata.
    #[must_use]
    pub fn new() -> Self {
        Self {
            status: StatusCode::OK,
            baggage: None,
            headers: HeaderMap::new(),
            malformed: None,
        }
    }

    /// Reads the head of the final response that a server sent.
    ///
    /// Every successful status opens the tunnel, and `content-length` says nothing there: RFC 9110,
    /// section 9.3.6. Malformed baggage does not fail the response: see
    /// [`TunnelResponse::malformed`].
    ///
    /// # Errors
    ///
    /// [`ResponseError::Refused`] for every other status, [`ResponseError::Malformed`] if the head
    /// is too large or contains fields that HTTP/2 does not have.
    pub fn from_parts(head: &response::Parts) -> Result<Self, ResponseError> {
        if !head.status.is_success() {
            return Err(ResponseError::Refused(head.status.into()));
        }
        check_size(&head.headers)?;
        check_fields(&head.headers)?;
        let (baggage, malformed) = match metadata::read_baggage(&head.headers) {
            Ok(baggage) => (baggage, None),
            Err(fault) => (None, Some(fault)),
        };
        Ok(Self {
            status: head.status,
            baggage,
            headers: fields::custom(&head.headers),
            malformed,
        })
    }

    /// Sets the labels of the destination workload. An empty baggage is not sent.
    #[must_use]
    pub fn with_baggage(mut self, baggage: Baggage) -> Self {
        self.baggage = Some(baggage).filter(|baggage| !baggage.is_empty());
        self
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

    /// The status: 200 to 299.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The labels of the destination workload, as its proxy claims them.
    #[must_use]
    pub fn baggage(&self) -> Option<&Baggage> {
        self.baggage.as_ref()
    }

    /// The custom header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Why the baggage could not be read, and therefore counts as absent.
    #[must_use]
    pub fn malformed(&self) -> Option<MalformedMetadata> {
        self.malformed
    }

    /// The head as it goes on the wire.
    #[must_use]
    pub fn to_head(&self) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        *head.version_mut() = http::Version::HTTP_2;
        *head.headers_mut() = self.headers.clone();
        if let Some(baggage) = &self.baggage {
            head.headers_mut().insert(fields::BAGGAGE, metadata::printed(baggage));
        }
        head
    }
}

impl Default for TunnelResponse {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TunnelResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelResponse")
            .field("status", &self.status)
            .field("baggage", &self.baggage)
            .field("headers", &fields::Names(&self.headers))
            .field("malformed", &self.malformed)
            .finish()
    }
}

/// Why a response opens no tunnel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The server answered with a status that is not successful.
    #[error(transparent)]
    Refused(Refusal),
    /// The status is successful, but the head is malformed.
    #[error(transparent)]
    Malformed(#[from] HeadFault),
}

fn read_authority(head: &request::Parts) -> Result<Authority, Rejection> {
    if head.extensions.get::<h2::ext::Protocol>().is_some() {
        return Err(HeadFault::Protocol.into());
    }
    // A URI without an authority prints an absent path as `/`.
    let path = head.uri.path_and_query();
    if head.uri.scheme().is_some() || path.is_some_and(|path| path.as_str() != "/") {
        return Err(HeadFault::SchemeOrPath.into());
    }
    let authority = head.uri.authority().ok_or(HeadFault::AuthorityMissing)?;
    Ok(authority.as_str().parse::<Authority>()?)
}

/// RFC 9113, section 8.3.1: a `host` that differs makes the request malformed.
fn check_host(headers: &HeaderMap, authority: &Authority) -> Result<(), HeadFault> {
    let names_it = |host: &HeaderValue| {
        let host = host.to_str().ok().map(str::parse::<Authority>);
        host == Some(Ok::<_, AuthorityError>(authority.clone()))
    };
    if headers.get_all(header::HOST).iter().all(names_it) {
        Ok(())
    } else {
        Err(HeadFault::Host)
    }
}

fn check_size(headers: &HeaderMap) -> Result<(), HeadFault> {
    if headers.len() > TunnelRequest::MAX_FIELDS {
        return Err(HeadFault::TooManyFields {
            count: headers.len(),
            limit: TunnelRequest::MAX_FIELDS,
        });
    }
    let bytes = fields::size(headers);
    if bytes > TunnelRequest::MAX_FIELD_BYTES {
        return Err(HeadFault::TooLarge {
            bytes,
            limit: TunnelRequest::MAX_FIELD_BYTES,
        });
    }
    Ok(())
}

fn check_fields(headers: &HeaderMap) -> Result<(), HeadFault> {
    let fault = headers.iter().find(|(name, value)| {
        let trailers = *name == header::TE && value.as_bytes() == b"trailers";
        fields::is_connection_specific(name) && !trailers
    });
    match fault {
        Some((name, _)) => Err(HeadFault::ConnectionSpecific { name: name.clone() }),
        None => Ok(()),
    }
}

#[expect(
    clippy::expect_used,
    reason = "an authority prints as letters, digits and `-._:[]`, all of which a URI takes"
)]
fn to_uri(authority: &Authority) -> Uri {
    Uri::try_from(authority.to_string()).expect("an authority is a URI in authority form")
}
