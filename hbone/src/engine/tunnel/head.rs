//! Field blocks as the heads of messages, and back (RFC 9113 §8.1 to §8.5).

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{self, Authority, PathAndQuery, Uri};
use http::{Method, StatusCode, Version, request, response};

use super::hpack::Encoder;
use crate::metadata::fields;

/// The message is malformed: an error of its stream (RFC 9113 §8.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Fields of one block, as they are read.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pseudo: Pseudo,
    headers: HeaderMap,
    is_malformed: bool,
}

#[derive(Debug, Default)]
struct Pseudo {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    status: Option<Bytes>,
}

impl Fields {
    /// The next field of the block.
    pub(super) fn push(&mut self, name: &[u8], value: Bytes) {
        let pushed = match name.first() {
            Some(b':') => self.push_pseudo(name, value),
            _ => self.push_header(name, value),
        };
        self.is_malformed |= pushed.is_err();
    }

    /// Pseudo-header fields come before all others, each once (RFC 9113 §8.3). `:protocol` is for
    /// who has been told that it may be used (RFC 8441 §3).
    fn push_pseudo(&mut self, name: &[u8], value: Bytes) -> Result<(), Malformed> {
        let slot = match name {
            b":method" => &mut self.pseudo.method,
            b":scheme" => &mut self.pseudo.scheme,
            b":authority" => &mut self.pseudo.authority,
            b":path" => &mut self.pseudo.path,
            b":status" => &mut self.pseudo.status,
            _ => return Err(Malformed),
        };
        if slot.replace(value).is_some() || !self.headers.is_empty() {
            return Err(Malformed);
        }
        Ok(())
    }

    fn push_header(&mut self, name: &[u8], value: Bytes) -> Result<(), Malformed> {
        let name = HeaderName::from_lowercase(name).map_err(|_| Malformed)?;
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if is_space(value.first()) || is_space(value.last()) {
            return Err(Malformed);
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed)?;
        match self.headers.try_append(name, value) {
            Ok(_) => Ok(()),
            Err(_) => Err(Malformed),
        }
    }

    /// The head of a request (RFC 9113 §8.3.1 and §8.5). What else is wrong with one that asks for
    /// no tunnel is for others to say.
    pub(super) fn into_request(self) -> Result<request::Parts, Malformed> {
        let Pseudo {
            method,
            scheme,
            authority,
            path,
            status,
        } = self.pseudo;
        if self.is_malformed || status.is_some() {
            return Err(Malformed);
        }
        let method = Method::from_bytes(&method.ok_or(Malformed)?).map_err(|_| Malformed)?;
        let uri = match (method == Method::CONNECT, scheme, path) {
            (true, None, None) => to_uri(authority, None)?,
            (false, Some(_), Some(path)) => to_uri(None, Some(path))?,
            _ => return Err(Malformed),
        };
        let (mut head, ()) = http::Request::new(()).into_parts();
        (head.method, head.uri, head.version, head.headers) = (method, uri, Version::HTTP_2, self.headers);
        Ok(head)
    }

    /// The head of a response (RFC 9113 §8.3.2).
    pub(super) fn into_response(self) -> Result<response::Parts, Malformed> {
        let is_request = [
            &self.pseudo.method,
            &self.pseudo.scheme,
            &self.pseudo.authority,
            &self.pseudo.path,
        ];
        if self.is_malformed || is_request.iter().any(|field| field.is_some()) {
            return Err(Malformed);
        }
        let status = self.pseudo.status.ok_or(Malformed)?;
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = StatusCode::from_bytes(&status).map_err(|_| Malformed)?;
        // HTTP/2 has no switch of protocols (RFC 9113 §8.6).
        if head.status == StatusCode::SWITCHING_PROTOCOLS || is_connection_specific(&self.headers) {
            return Err(Malformed);
        }
        (head.version, head.headers) = (Version::HTTP_2, self.headers);
        Ok(head)
    }

    /// Trailers have no pseudo-header fields (RFC 9113 §8.1).
    pub(super) fn check_trailers(&self) -> Result<(), Malformed> {
        let Pseudo {
            method,
            scheme,
            authority,
            path,
            status,
        } = &self.pseudo;
        let has_pseudo = [method, scheme, authority, path, status].iter().any(|f| f.is_some());
        if self.is_malformed || has_pseudo || is_connection_specific(&self.headers) {
            return Err(Malformed);
        }
        Ok(())
    }
}

/// Whether there are fields that are for one connection of HTTP/1 (RFC 9113 §8.2.2).
fn is_connection_specific(headers: &HeaderMap) -> bool {
    headers.keys().any(fields::is_connection_specific)
}

fn to_uri(authority: Option<Bytes>, path: Option<Bytes>) -> Result<Uri, Malformed> {
    let mut parts = uri::Parts::default();
    if let Some(authority) = authority {
        parts.authority = Some(Authority::from_maybe_shared(authority).map_err(|_| Malformed)?);
    }
    if let Some(path) = path {
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed)?);
    }
    Uri::from_parts(parts).map_err(|_| Malformed)
}

