use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

/// An answer in the place of the service's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::waypoint) struct Reply {
    pub(in crate::waypoint) status: StatusCode,
    pub(in crate::waypoint) headers: HeaderMap,
    pub(in crate::waypoint) body: Bytes,
}

impl Reply {
    pub(super) fn bare(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Has this text for a body.
    pub(super) fn saying(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl From<Reply> for Response<Bytes> {
    fn from(reply: Reply) -> Self {
        let Reply {
            status,
            mut headers,
            body,
        } = reply;
        if !body.is_empty() {
            let text = HeaderValue::from_static("text/plain");
            headers.entry(header::CONTENT_TYPE).or_insert(text);
        }
        let mut response = Self::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
