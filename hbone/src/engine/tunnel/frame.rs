//! HTTP/2 frames, read and written (RFC 9113 §4.1 and §6).

use super::fault::Fault;
use crate::flood::{HEAD_LEN, kind};
use crate::wire::ErrorCode;

/// What a client sends first (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame length that every peer accepts (RFC 9113 §4.2).
pub(super) const MIN_MAX_FRAME: usize = 16_384;

/// Flags of frames; each means something for some types only.
pub(super) mod flag {
    pub(in crate::engine::tunnel) const END_STREAM: u8 = 0x1;
    pub(in crate::engine::tunnel) const ACK: u8 = 0x1;
    pub(in crate::engine::tunnel) const END_HEADERS: u8 = 0x4;
    pub(in crate::engine::tunnel) const PADDED: u8 = 0x8;
    pub(in crate::engine::tunnel) const PRIORITY: u8 = 0x20;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The head at the front of `bytes`, if they hold a whole one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<HEAD_LEN>()?;
        Some(Self {
            len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            // The top bit is reserved and ignored.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Holds length and stream against what the type allows.
    pub(super) fn check(&self, max_frame: usize) -> Result<(), Fault> {
        if self.len > max_frame {
            return Err(Fault::FRAME_SIZE);
        }
        let of_stream = match self.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION => Some(true),
            kind::SETTINGS | kind::PING | kind::GOAWAY => Some(false),
            kind::PUSH_PROMISE => return Err(Fault::PROTOCOL),
            _ => None,
        };
        if of_stream.is_some_and(|of_stream| of_stream != (self.stream != 0)) {
            return Err(Fault::PROTOCOL);
        }
        let fits = match self.kind {
            kind::PRIORITY if self.len != 5 => {
                return Err(Fault::Stream(self.stream, ErrorCode::FRAME_SIZE_ERROR));
            }
            kind::RST_STREAM | kind::WINDOW_UPDATE => self.len == 4,
            kind::SETTINGS if self.has(flag::ACK) => self.len == 0,
            kind::SETTINGS => self.len.is_multiple_of(6),
            kind::PING => self.len == 8,
            kind::GOAWAY => self.len >= 8,
            _ => true,
        };
        if fits { Ok(()) } else { Err(Fault::FRAME_SIZE) }
    }

    fn put(self, out: &mut Vec<u8>) {
        let [_, l0, l1, l2] = u32::try_from(self.len).unwrap_or(0).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        out.extend_from_slice(&[l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]);
    }
}

/// The field block of a HEADERS frame, without padding and priority (RFC 9113 §6.2).
pub(super) fn field_block(head: Head, payload: &[u8]) -> Result<&[u8], Fault> {
    let mut block = payload;
    if head.has(flag::PADDED) {
        let (pad, rest) = block.split_first().ok_or(Fault::FRAME_SIZE)?;
        let len = rest.len().checked_sub(usize::from(*pad)).ok_or(Fault::PROTOCOL)?;
        block = rest.get(..len).unwrap_or_default();
    }
    if head.has(flag::PRIORITY) {
        // Deprecated, and ignored (RFC 9113 §5.3.2).
        block = block.get(5..).ok_or(Fault::FRAME_SIZE)?;
    }
    Ok(block)
}

/// A stream cannot depend on itself (RFC 7540 §5.3.1); what else a PRIORITY frame says is ignored.
pub(super) fn check_priority(stream: u32, priority: &[u8]) -> Result<(), Fault> {
    if number(priority) & 0x7fff_ffff == stream {
        return Err(Fault::Stream(stream, ErrorCode::PROTOCOL_ERROR));
    }
    Ok(())
}

/// The number in the first four bytes of a payload.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn put_data(out: &mut Vec<u8>, stream: u32, len: usize, end: bool) {
    let flags = if end { flag::END_STREAM } else { 0 };
    put_head(out, len, kind::DATA, flags, stream);
}

/// A field block, in as many frames as it takes (RFC 9113 §4.3).
pub(super) fn put_headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: bool, max_frame: usize) {
    let mut kind = kind::HEADERS;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (part, tail) = rest.split_at_checked(max_frame).unwrap_or((rest, &[]));
        if tail.is_empty() {
            flags |= flag::END_HEADERS;
        }
        put_head(out, part.len(), kind, flags, stream);
        out.extend_from_slice(part);
        if tail.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, tail);
    }
}

pub(super) fn put_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put_head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&u32::from(code).to_be_bytes());
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_head(out, settings.len() * 6, kind::SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put_settings_ack(out: &mut Vec<u8>) {
    put_head(out, 0, kind::SETTINGS, flag::ACK, 0);
}

pub(super) fn put_ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    put_head(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&payload);
}

