//! What a client speaks, by its first bytes where the mesh does not say what a port is for.
//!
//! What does not begin as HTTP has to is carried as bytes, and then no policy about requests lets it
//! pass: it is unknown what they ask for, so that such a rule denies and does not allow. What has begun
//! so, as far as it goes, is HTTP: its parser says the rest. That is so of a client, too, that says one
//! word and waits for an answer: where such are spoken to, the port has to be declared.

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

/// What begins so, if that is clear: servers differ in what they take for a request line, and what any
/// of them may take for one is HTTP.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if version(bytes)? == Protocol::Http2 {
        return Some(Protocol::Http2);
    }
    // As far as it goes it is like HTTP, whose parser says the rest.
    let more = (bytes.len() >= MAX_LINE).then_some(Protocol::Http1);
    // Servers pass over empty lines before a request (RFC 9112 §2.2), and some over blanks.
    let Some(begin) = bytes.iter().position(|byte| !is_blank(byte) && *byte != b'\n') else {
        return more;
    };
    let line = bytes.get(begin..).unwrap_or_default();
    match line.iter().find(|byte| !is_token(byte)) {
        None => return more,
        Some(end) if is_blank(end) && line.first() != Some(end) => {}
        Some(_) => return Some(Protocol::Bytes),
    }
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return more;
    };
    Some(match is_request(line.get(..end).unwrap_or_default()) {
        true => Protocol::Http1,
        false => Protocol::Bytes,
    })
}

/// Whether a line that begins with a method has a version, too. Some servers still answer the oldest
/// requests, which have none (RFC 1945 §4.1).
fn is_request(line: &[u8]) -> bool {
    let mut words = line.split(is_blank).filter(|word| !word.is_empty());
    let is_get = words.next().is_some_and(|method| method.eq_ignore_ascii_case(b"GET"));
    let is_old = is_get && words.clone().next().is_some_and(|target| target.starts_with(b"/"));
    let is_version = |word: &[u8]| word.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"HTTP/"));
    is_old || words.any(is_version)
}

/// What may be in a method (RFC 9110 §5.6.2, §9.1).
fn is_token(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// What may be between the words of a request line (RFC 9112 §3).
fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0b' | b'\x0c' | b'\r')
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
            (b"SET key value", None),
            // Any token is a method.
            (b"get / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"!#$%&'*+-.^_`|~1 / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"hello", None),
            (b"hello,", Some(Protocol::Bytes)),
            (b"hello\n", Some(Protocol::Bytes)),
            (b"HTTP/1.1 200 OK\r\n", Some(Protocol::Bytes)),
            // Not every server takes these for requests.
            (b"GET\t/\x0b\x0cHTTP/1.1\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1 \r\n", Some(Protocol::Http1)),
            (b"GET / http/1.1\r\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.1\rhost: a\r\n", Some(Protocol::Http1)),
            (b"GET / a HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"get /admin\r\n", Some(Protocol::Http1)),
            (b"\r\nGET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"\n\r\n\nGET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"\r\nPRI * HTTP/2.0\r\n", Some(Protocol::Http1)),
            (b"\r\nhello\r\n", Some(Protocol::Bytes)),
            (b"\r\n", None),
            (b"GET /admin\r\n", Some(Protocol::Http1)),
            (b"GET key\r\n", Some(Protocol::Bytes)),
            (b"\x16\x03\x01", Some(Protocol::Bytes)),
            (b" GET / HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b" \x16", Some(Protocol::Bytes)),
        ] {
            assert_eq!(judge(bytes), expected, "{}", bytes.escape_ascii());
        }
        for begin in [&b"GET /"[..], b"\n", b"GET"] {
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
            (b"hello", Protocol::Http1),
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
