use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Kind, PREFACE, Reason, flag};

/// The bytes of a frame before its payload.
const HEAD_LEN: usize = 9;

/// The highest bit of a stream identifier is reserved.
const STREAM_MASK: u32 = 0x7fff_ffff;

/// One frame, as it stands on the wire.
///
/// Its `Debug` form is one line without the payload.
#[derive(Clone, Eq, PartialEq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The flag bits; see [`flag`].
    pub flags: u8,
    /// The stream it belongs to, 0 for the connection. When written, the reserved bit goes out as it is here; when
    /// read, it is cleared.
    pub stream: u32,
    /// What follows the head, with padding and priority where the flags say so.
    pub payload: Bytes,
    claimed_len: Option<u32>,
}

impl Frame {
    /// Any frame at all.
    #[must_use]
    pub fn new(kind: Kind, flags: u8, stream: u32, payload: impl Into<Bytes>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
            claimed_len: None,
        }
    }

    /// DATA.
    #[must_use]
    pub fn data(stream: u32, payload: impl Into<Bytes>) -> Self {
        Self::new(Kind::DATA, 0, stream, payload)
    }

    /// HEADERS with a fragment of a header block, without END_HEADERS and END_STREAM.
    #[must_use]
    pub fn headers(stream: u32, fragment: impl Into<Bytes>) -> Self {
        Self::new(Kind::HEADERS, 0, stream, fragment)
    }

    /// A whole header block: HEADERS and as many CONTINUATION frames as payloads of at most `max_frame_size` bytes
    /// need, the last one with END_HEADERS, none with END_STREAM.
    #[must_use]
    pub fn header_block(stream: u32, block: impl Into<Bytes>, max_frame_size: usize) -> Vec<Self> {
        let mut rest = block.into();
        let mut frames = vec![Self::headers(stream, rest.split_to(rest.len().min(max_frame_size)))];
        while !rest.is_empty() {
            frames.push(Self::continuation(
                stream,
                rest.split_to(rest.len().min(max_frame_size)),
            ));
        }
        let last = frames.pop().unwrap().end_headers();
        frames.push(last);
        frames
    }

    /// PRIORITY (RFC 9113 section 6.3). A stream that depends on itself is an error of the stream.
    #[must_use]
    pub fn priority(stream: u32, depends_on: u32, weight: u8) -> Self {
        let mut payload = BytesMut::with_capacity(5);
        payload.put_u32(depends_on);
        payload.put_u8(weight);
        Self::new(Kind::PRIORITY, 0, stream, payload)
    }

    /// RST_STREAM.
    #[must_use]
    pub fn rst_stream(stream: u32, reason: Reason) -> Self {
        Self::new(Kind::RST_STREAM, 0, stream, reason.0.to_be_bytes().to_vec())
    }

    /// SETTINGS with these identifiers and values; see [`setting`](super::setting).
    #[must_use]
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = BytesMut::with_capacity(settings.len() * 6);
        for &(id, value) in settings {
            payload.put_u16(id);
            payload.put_u32(value);
        }
        Self::new(Kind::SETTINGS, 0, 0, payload)
    }

    /// The acknowledgement of SETTINGS.
    #[must_use]
    pub fn settings_ack() -> Self {
        Self::new(Kind::SETTINGS, flag::ACK, 0, Bytes::new())
    }

    /// PUSH_PROMISE with a fragment of a header block, without END_HEADERS.
    #[must_use]
    pub fn push_promise(stream: u32, promised: u32, fragment: &[u8]) -> Self {
        let mut payload = BytesMut::with_capacity(4 + fragment.len());
        payload.put_u32(promised);
        payload.put_slice(fragment);
        Self::new(Kind::PUSH_PROMISE, 0, stream, payload)
    }

    /// PING.
    #[must_use]
    pub fn ping(opaque: [u8; 8]) -> Self {
        Self::new(Kind::PING, 0, 0, opaque.to_vec())
    }

    /// The answer to a PING.
    #[must_use]
    pub fn ping_ack(opaque: [u8; 8]) -> Self {
        Self::new(Kind::PING, flag::ACK, 0, opaque.to_vec())
    }

    /// GOAWAY: streams above `last_stream` were and will not be processed.
    #[must_use]
    pub fn goaway(last_stream: u32, reason: Reason, debug_data: &[u8]) -> Self {
        let mut payload = BytesMut::with_capacity(8 + debug_data.len());
        payload.put_u32(last_stream);
        payload.put_u32(reason.0);
        payload.put_slice(debug_data);
        Self::new(Kind::GOAWAY, 0, 0, payload)
    }

    /// WINDOW_UPDATE of a stream, or of the connection for stream 0.
    #[must_use]
    pub fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(Kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes().to_vec())
    }

    /// CONTINUATION with a further fragment of a header block, without END_HEADERS.
    #[must_use]
    pub fn continuation(stream: u32, fragment: impl Into<Bytes>) -> Self {
        Self::new(Kind::CONTINUATION, 0, stream, fragment)
    }

    /// The same frame with these flag bits set as well.
    #[must_use]
    pub fn flag(self, bits: u8) -> Self {
        Self {
            flags: self.flags | bits,
            ..self
        }
    }

    /// The same frame with END_STREAM.
    #[must_use]
    pub fn end_stream(self) -> Self {
        self.flag(flag::END_STREAM)
    }

    /// The same frame with END_HEADERS.
    #[must_use]
    pub fn end_headers(self) -> Self {
        self.flag(flag::END_HEADERS)
    }

    /// The same frame with `padding` bytes of padding around its payload, which grows by that and one.
    #[must_use]
    pub fn padded(self, padding: u8) -> Self {
        let mut payload = BytesMut::with_capacity(1 + self.payload.len() + usize::from(padding));
        payload.put_u8(padding);
        payload.put_slice(&self.payload);
        payload.put_bytes(0, usize::from(padding));
        Self {
            payload: payload.freeze(),
            ..self
        }
        .flag(flag::PADDED)
    }

    /// The same frame with a head that lies about the length of the payload.
    ///
    /// # Panics
    ///
    /// When the length does not fit into its 24 bits.
    #[must_use]
    pub fn claiming_len(self, len: u32) -> Self {
        assert!(len < 1 << 24, "a frame length has 24 bits");
        Self {
            claimed_len: Some(len),
            ..self
        }
    }

    /// Appends head and payload to `wire`.
    ///
    /// # Panics
    ///
    /// When the payload's length does not fit into its 24 bits.
    pub fn encode(&self, wire: &mut BytesMut) {
        let len = self
            .claimed_len
            .unwrap_or_else(|| u32::try_from(self.payload.len()).unwrap());
        assert!(len < 1 << 24, "a frame length has 24 bits");
        wire.reserve(HEAD_LEN + self.payload.len());
        wire.put_uint(u64::from(len), 3);
        wire.put_u8(self.kind.0);
        wire.put_u8(self.flags);
        wire.put_u32(self.stream);
        wire.put_slice(&self.payload);
    }

    /// Takes one frame off the front of `wire`, or nothing when it is not whole yet. Whatever bytes arrive, they are
    /// frames: this never fails.
    #[must_use]
    pub fn decode(wire: &mut BytesMut) -> Option<Self> {
        let mut head = wire.get(..HEAD_LEN)?;
        let len = usize::try_from(head.get_uint(3)).unwrap();
        let (kind, flags) = (Kind(head.get_u8()), head.get_u8());
        let stream = head.get_u32() & STREAM_MASK;
        if wire.len() < HEAD_LEN + len {
            return None;
        }
        wire.advance(HEAD_LEN);
        Some(Self::new(kind, flags, stream, wire.split_to(len)))
    }

    /// The frames of one direction of a recorded connection, behind the preface if it starts with one. An unfinished
    /// frame at the end is left out.
    #[must_use]
    pub fn decode_all(recording: &[u8]) -> Vec<Self> {
        let mut wire = BytesMut::from(recording.strip_prefix(PREFACE).unwrap_or(recording));
        std::iter::from_fn(|| Self::decode(&mut wire)).collect()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            flags,
            stream,
            payload,
            ..
        } = self;
        write!(f, "{kind:?}(stream={stream}, flags={flags:#x}, len={}", payload.len())?;
        match *kind {
            Kind::RST_STREAM if payload.len() == 4 => write!(f, ", {:?})", self.reason()),
            Kind::GOAWAY if payload.len() >= 8 => {
                write!(
                    f,
                    ", last={}, {:?}, `{}`)",
                    self.last_stream(),
                    self.reason(),
                    self.debug_data().escape_ascii()
                )
            }
            _ => f.write_str(")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::setting;
    use proptest::prelude::*;

    fn encoded(frame: &Frame) -> BytesMut {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        wire
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(kind: u8, flags: u8, stream in 0..=STREAM_MASK, payload: Vec<u8>, tail: Vec<u8>) {
            let frame = Frame::new(Kind(kind), flags, stream, payload);
            let mut wire = encoded(&frame);
            wire.extend_from_slice(&tail);
            prop_assert_eq!(Frame::decode(&mut wire), Some(frame));
            prop_assert_eq!(&wire[..], &tail[..]);
        }

        #[test]
        fn any_bytes_split_into_frames_and_a_rest(bytes: Vec<u8>) {
            let mut wire = BytesMut::from(&bytes[..]);
            let mut again = BytesMut::new();
            while let Some(frame) = Frame::decode(&mut wire) {
                assert!(!format!("{frame:?}").is_empty());
                frame.encode(&mut again);
            }
            prop_assert_eq!(again.len() + wire.len(), bytes.len());
        }
    }

    #[test]
    fn an_unfinished_frame_stays_on_the_wire() {
        let whole = encoded(&Frame::data(1, &b"abc"[..]));
        for cut in 0..whole.len() {
            let mut wire = BytesMut::from(&whole[..cut]);
            assert_eq!(Frame::decode(&mut wire), None);
            assert_eq!(wire.len(), cut);
        }
    }

    #[test]
    fn a_recording_is_frames_behind_a_preface() {
        let frames = [Frame::settings(&[]), Frame::data(1, &b"abc"[..])];
        let mut wire = BytesMut::from(&PREFACE[..]);
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        wire.extend_from_slice(&[0, 0, 1]);
        assert_eq!(Frame::decode_all(&wire), frames);
        assert_eq!(Frame::decode_all(&wire[PREFACE.len()..]), frames);
    }

    #[test]
    fn heads_are_those_of_the_standard() {
        let settings = Frame::settings(&[(setting::MAX_FRAME_SIZE, 0x0102_0304)]);
        assert_eq!(encoded(&settings)[..], [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4]);
        let reset = Frame::rst_stream(0x7fff_fffd, Reason::CANCEL);
        assert_eq!(encoded(&reset)[..], [0, 0, 4, 3, 0, 0x7f, 0xff, 0xff, 0xfd, 0, 0, 0, 8]);
        let padded = Frame::data(3, &b"hi"[..]).padded(2).end_stream();
        assert_eq!(encoded(&padded)[..], [0, 0, 5, 0, 9, 0, 0, 0, 3, 2, b'h', b'i', 0, 0]);
    }

    #[test]
    fn a_head_may_lie() {
        assert_eq!(encoded(&Frame::ping([0; 8]).claiming_len(0x01_0203))[..3], [1, 2, 3]);
    }

    #[test]
    fn a_header_block_is_cut_into_continuations() {
        let frames = Frame::header_block(5, vec![7; 25], 10);
        let heads: Vec<_> = frames.iter().map(|f| (f.kind, f.flags, f.payload.len())).collect();
        let expected = [
            (Kind::HEADERS, 0, 10),
            (Kind::CONTINUATION, 0, 10),
            (Kind::CONTINUATION, flag::END_HEADERS, 5),
        ];
        assert_eq!(heads, expected);
        assert_eq!(
            Frame::header_block(5, vec![], 10),
            [Frame::headers(5, vec![]).end_headers()]
        );
    }
}
