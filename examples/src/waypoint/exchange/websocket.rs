//! The opening of a WebSocket, which a client asks for by HTTP/1.1 (RFC 6455 §4) or by HTTP/2
//! (RFC 8441), and which endpoints are asked for by HTTP/1.1.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Response, StatusCode};

use crate::waypoint::headers;

/// What is put after a key (RFC 6455 §1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client that waits for one.
pub(super) struct Opening {
    client: OnUpgrade,
    is_http2: bool,
    /// What an endpoint has to say to a key that is this program's own: HTTP/2 has none.
    accept: Option<String>,
}

impl Opening {
    /// What a request asks for; it becomes what it would be in HTTP/1.1, as policies and routes know it.
    pub(super) fn asked_by(head: &mut Parts) -> Option<Self> {
        let client = head.extensions.remove::<OnUpgrade>()?;
        let is_http2 = head.method == Method::CONNECT;
        if is_http2 {
            head.method = Method::GET;
        } else if !headers::wants_websocket(head.version, &head.headers) {
            return None;
        }
        Some(Self {
            client,
            is_http2,
            accept: None,
        })
    }

    /// Asks an endpoint for it.
    pub(super) fn ask(mut self, lines: &mut HeaderMap, mut draw: impl FnMut() -> u64) -> Self {
        headers::set_websocket(lines);
        if self.is_http2 && !lines.contains_key(SEC_WEBSOCKET_KEY) {
            let key = STANDARD.encode([draw().to_be_bytes(), draw().to_be_bytes()].concat());
            self.accept = Some(accept(&key));
            if let Ok(key) = key.parse() {
                lines.insert(SEC_WEBSOCKET_KEY, key);
            }
        }
        self
    }

    /// Tells the client that an endpoint has opened it, if it has said what it had to.
    pub(super) fn opened<B>(self, response: &mut Response<B>) -> Option<OnUpgrade> {
        let lines = response.headers_mut();
        if let Some(accept) = &self.accept {
            let said = lines.remove(SEC_WEBSOCKET_ACCEPT)?;
            if said.as_bytes() != accept.as_bytes() {
                return None;
            }
        }
        match self.is_http2 {
            true => *response.status_mut() = StatusCode::OK,
            false => headers::set_websocket(lines),
        }
        Some(self.client)
    }
}

fn accept(key: &str) -> String {
    let said = [key.as_bytes(), SUFFIX].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &said))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 §1.3.
    #[test]
    fn a_key_is_answered_as_the_standard_says() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
