//! Paths in the one spelling that policies are compared with.
//!
//! Whatever is forwarded upstream must be the normalized target, or the workload may understand a
//! path that no policy has seen.

use thiserror::Error;

use self::segments::{merge_slashes, remove_dots};

mod segments;

/// The longest request target, in bytes: as long as a header block may be by default in the proxies
/// of a mesh.
pub const MAX_TARGET_BYTES: usize = 60 * 1024;

/// How a mesh normalizes paths, by the names of Istio's `pathNormalization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PathNormalization {
    /// Nothing is changed.
    None,
    /// Escapes of letters, digits and `-._~` are decoded, backslashes become slashes, dot segments
    /// are resolved and bytes that a path may not hold are escaped (RFC 3986 §6.2.2).
    #[default]
    Base,
    /// As `Base`, and slashes in a row are one.
    MergeSlashes,
    /// As `MergeSlashes`, after `%2F` and `%5C` have been decoded.
    DecodeAndMergeSlashes,
    /// As `MergeSlashes`, and a path that programs understand in different ways is refused: with an
    /// escaped slash, backslash or percent sign, a backslash, a malformed escape, a control byte,
    /// a parameter on a dot segment, or bytes that are not UTF-8.
    Strict,
}

/// A request target whose path is normalized. There is no other way to make one than
/// [`PathNormalization::normalize`].
///
/// ```compile_fail
/// let path = mesh_policy::NormalizedPath { target: b"/admin", path_bytes: 6 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormalizedPath<'b> {
    target: &'b [u8],
    path_bytes: usize,
}

impl<'b> NormalizedPath<'b> {
    /// The path, which begins with `/`.
    pub fn path(&self) -> &'b [u8] {
        self.target.get(..self.path_bytes).unwrap_or_default()
    }

    /// The path, and behind `?` the query as it came: what is to be forwarded.
    pub fn target(&self) -> &'b [u8] {
        self.target
    }
}

impl NormalizedPath<'_> {
    /// The same, held and not borrowed.
    pub fn to_owned(&self) -> OwnedPath {
        OwnedPath {
            target: self.target.into(),
            path_bytes: self.path_bytes,
        }
    }
}

/// A [`NormalizedPath`] that borrows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPath {
    target: Box<[u8]>,
    path_bytes: usize,
}

impl OwnedPath {
    /// The path, to make facts of.
    pub fn borrowed(&self) -> NormalizedPath<'_> {
        NormalizedPath {
            target: &self.target,
            path_bytes: self.path_bytes,
        }
    }
}

impl PathNormalization {
    /// Normalizes a request target in origin form (RFC 9112 §3.2.1). Normalizing twice changes
    /// nothing.
    ///
    /// `buffer` holds the result. Its content before does not matter; a buffer that is kept spares
    /// the allocation.
    ///
    /// # Errors
    ///
    /// A target that no HTTP message can have or that this mode refuses: an answer with status 400.
    pub fn normalize<'b>(self, target: &[u8], buffer: &'b mut Vec<u8>) -> Result<NormalizedPath<'b>, PathError> {
        if target.len() > MAX_TARGET_BYTES {
            return Err(PathError::TooLong { bytes: target.len() });
        }
        let path_bytes = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let (path, query) = target.split_at(path_bytes);
        check(path, query)?;
        buffer.clear();
        match self {
            Self::None => buffer.extend_from_slice(path),
            Self::Base | Self::MergeSlashes | Self::DecodeAndMergeSlashes => {
                canonicalize(path, buffer, self == Self::DecodeAndMergeSlashes)?;
                if self != Self::Base {
                    merge_slashes(buffer);
                }
            }
            Self::Strict => {
                refuse_ambiguous(path)?;
                canonicalize(path, buffer, false)?;
                merge_slashes(buffer);
                if buffer.as_slice() == b"//" {
                    buffer.truncate(1);
                }
            }
        }
        let path_bytes = buffer.len();
        buffer.extend_from_slice(query);
        Ok(NormalizedPath {
            target: buffer,
            path_bytes,
        })
    }
}

/// What no HTTP implementation accepts in any mode.
fn check(path: &[u8], query: &[u8]) -> Result<(), PathError> {
    if !path.starts_with(b"/") {
        return Err(PathError::NotAbsolute);
    }
    for byte in path.iter().chain(query) {
        match byte {
            b'#' => return Err(PathError::Fragment),
            0..=b' ' | 0x7f => return Err(PathError::Control { byte: *byte }),
            _ => {}
        }
    }
    Ok(())
}

/// Decodes to a fixed point, escapes what needs it, and resolves dot segments.
fn canonicalize(path: &[u8], buffer: &mut Vec<u8>, slashes: bool) -> Result<(), PathError> {
    for byte in path {
        buffer.push(if *byte == b'\\' { b'/' } else { *byte });
        // Decoding may complete another escape, if the one before it was malformed.
        while let Some(byte) = last_escape(buffer) {
            let decoded = match byte {
                0 => return Err(PathError::Nul),
                b'/' | b'\\' if slashes => b'/',
                _ if is_unreserved(byte) => byte,
                _ => break,
            };
            buffer.truncate(buffer.len() - 3);
            buffer.push(decoded);
        }
    }
    remove_dots(buffer);
    escape(buffer);
    Ok(())
}

