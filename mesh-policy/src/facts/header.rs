/// The header lines of a request, as an evaluation reads them.
///
/// Implemented for slices of name and value; an HTTP library's map takes a few lines. Pseudo-headers
/// do not belong in it: evaluations take `:authority`, `:method` and `:path` from the facts.
pub trait Headers {
    /// Whether a line of this name passes the test.
    ///
    /// `name` is in lower case, and lines count by their name in whatever case. Each line is tested
    /// by itself, never joined with others, and its value as bytes, without the spaces and tabs around
    /// it (RFC 9110 §5.5).
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Headers for [(N, V)] {
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.iter()
            .filter(|(line, _)| line.as_ref().eq_ignore_ascii_case(name.as_bytes()))
            .any(|(_, value)| test(without_blanks(value.as_ref())))
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> Headers for Vec<(N, V)> {
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.as_slice().any_line(name, test)
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>, const LINES: usize> Headers for [(N, V); LINES] {
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.as_slice().any_line(name, test)
    }
}

fn without_blanks(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(any(feature = "jwt", feature = "traffic"))]
/// Whether a header belongs to the connection or to the framing of a message (RFC 9110 §7.6.1, RFC
/// 9112 §6), or decides where it goes. Who changed it would make another message of it.
pub(crate) fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(any(feature = "jwt", feature = "traffic"))]
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
