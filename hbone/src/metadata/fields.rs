//! Which header fields are metadata, which belong to HTTP, and which are custom: all others.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub(crate) const BAGGAGE: &str = "baggage";
pub(crate) const FORWARDED: &str = "forwarded";
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const FORWARDED_NETWORK: &str = "x-forwarded-network";

/// Adds a custom field to those of a head of our own.
pub(crate) fn append_custom(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Result<(), HeaderError> {
    if is_connection_specific(&name) {
        return Err(HeaderError::ConnectionSpecific { name });
    }
    if is_reserved(&name) {
        return Err(HeaderError::Reserved { name });
    }
    if size(fields) + field_size(&name, &value) > MAX_CUSTOM_BYTES {
        return Err(HeaderError::TooLarge);
    }
    fields.append(name, value);
    Ok(())
}

/// Picks the custom fields out of the head that a peer sent.
pub(crate) fn custom(headers: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        if !is_connection_specific(name) && !is_reserved(name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

/// The size of fields as RFC 9113, section 6.5.2 counts it.
pub(crate) fn size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| field_size(name, value)).sum()
}

/// RFC 9113, section 8.2.2; `te`, the exception there, says nothing on a tunnel.
pub(crate) fn is_connection_specific(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

/// Shows the names of fields but not their values, which may be credentials.
pub(crate) struct Names<'a>(pub(crate) &'a HeaderMap);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a header field cannot be added to a head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// HTTP/2 has no such field: RFC 9113, section 8.2.2.
    #[error("header field `{name}` is connection-specific")]
    ConnectionSpecific {
        /// The name of the field.
        name: HeaderName,
    },
    /// The field has a setter of its own, or none because the tunnel itself decides it.
    #[error("header field `{name}` is reserved")]
    Reserved {
        /// The name of the field.
        name: HeaderName,
    },
    /// The custom fields would take more than 4096 bytes, counted as RFC 9113, section 6.5.2 does.
    #[error("custom header fields exceed {MAX_CUSTOM_BYTES} bytes")]
    TooLarge,
}

fn is_reserved(name: &HeaderName) -> bool {
    [BAGGAGE, FORWARDED, TRACEPARENT, FORWARDED_NETWORK].contains(&name.as_str())
        || [header::CONTENT_LENGTH, header::HOST].contains(name)
}

fn field_size(name: &HeaderName, value: &HeaderValue) -> usize {
    name.as_str().len() + value.len() + 32
}

/// What the largest other fields leave of the 16 KiB that a receiver takes.
const MAX_CUSTOM_BYTES: usize = 4096;
