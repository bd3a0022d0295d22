//! What a frame says. A frame that is malformed, or of a kind that does not say it, ends the test.

use bytes::Bytes;

use super::{Frame, Kind, Reason, flag};

impl Frame {
    /// Whether this ends its stream: DATA or HEADERS with END_STREAM.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::DATA | Kind::HEADERS) && self.flags & flag::END_STREAM != 0
    }

    /// Whether this ends a header block: HEADERS, PUSH_PROMISE or CONTINUATION with END_HEADERS.
    #[must_use]
    pub fn is_end_headers(&self) -> bool {
        matches!(self.kind, Kind::HEADERS | Kind::PUSH_PROMISE | Kind::CONTINUATION)
            && self.flags & flag::END_HEADERS != 0
    }

    /// Whether this acknowledges: SETTINGS or PING with ACK.
    #[must_use]
    pub fn is_ack(&self) -> bool {
        matches!(self.kind, Kind::SETTINGS | Kind::PING) && self.flags & flag::ACK != 0
    }

    /// The data of DATA, or the fragment of a header block: the payload less padding, priority and promised stream.
    ///
    /// # Panics
    ///
    /// When the frame has none, or padding larger than its payload.
    #[must_use]
    #[track_caller]
    pub fn body(&self) -> Bytes {
        let mut body = self.payload.clone();
        let has = |bit| self.flags & bit != 0;
        let (may_pad, mut prefix) = match self.kind {
            Kind::DATA => (true, 0),
            Kind::HEADERS => (true, if has(flag::PRIORITY) { 5 } else { 0 }),
            Kind::PUSH_PROMISE => (true, 4),
            Kind::CONTINUATION => (false, 0),
            _ => panic!("{self:?} has no body"),
        };
        if may_pad && has(flag::PADDED) {
            let padding = usize::from(*body.first().unwrap_or_else(|| panic!("{self:?} lacks its pad length")));
            prefix += 1;
            assert!(
                prefix + padding <= body.len(),
                "{self:?} has {padding} bytes of padding, more than its payload"
            );
            body.truncate(body.len() - padding);
        }
        assert!(prefix <= body.len(), "{self:?} is shorter than its fixed part");
        body.split_off(prefix)
    }

    /// The identifiers and values of SETTINGS.
    ///
    /// # Panics
    ///
    /// When this is not well-formed SETTINGS.
    #[must_use]
    #[track_caller]
    pub fn settings_values(&self) -> Vec<(u16, u32)> {
        self.must_be(&[Kind::SETTINGS]);
        assert!(
            self.payload.len().is_multiple_of(6),
            "{self:?} is not a whole number of settings"
        );
        let pair = |raw: &[u8]| (u16::from_be_bytes([raw[0], raw[1]]), number(&raw[2..]));
        self.payload.chunks(6).map(pair).collect()
    }

    /// The error code of RST_STREAM or GOAWAY.
    ///
    /// # Panics
    ///
    /// When this is neither, or too short.
    #[must_use]
    #[track_caller]
    pub fn reason(&self) -> Reason {
        self.must_be(&[Kind::RST_STREAM, Kind::GOAWAY]);
        Reason(number(&self.payload[if self.kind == Kind::GOAWAY { 4 } else { 0 }..]))
    }

    /// The last stream of GOAWAY that was or may be processed.
    ///
    /// # Panics
    ///
    /// When this is not GOAWAY, or too short.
    #[must_use]
    #[track_caller]
    pub fn last_stream(&self) -> u32 {
        self.must_be(&[Kind::GOAWAY]);
        number(&self.payload) & 0x7fff_ffff
    }

    /// The debug data of GOAWAY.
    ///
    /// # Panics
    ///
    /// When this is not GOAWAY, or too short.
    #[must_use]
    #[track_caller]
    pub fn debug_data(&self) -> Bytes {
        self.must_be(&[Kind::GOAWAY]);
        self.payload.slice(8..)
    }

    /// The increment of WINDOW_UPDATE.
    ///
    /// # Panics
    ///
    /// When this is not WINDOW_UPDATE, or too short.
    #[must_use]
    #[track_caller]
    pub fn increment(&self) -> u32 {
        self.must_be(&[Kind::WINDOW_UPDATE]);
        number(&self.payload) & 0x7fff_ffff
    }

    /// The eight bytes of PING.
    ///
    /// # Panics
    ///
    /// When this is not PING, or of another length.
    #[must_use]
    #[track_caller]
    pub fn opaque(&self) -> [u8; 8] {
        self.must_be(&[Kind::PING]);
        self.payload[..]
            .try_into()
            .unwrap_or_else(|_| panic!("{self:?} does not have eight bytes"))
    }

    #[track_caller]
    fn must_be(&self, kinds: &[Kind]) {
        assert!(kinds.contains(&self.kind), "expected {kinds:?}, got {self:?}");
    }
}

#[track_caller]
fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::setting;

    #[test]
    fn body_is_free_of_padding_and_priority() {
        assert_eq!(Frame::data(1, &b"abc"[..]).padded(255).body(), "abc");
        assert_eq!(Frame::data(1, &b""[..]).padded(0).body(), "");
        let prioritized = Frame::headers(1, &b"\0\0\0\0\x10block"[..]).flag(flag::PRIORITY);
        assert_eq!(prioritized.body(), "block");
        assert_eq!(prioritized.padded(3).body(), "block");
        assert_eq!(Frame::push_promise(1, 2, b"block").body(), "block");
        assert_eq!(Frame::continuation(1, &b"block"[..]).flag(flag::PADDED).body(), "block");
    }

    #[test]
    #[should_panic(expected = "more than its payload")]
    fn refuses_padding_beyond_the_payload() {
        drop(Frame::new(Kind::DATA, flag::PADDED, 1, &b"\x03ab"[..]).body());
    }

    #[test]
    #[should_panic(expected = "expected [GOAWAY], got PING")]
    fn refuses_to_read_another_kind() {
        assert_eq!(Frame::ping([0; 8]).last_stream(), 0);
    }

    #[test]
    fn reads_back_what_the_constructors_wrote() {
        let settings = [(setting::INITIAL_WINDOW_SIZE, 7), (setting::ENABLE_PUSH, 0)];
        assert_eq!(Frame::settings(&settings).settings_values(), settings);
        let goaway = Frame::goaway(9, Reason::ENHANCE_YOUR_CALM, b"why");
        assert_eq!(goaway.last_stream(), 9);
        assert_eq!(goaway.reason(), Reason::ENHANCE_YOUR_CALM);
        assert_eq!(goaway.debug_data(), "why");
        assert_eq!(
            format!("{goaway:?}"),
            "GOAWAY(stream=0, flags=0x0, len=11, last=9, ENHANCE_YOUR_CALM, `why`)"
        );
        assert_eq!(
            Frame::rst_stream(1, Reason::CONNECT_ERROR).reason(),
            Reason::CONNECT_ERROR
        );
        assert_eq!(Frame::window_update(1, 5).increment(), 5);
        assert_eq!(Frame::ping(*b"12345678").opaque(), *b"12345678");
        assert!(Frame::ping_ack([0; 8]).is_ack());
        assert!(Frame::settings_ack().is_ack());
        assert!(!Frame::data(1, &b""[..]).end_stream().is_ack());
    }
}