/// The block of a CONNECT request (RFC 9113 §8.5).
pub(super) fn encode_request(encoder: &mut Encoder, head: &http::Request<()>) -> Vec<u8> {
    let authority = head.uri().authority().map(|authority| authority.as_str().as_bytes());
    let pseudo = [
        Some((&b":method"[..], head.method().as_str().as_bytes(), false)),
        authority.map(|authority| (&b":authority"[..], authority, false)),
    ];
    encoder.encode(pseudo.into_iter().flatten().chain(regular(head.headers())))
}

/// The block of a response.
pub(super) fn encode_response(encoder: &mut Encoder, head: &http::Response<()>) -> Vec<u8> {
    let status = head.status();
    let status = (&b":status"[..], status.as_str().as_bytes(), false);
    encoder.encode(std::iter::once(status).chain(regular(head.headers())))
}

fn regular(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes(), value.is_sensitive()))
}

#[cfg(test)]
mod tests {
    use super::super::hpack::Decoder;
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in list {
            fields.push(name.as_bytes(), Bytes::copy_from_slice(value.as_bytes()));
        }
        fields
    }

    const CONNECT: (&str, &str) = (":method", "CONNECT");
    const TO: (&str, &str) = (":authority", "a:80");

    #[test]
    fn refuses_what_no_request_has() {
        for list in [
            &[TO][..],
            &[CONNECT, CONNECT, TO],
            &[CONNECT, TO, TO],
            &[CONNECT, TO, (":scheme", "https")],
            &[CONNECT, TO, (":path", "/")],
            &[CONNECT, TO, (":status", "200")],
            &[CONNECT, TO, (":protocol", "websocket")],
            &[CONNECT, TO, (":x", "y")],
            &[CONNECT, ("x", "y"), TO],
            &[CONNECT, TO, ("X", "y")],
            &[CONNECT, TO, ("", "y")],
            &[CONNECT, TO, ("x y", "z")],
            &[CONNECT, TO, ("x", "y\r\nz")],
            &[CONNECT, TO, ("x", "\0")],
            &[CONNECT, TO, ("x", " y")],
            &[CONNECT, TO, ("x", "y\t")],
            &[CONNECT, (":authority", "")],
            &[CONNECT, (":authority", "a b")],
            &[(":method", "GET"), TO, (":path", "/")],
            &[(":method", "GET"), TO, (":scheme", "https")],
            &[(":method", "GET"), (":scheme", "https"), (":path", "")],
            &[(":method", "G T"), (":scheme", "https"), (":path", "/")],
        ] {
            assert!(fields(list).into_request().is_err(), "{list:?}");
        }
    }

    #[test]
    fn reads_a_request() {
        let head = fields(&[CONNECT, TO, ("x", "1"), ("y", ""), ("x", "2")])
            .into_request()
            .unwrap();
        assert_eq!((&head.method, head.version), (&Method::CONNECT, Version::HTTP_2));
        assert_eq!(head.uri, "a:80");
        assert_eq!(head.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
        let other = fields(&[(":method", "GET"), (":scheme", "https"), (":path", "/a?b")]);
        assert_eq!(other.into_request().unwrap().uri, "/a?b");
        assert!(fields(&[CONNECT]).into_request().unwrap().uri.authority().is_none());
    }

    #[test]
    fn refuses_what_no_response_has() {
        for list in [
            &[("x", "y")][..],
            &[(":status", "20")],
            &[(":status", "ok!")],
            &[(":status", "200"), (":status", "200")],
            &[(":status", "200"), CONNECT],
            &[("x", "y"), (":status", "200")],
            &[(":status", "101")],
            &[(":status", "103"), ("upgrade", "h2c")],
            &[(":status", "503"), ("connection", "close")],
        ] {
            assert!(fields(list).into_response().is_err(), "{list:?}");
        }
        let head = fields(&[(":status", "204"), ("x", "y")]).into_response().unwrap();
        assert_eq!((head.status.as_u16(), head.headers.len()), (204, 1));
    }

    #[test]
    fn trailers_have_regular_fields_only() {
        assert_eq!(fields(&[("x", "y")]).check_trailers(), Ok(()));
        assert_eq!(fields(&[(":status", "200")]).check_trailers(), Err(Malformed));
        assert_eq!(fields(&[("X", "y")]).check_trailers(), Err(Malformed));
        assert_eq!(fields(&[("keep-alive", "1")]).check_trailers(), Err(Malformed));
    }

    fn read(block: &[u8]) -> Fields {
        let mut fields = Fields::default();
        let decoded = Decoder::new().decode(block, |name, value, _| {
            fields.push(&name, value);
            true
        });
        decoded.unwrap();
        fields
    }

    #[test]
    fn what_was_written_is_read() {
        let mut request = http::Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = "10.0.0.1:80".parse().unwrap();
        request.headers_mut().insert("baggage", "a=b".parse().unwrap());
        let head = read(&encode_request(&mut Encoder::default(), &request))
            .into_request()
            .unwrap();
        assert_eq!((&head.uri, &head.headers), (request.uri(), request.headers()));

        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        let head = read(&encode_response(&mut Encoder::default(), &response))
            .into_response()
            .unwrap();
        assert_eq!(head.status, StatusCode::IM_A_TEAPOT);
    }
}
