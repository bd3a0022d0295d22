//! What a client speaks, by its first bytes where the mesh does not say what a port is for.
//!
//! What does not begin as HTTP has to is carried as bytes, and then no policy about requests lets it
//! pass: it is unknown what they ask for, so that such a rule denies and does not allow. What has begun
//! so, as far as it goes, is HTTP: its parser says the rest.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mesh_xds::store::AppProtocol;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::http::HEAD_TIMEOUT;

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

/// Reads until it is clear what a client speaks on a port that is declared so, and answers with what
/// was read, too.
///
/// What is declared not to be HTTP is not looked at. What is declared to be is HTTP, of whichever
/// version: other bytes are for its parser to refuse.
pub(super) async fn sniff(
    stream: &mut (impl AsyncRead + Unpin),
    declared: AppProtocol,
) -> io::Result<(Protocol, Bytes)> {
    match declared {
        AppProtocol::Tcp | AppProtocol::Tls => Ok((Protocol::Bytes, Bytes::new())),
        AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Grpc => {
            read_until(stream, version, HEAD_TIMEOUT, Protocol::Http1).await
        }
        _ => read_until(stream, judge, PATIENCE, Protocol::Bytes).await,
    }
}

/// Reads until there is an answer, though not for longer than this. Who is silent speaks `silent`.
async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    judge: impl Fn(&[u8]) -> Option<Protocol>,
    patience: Duration,
    silent: Protocol,
) -> io::Result<(Protocol, Bytes)> {
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
    let judged = timeout(patience, reading).await;
    let judged = judged.unwrap_or(Ok::<_, io::Error>(None))?;
    Ok((judged.or_else(|| begun(&read)).unwrap_or(silent), read.freeze()))
}

/// What is taken to begin so where no more comes, if anything came. A client that says the rest later
/// must not have it carried unread.
fn begun(bytes: &[u8]) -> Option<Protocol> {
    match bytes {
        [] => None,
        [b'P', b'R', b'I', b' ', b'*', ..] => Some(Protocol::Http2),
        _ => Some(Protocol::Http1),
    }
}

/// The version of HTTP that begins so, if that is clear.
fn version(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    (!PREFACE.starts_with(bytes)).then_some(Protocol::Http1)
}

/// What begins so, if that is clear.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if version(bytes)? == Protocol::Http2 {
        return Some(Protocol::Http2);
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
                let (protocol, read) = sniff(&mut far, AppProtocol::Undeclared).await.unwrap();
                assert_eq!((protocol, &read[..]), (expected, begin));
                drop(near);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_declared_not_to_be_http_is_not_waited_for() {
        for declared in [AppProtocol::Tcp, AppProtocol::Tls] {
            let (mut near, mut far) = tokio::io::duplex(64);
            near.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            let began = tokio::time::Instant::now();
            let (protocol, read) = sniff(&mut far, declared).await.unwrap();
            assert_eq!((protocol, &read[..]), (Protocol::Bytes, &b""[..]));
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_declared_to_be_http_is_of_either_version_and_nothing_else() {
        for declared in [AppProtocol::Http1, AppProtocol::Http2, AppProtocol::Grpc] {
            for (begin, expected) in [
                (&b"\x16\x03\x01"[..], Protocol::Http1),
                (b"GET / HTTP/1.1\r\n", Protocol::Http1),
                (b"PRIVATE", Protocol::Http1),
                (PREFACE, Protocol::Http2),
            ] {
                let (mut near, mut far) = tokio::io::duplex(64);
                let late = async {
                    tokio::time::sleep(2 * PATIENCE).await;
                    near.write_all(begin).await.unwrap();
                };
                let (sniffed, ()) = tokio::join!(sniff(&mut far, declared), late);
                let (protocol, read) = sniffed.unwrap();
                assert_eq!((protocol, &read[..]), (expected, begin));
            }
        }
    }
}