/// The byte that the last three bytes stand for, if they are an escape.
fn last_escape(buffer: &[u8]) -> Option<u8> {
    match buffer {
        [.., b'%', high, low] => Some(hex(*high)? << 4 | hex(*low)?),
        _ => None,
    }
}

fn escape(buffer: &mut Vec<u8>) {
    if !buffer.iter().any(|byte| needs_escape(*byte)) {
        return;
    }
    let plain = std::mem::take(buffer);
    for byte in plain {
        if needs_escape(byte) {
            buffer.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            buffer.push(byte);
        }
    }
}

/// Refuses what is read in two ways by programs in use.
fn refuse_ambiguous(path: &[u8]) -> Result<(), PathError> {
    let mut at = 0;
    while let Some((byte, after)) = path.get(at..).and_then(<[u8]>::split_first) {
        match (byte, after) {
            (b'\\', _) => return Err(PathError::Backslash),
            (b'%', [high, low, ..]) => match hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low) {
                None => return Err(PathError::MalformedEscape),
                Some(byte @ (b'/' | b'\\' | b'%' | 0..b' ' | 0x7f)) => return Err(PathError::Escaped { byte }),
                Some(_) => {}
            },
            (b'%', _) => return Err(PathError::MalformedEscape),
            _ => {}
        }
        at += 1;
    }
    // Of what divides segments, nothing was escaped.
    let decoded = decode(path);
    if segments::has_dot_parameters(&decoded) {
        return Err(PathError::DotParameters);
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(PathError::NotUtf8);
    }
    Ok(())
}

/// All escapes decoded, once.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path;
    while let Some((byte, after)) = bytes.split_first() {
        bytes = match (byte, bytes.get(..3).and_then(last_escape)) {
            (b'%', Some(escaped)) => {
                decoded.push(escaped);
                after.get(2..).unwrap_or_default()
            }
            _ => {
                decoded.push(*byte);
                after
            }
        };
    }
    decoded
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn needs_escape(byte: u8) -> bool {
    byte >= 0x80 || b"\"<>^`{|}".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

/// Why a request target is refused. The target itself is left out: it is the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// It is longer than [`MAX_TARGET_BYTES`].
    #[error("the request target has {bytes} bytes, more than {MAX_TARGET_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It does not begin with `/`.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// It has a fragment.
    #[error("the request target has a fragment")]
    Fragment,
    /// It holds a blank or a control byte.
    #[error("the request target holds the byte {byte:#04x}")]
    Control {
        /// The byte.
        byte: u8,
    },
    /// The path holds `%00`.
    #[error("the path holds an escaped NUL")]
    Nul,
    /// The path holds a backslash, and the mode is [`PathNormalization::Strict`].
    #[error("the path holds a backslash")]
    Backslash,
    /// A percent sign is not followed by two hexadecimal digits, and the mode is strict.
    #[error("the path holds a percent sign that begins no escape")]
    MalformedEscape,
    /// An escape hides a slash, a backslash, a percent sign or a control byte, and the mode is
    /// strict.
    #[error("the path holds the byte {byte:#04x} in escaped form")]
    Escaped {
        /// What the escape stands for.
        byte: u8,
    },
    /// A dot segment has a parameter, as in `/..;x/`, and the mode is strict.
    #[error("a dot segment of the path has a parameter")]
    DotParameters,
    /// The path is not UTF-8 once decoded, and the mode is strict.
    #[error("the path is not utf-8")]
    NotUtf8,
}