pub(super) fn put_goaway(out: &mut Vec<u8>, last: u32, code: ErrorCode) {
    put_head(out, 8, kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&u32::from(code).to_be_bytes());
}

pub(super) fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

fn put_head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    Head {
        len,
        kind,
        flags,
        stream,
    }
    .put(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_head_that_was_written_is_read(len in 0_usize..1 << 24, kind: u8, flags: u8, stream in 0_u32..1 << 31) {
            let head = Head { len, kind, flags, stream };
            let mut out = Vec::new();
            head.put(&mut out);
            prop_assert_eq!(Head::parse(&out), Some(head));
        }

        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>, max_frame in 0_usize..1 << 24) {
            if let Some(head) = Head::parse(&bytes) {
                let checked = head.check(max_frame);
                prop_assert!(checked.is_err() || head.len <= max_frame);
                let payload = bytes.get(HEAD_LEN..).unwrap_or_default();
                let block = field_block(head, payload);
                prop_assert!(block.is_err() || block.is_ok_and(|block| block.len() <= payload.len()));
            }
        }

        #[test]
        fn a_block_in_parts_is_the_block(block in prop::collection::vec(any::<u8>(), 0..500), max_frame in 1_usize..200) {
            let mut out = Vec::new();
            put_headers(&mut out, 3, &block, true, max_frame);
            let mut rest = out.as_slice();
            let mut joined = Vec::new();
            let mut kinds = Vec::new();
            while let Some(head) = Head::parse(rest) {
                prop_assert!(head.len <= max_frame);
                kinds.push(head.kind);
                joined.extend_from_slice(&rest[HEAD_LEN..HEAD_LEN + head.len]);
                rest = &rest[HEAD_LEN + head.len..];
                prop_assert_eq!(head.has(flag::END_HEADERS), rest.is_empty());
            }
            prop_assert_eq!(joined, block);
            prop_assert_eq!(kinds[0], kind::HEADERS);
            prop_assert!(kinds[1..].iter().all(|kind| *kind == kind::CONTINUATION));
        }
    }

    fn head(kind: u8, flags: u8, stream: u32, len: usize) -> Head {
        Head {
            len,
            kind,
            flags,
            stream,
        }
    }

    #[test]
    fn each_type_has_its_lengths_and_its_streams() {
        let size = Err(Fault::FRAME_SIZE);
        let protocol = Err(Fault::PROTOCOL);
        for (head, expected) in [
            (head(kind::DATA, 0, 1, 16_385), size),
            (head(kind::DATA, 0, 1, 16_384), Ok(())),
            (head(kind::DATA, 0, 0, 1), protocol),
            (head(kind::HEADERS, 0, 0, 1), protocol),
            (head(kind::PRIORITY, 0, 0, 5), protocol),
            (
                head(kind::PRIORITY, 0, 1, 4),
                Err(Fault::Stream(1, ErrorCode::FRAME_SIZE_ERROR)),
            ),
            (head(kind::RST_STREAM, 0, 1, 5), size),
            (head(kind::RST_STREAM, 0, 0, 4), protocol),
            (head(kind::SETTINGS, 0, 1, 0), protocol),
            (head(kind::SETTINGS, 0, 0, 7), size),
            (head(kind::SETTINGS, flag::ACK, 0, 6), size),
            (head(kind::PUSH_PROMISE, 0, 1, 4), protocol),
            (head(kind::PING, 0, 0, 7), size),
            (head(kind::PING, 0, 1, 8), protocol),
            (head(kind::GOAWAY, 0, 0, 7), size),
            (head(kind::GOAWAY, 0, 1, 8), protocol),
            (head(kind::WINDOW_UPDATE, 0, 0, 4), Ok(())),
            (head(kind::WINDOW_UPDATE, 0, 1, 3), size),
            (head(kind::CONTINUATION, 0, 0, 1), protocol),
            (head(0x2a, 0xff, 7, 16_384), Ok(())),
        ] {
            assert_eq!(head.check(16_384), expected, "{head:?}");
        }
    }

    #[test]
    fn padding_cannot_exceed_its_frame() {
        let padded = head(kind::HEADERS, flag::PADDED, 1, 3);
        assert_eq!(field_block(padded, &[1, 7, 0]), Ok(&[7][..]));
        assert_eq!(field_block(padded, &[2, 7, 0]), Ok(&[][..]));
        assert_eq!(field_block(padded, &[3, 7, 0]), Err(Fault::PROTOCOL));
        assert_eq!(field_block(padded, &[]), Err(Fault::FRAME_SIZE));
    }
}
