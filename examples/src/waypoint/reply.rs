//! Answers that no endpoint gives, as clients read them.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::headers::grpc_status;

/// The most bytes of a message for a call of gRPC: it stands in a header, and clients take few of
/// those.
const MAX_MESSAGE: usize = 1024;

/// What such a message must not have as it is.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An answer in the place of an endpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
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

    /// The same to a call of gRPC, which has its status and text in the headers of an answer with 200.
    /// Whoever wrote headers may have said the status there; else it is `status`, or follows from
    /// HTTP's.
    pub(super) fn for_call(self, status: Option<u32>) -> Self {
        let Self {
            status: of_http,
            mut headers,
            body,
        } = self;
        let said = grpc_status(&headers).or(status);
        headers.insert(GRPC_STATUS, said.unwrap_or_else(|| of_grpc(of_http)).into());
        if let Some(message) = message(&body) {
            headers.insert(GRPC_MESSAGE, message);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        Self {
            headers,
            ..Self::bare(StatusCode::OK)
        }
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
            headers.entry(CONTENT_TYPE).or_insert(text);
        }
        let mut response = Self::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// What gRPC makes of a status of HTTP (its `http-grpc-status-mapping`).
fn of_grpc(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// As much of a text as a header may have, and as gRPC writes it there (`Status-Message` of its
/// `PROTOCOL-HTTP2`). Envoy, too, leaves out a last line's end.
fn message(text: &[u8]) -> Option<HeaderValue> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let characters = text.utf8_chunks().flat_map(|chunk| {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(broken)
    });
    let mut message = String::new();
    for character in characters {
        let before = message.len();
        message.extend(utf8_percent_encode(character.encode_utf8(&mut [0; 4]), ENCODED));
        if message.len() > MAX_MESSAGE {
            message.truncate(before);
            break;
        }
    }
    let message = HeaderValue::try_from(message).ok();
    message.filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &[u8]) -> Option<String> {
        message(text).map(|message| message.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_call_is_told_in_headers() {
        let mut reply = Reply::bare(StatusCode::UNAUTHORIZED).saying("100 % \"no\"\n");
        for (name, value) in [
            ("x-why", "no badge"),
            ("content-type", "text/html"),
            ("grpc-message", "other"),
        ] {
            reply.headers.insert(name, HeaderValue::from_static(value));
        }
        let call = reply.for_call(None);
        assert_eq!((call.status, &call.body[..]), (StatusCode::OK, &b""[..]));
        let lines = call
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let mut lines: Vec<_> = lines.collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                ("content-type", "application/grpc"),
                ("grpc-message", "100 %25 \"no\""),
                ("grpc-status", "16"),
                ("x-why", "no badge"),
            ]
        );
    }

    #[test]
    fn the_status_is_who_wrote_headers_to_say() {
        for (said, status, expected) in [
            (&["8"][..], Some(4), "8"),
            (&["8", "7"], None, "8"),
            (&["none"], Some(4), "4"),
            (&[], Some(4), "4"),
            (&[], None, "7"),
        ] {
            let mut reply = Reply::bare(StatusCode::FORBIDDEN);
            for line in said {
                reply.headers.append(GRPC_STATUS, HeaderValue::from_static(line));
            }
            let call = reply.for_call(status);
            let lines: Vec<_> = call.headers.get_all(GRPC_STATUS).iter().collect();
            assert_eq!(lines, [expected], "{said:?} {status:?}");
            assert_eq!(call.headers.get(GRPC_MESSAGE), None);
        }
    }

    #[test]
    fn statuses_are_those_of_the_mapping() {
        for (http, grpc) in [
            (200, 2),
            (302, 2),
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (408, 2),
            (413, 2),
            (429, 14),
            (500, 2),
            (502, 14),
            (503, 14),
            (504, 14),
        ] {
            let call = Reply::bare(StatusCode::from_u16(http).unwrap()).for_call(None);
            assert_eq!(grpc_status(&call.headers), Some(grpc), "{http}");
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(told(b""), None);
        assert_eq!(told(b"\n"), None);
        assert_eq!(told(b"a~\r\n").as_deref(), Some("a~%0D"));
        assert_eq!(told(b"a\xff\xc3").as_deref(), Some("a%EF%BF%BD%EF%BF%BD"));
        assert_eq!(told(&[b'a'; 5000]).unwrap().len(), MAX_MESSAGE);
        // Each takes six bytes, and 1024 is no multiple of that.
        let cut = told("é".repeat(5000).as_bytes()).unwrap();
        assert_eq!(cut, "%C3%A9".repeat(MAX_MESSAGE / 6));
    }

    proptest! {
        #[test]
        fn any_text_makes_a_message_that_says_the_same(text in "\\PC{0,60}") {
            let text = format!("{text}.");
            let message = told(text.as_bytes()).unwrap();
            prop_assert!(message.is_ascii());
            prop_assert_eq!(percent_encoding::percent_decode_str(&message).decode_utf8().unwrap(), text);
        }

        #[test]
        fn any_bytes_make_a_short_one_or_none(text in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert!(told(&text).is_none_or(|message| message.len() <= MAX_MESSAGE));
        }
    }
}