#[cfg(test)]
mod tests {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None, Strict};
    use proptest::prelude::*;

    use super::*;

    fn normalize(mode: PathNormalization, target: &str) -> Result<String, PathError> {
        let mut buffer = Vec::new();
        let path = mode.normalize(target.as_bytes(), &mut buffer)?;
        Ok(String::from_utf8(path.target().to_vec()).unwrap())
    }

    #[test]
    fn agrees_with_istios_table() {
        for (target, expected) in [
            ("/app/../admin", ["/app/../admin", "/admin", "/admin", "/admin"]),
            ("/app/%2E./admin", ["/app/%2E./admin", "/admin", "/admin", "/admin"]),
            ("/app\\admin", ["/app\\admin", "/app/admin", "/app/admin", "/app/admin"]),
            ("//admin", ["//admin", "//admin", "/admin", "/admin"]),
            ("///", ["///", "///", "//", "//"]),
            ("/app/%2f", ["/app/%2f", "/app/%2f", "/app/%2f", "/app/"]),
            ("/a/b/..%2fc", ["/a/b/..%2fc", "/a/b/..%2fc", "/a/b/..%2fc", "/a/c"]),
            (
                "/xyz%30..//abc",
                ["/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"],
            ),
            ("/app//../../admin", ["/app//../../admin", "/admin", "/admin", "/admin"]),
            ("/..;/admin", ["/..;/admin", "/admin", "/admin", "/admin"]),
            ("/a/..;x=1/admin", ["/a/..;x=1/admin", "/admin", "/admin", "/admin"]),
        ] {
            let modes = [None, Base, MergeSlashes, DecodeAndMergeSlashes];
            let found = modes.map(|mode| normalize(mode, target).unwrap());
            assert_eq!(found, expected, "{target}");
        }
    }

    #[test]
    fn leaves_alone_what_no_mode_changes() {
        for target in [
            "/admin;a=b",
            "/;/admin",
            "/Admin",
            "/%252e%252e/x",
            "/%c0%ae",
            "/a%",
            "/%zz",
            "/a?x=/../b%2f\\//",
        ] {
            for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes] {
                assert_eq!(normalize(mode, target).as_deref(), Ok(target), "{mode:?}");
            }
        }
    }

    #[test]
    fn escapes_what_a_path_may_not_hold() {
        assert_eq!(
            normalize(Base, "/\"<>^`{|}").as_deref(),
            Ok("/%22%3C%3E%5E%60%7B%7C%7D")
        );
        assert_eq!(normalize(Base, "/\u{e9}[]").as_deref(), Ok("/%C3%A9[]"));
    }

    #[test]
    fn resolves_dots_at_the_root_and_at_the_end() {
        for (target, expected) in [
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.;x/a", "/a"),
        ] {
            assert_eq!(normalize(Base, target).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn refuses_what_proxies_refuse() {
        assert_eq!(normalize(None, "/admin%00").as_deref(), Ok("/admin%00"));
        for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            assert_eq!(normalize(mode, "/admin%00"), Err(PathError::Nul));
        }
        for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
            assert_eq!(normalize(mode, "/app#x"), Err(PathError::Fragment));
            assert_eq!(normalize(mode, "/app?a#x"), Err(PathError::Fragment));
            assert_eq!(normalize(mode, "*"), Err(PathError::NotAbsolute));
            assert_eq!(normalize(mode, "admin"), Err(PathError::NotAbsolute));
            assert_eq!(normalize(mode, ""), Err(PathError::NotAbsolute));
            assert_eq!(normalize(mode, "/a b"), Err(PathError::Control { byte: b' ' }));
            assert_eq!(normalize(mode, "/a\x7f"), Err(PathError::Control { byte: 0x7f }));
            assert_eq!(
                normalize(mode, &format!("/{}", "a".repeat(MAX_TARGET_BYTES))),
                Err(PathError::TooLong {
                    bytes: MAX_TARGET_BYTES + 1
                })
            );
        }
    }

    #[test]
    fn strict_refuses_what_is_read_in_two_ways() {
        for (target, fault) in [
            ("/a\\b", PathError::Backslash),
            ("/a%", PathError::MalformedEscape),
            ("/%zz", PathError::MalformedEscape),
            ("/%2fadmin", PathError::Escaped { byte: b'/' }),
            ("/%5Cadmin", PathError::Escaped { byte: b'\\' }),
            ("/%252e", PathError::Escaped { byte: b'%' }),
            ("/a%00", PathError::Escaped { byte: 0 }),
            ("/..;/admin", PathError::DotParameters),
            ("/%2e%2e;x/admin", PathError::DotParameters),
            ("/..%3bx/admin", PathError::DotParameters),
            ("/a/%2E%3B", PathError::DotParameters),
            ("/%c0%ae", PathError::NotUtf8),
        ] {
            assert_eq!(normalize(Strict, target), Err(fault), "{target}");
        }
        assert_eq!(normalize(Strict, "/a/%2e%2E//b;x?q=%2f").as_deref(), Ok("/b;x?q=%2f"));
        assert_eq!(normalize(Strict, "/a%3bx/...%3b").as_deref(), Ok("/a%3bx/...%3b"));
        assert_eq!(normalize(Strict, "///").as_deref(), Ok("/"));
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(target in "/([./;%\\\\a25fFeEcC\u{e9}?]|%2[eEfF]|\\.\\.){0,24}") {
            for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
                if let Ok(once) = normalize(mode, &target) {
                    prop_assert_eq!(normalize(mode, &once), Ok(once), "{:?}", mode);
                }
            }
        }

        #[test]
        fn no_dot_segment_is_left(target in "/([./;%\\\\a2eE5cC]){0,24}") {
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
                if let Ok(path) = normalize(mode, &target) {
                    for segment in path.split('/') {
                        prop_assert!(!matches!(segment.split(';').next(), Some("." | "..")), "{}", path);
                    }
                }
            }
        }

        #[test]
        fn answers_arbitrary_bytes(target in proptest::collection::vec(any::<u8>(), 0..64)) {
            for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes, Strict] {
                let mut buffer = vec![1];
                if let Ok(path) = mode.normalize(&target, &mut buffer) {
                    prop_assert!(path.path().starts_with(b"/"));
                }
            }
        }
    }
}
