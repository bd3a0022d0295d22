//! What a client speaks, by its first bytes. The mesh does not say which ports are for HTTP.
//!
//! What does not begin as HTTP has to is carried as bytes, and then no policy about requests lets it
//! pass: it is unknown what they ask for, so that such a rule denies and does not allow. What has begun
//! so, as far as it goes, is HTTP: its parser says the rest.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// How long a client may be silent before its protocol is taken for one in which servers speak
/// first.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest request line that is waited for.
const MAX_LINE: usize = 8 * 1024;

/// The longest method: no registered one is longer.
const MAX_METHOD: usize = 32;

/// How an HTTP/2 client begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    /// Something else.
    Bytes,
}

/// Reads until it is clear what a client speaks, and answers with what was read, too.
pub(super) async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut read = BytesMut::new();
    let reading = async {
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(None);
            }
            if let Some(protocol) = judge(&read) {
                return Ok(Some(protocol));
            }
        }
    };
    let judged = timeout(PATIENCE, reading).await;
    let judged = judged.unwrap_or(Ok::<_, io::Error>(None))?;
    Ok((judged.unwrap_or_else(|| begun(&read)), read.freeze()))
}

/// What is taken to begin so where no more comes. A client that says the rest later must not have it
/// carried unread.
fn begun(bytes: &[u8]) -> Protocol {
    match bytes {
        [] => Protocol::Bytes,
        [b'P', b'R', b'I', b' ', b'*', ..] => Protocol::Http2,
        _ => Protocol::Http1,
    }
}

/// What begins so, if that is clear.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    // Servers pass over empty lines before a request (RFC 9112 §2.2).
    let bytes = match bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) {
        Some(begin) => bytes.get(begin..).unwrap_or_default(),
        None if bytes.len() < MAX_LINE => return None,
        None => return Some(Protocol::Http1),
    };
    let method = bytes
        .iter()
        .position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    match method.map(|end| (end, bytes.get(end))) {
        None if bytes.len() <= MAX_METHOD => return None,
        Some((1..=MAX_METHOD, Some(b' '))) => {}
        _ => return Some(Protocol::Bytes),
    }
    match bytes.iter().position(|byte| *byte == b'\n') {
        None if bytes.len() < MAX_LINE => None,
        // As far as it goes it is like HTTP, whose parser says the rest.
        None => Some(Protocol::Http1),
        Some(end) => {
            let line = bytes.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            // Some servers still answer the oldest requests, which have no version (RFC 1945 §4.1).
            let is_http = version.starts_with(b"HTTP/") || line.starts_with(b"GET /");
            Some(if is_http { Protocol::Http1 } else { Protocol::Bytes })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn protocols_are_known_by_how_they_begin() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Protocol::Http1)),
            (b"GET / HTTP/1.0\n", Some(Protocol::Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1", None),
            (b"G", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"PRI /x HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"SET key value\r\n", Some(Protocol::Bytes)),
            (b"PING\r\n", Some(Protocol::Bytes)),
            (b"get / HTTP/1.1\r\n", Some(Protocol::Bytes)),
            (b"\r\nGET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"\n\r\n\nGET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"\r\nPRI * HTTP/2.0\r\n", Some(Protocol::Http1)),
            (b"\r\nhello\r\n", Some(Protocol::Bytes)),
            (b"\r\n", None),
            (b"GET /admin\r\n", Some(Protocol::Http1)),
            (b"GET key\r\n", Some(Protocol::Bytes)),
            (b"\x16\x03\x01", Some(Protocol::Bytes)),
            (b" GET / HTTP/1.1\r\n", Some(Protocol::Bytes)),
        ] {
            assert_eq!(judge(bytes), expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(judge(&[b'A'; MAX_METHOD + 1]), Some(Protocol::Bytes));
        for begin in [&b"GET /"[..], b"\n"] {
            let long = [begin, &[*begin.last().unwrap(); MAX_LINE]].concat();
            assert_eq!(judge(&long), Some(Protocol::Http1));
        }
    }

    proptest! {
        #[test]
        fn what_is_clear_stays_so(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            if let Some(protocol) = judge(&bytes[..cut]) {
                prop_assert_eq!(judge(&bytes), Some(protocol));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_silent_client_waits_for_its_server() {
        for (begin, expected) in [
            (&b""[..], Protocol::Bytes),
            (b"PRI", Protocol::Http1),
            (b"PRI * HT", Protocol::Http2),
            (b"GET /admin", Protocol::Http1),
            (b"\r\n", Protocol::Http1),
        ] {
            for has_ended in [false, true] {
                let (mut near, mut far) = tokio::io::duplex(64);
                near.write_all(begin).await.unwrap();
                let near = (!has_ended).then_some(near);
                let (protocol, read) = sniff(&mut far).await.unwrap();
                assert_eq!((protocol, &read[..]), (expected, begin));
                drop(near);
            }
        }
    }
}
