//! The peer's bytes, cut into frames; the bytes of DATA.

use bytes::{Buf, Bytes, BytesMut};

use super::fault::Fault;
use super::frame::{self, Head, PREFACE, flag};
use super::protocol::{EMPTY_FRAMES, Protocol};
use super::reading::{At, Block, Data};
use super::stream::Half;
use super::window;
use crate::flood::{HEAD_LEN, kind};
use crate::wire::ErrorCode;

/// Bytes of a payload below this share of the buffer that they arrived in are copied out of it:
/// what keeps them waiting must not keep the buffer.
const SHARE: usize = 4;

impl Protocol {
    /// Takes from `input` what can be acted on; answers how long it has to be before there is more.
    pub(super) fn receive(&mut self, input: &mut BytesMut, whole: usize) -> usize {
        self.reading.whole = whole;
        while self.farewell.end.is_none() {
            self.reading.wanted = 0;
            let stepped = self.step(input).or_else(|fault| match fault {
                Fault::Connection(code) => Err(code),
                Fault::Stream(id, code) => match self.fail_stream(id, code) {
                    Err(Fault::Connection(code) | Fault::Stream(_, code)) => Err(code),
                    Ok(()) => Ok(true),
                },
            });
            match stepped {
                Ok(true) => {}
                Ok(false) => return self.reading.wanted,
                Err(code) => self.violated(code),
            }
        }
        input.clear();
        0
    }

    /// One step; `false` if there are too few bytes for it.
    fn step(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        match self.reading.at {
            At::Preface => self.on_preface(input),
            At::First | At::Head => self.on_head(input),
            At::Data(data) => self.on_data(data, input),
            At::Skip(left) => {
                let n = left.min(input.len());
                input.advance(n);
                self.reading.at = if n == left { At::Head } else { At::Skip(left - n) };
                Ok(n == left)
            }
        }
    }

    fn on_preface(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        let n = input.len().min(PREFACE.len());
        if input.get(..n) != PREFACE.get(..n) {
            return Err(Fault::PROTOCOL);
        }
        if n < PREFACE.len() {
            self.reading.wanted = if n == 0 { 0 } else { PREFACE.len() };
            return Ok(false);
        }
        input.advance(n);
        self.reading.at = At::First;
        Ok(true)
    }

    fn on_head(&mut self, input: &mut BytesMut) -> Result<bool, Fault> {
        let Some(head) = Head::parse(input) else {
            self.reading.wanted = if input.is_empty() { 0 } else { HEAD_LEN };
            return Ok(false);
        };
        self.check_order(head)?;
        if let Err(fault) = head.check(self.limits.max_frame) {
            input.advance(HEAD_LEN);
            self.reading.at = At::Skip(head.len);
            return Err(fault);
        }
        let (needed, skipped) = match head.kind {
            kind::DATA => return self.on_data_head(head, input),
            // What is behind the code is for people to read.
            kind::GOAWAY => (8, head.len - 8),
            kind::HEADERS | kind::CONTINUATION if head.len > self.max_block() => return Err(Fault::CALM),
            kind if kind <= kind::CONTINUATION => (head.len, 0),
            _ => (0, head.len),
        };
        if input.len() < HEAD_LEN + needed {
            self.reading.wanted = HEAD_LEN + needed;
            return Ok(false);
        }
        self.reading.at = if skipped > 0 { At::Skip(skipped) } else { At::Head };
        let payload = input.get(HEAD_LEN..HEAD_LEN + needed).unwrap_or_default();
        let acted = self.on_frame(head, payload);
        input.advance(HEAD_LEN + needed);
        acted.map(|()| true)
    }

    /// SETTINGS come first (RFC 9113 §3.4), and nothing within a field block (§4.3).
    fn check_order(&self, head: Head) -> Result<(), Fault> {
        let is_first = matches!(self.reading.at, At::First);
        if is_first && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::PROTOCOL);
        }
        let continued = self.reading.block.as_ref().map(|block| block.stream);
        let continues = (head.kind == kind::CONTINUATION).then_some(head.stream);
        if continued != continues {
            return Err(Fault::PROTOCOL);
        }
        Ok(())
    }

    fn on_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::HEADERS => {
                let block = frame::field_block(head, payload)?;
                let end = head.has(flag::END_STREAM);
                if head.has(flag::END_HEADERS) {
                    return self.on_block(head.stream, end, block);
                }
                self.reading.block = Some(Block {
                    stream: head.stream,
                    end,
                    bytes: block.to_vec(),
                    continuations: 0,
                });
                Ok(())
            }
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => frame::check_priority(head.stream, payload),
            kind::RST_STREAM => self.on_reset(head.stream, ErrorCode::from(frame::number(payload))),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PING => {
                self.on_ping(head, payload);
                Ok(())
            }
            kind::GOAWAY => {
                let (last, code) = payload.split_at_checked(4).unwrap_or_default();
                self.on_goaway(frame::number(last) & 0x7fff_ffff, ErrorCode::from(frame::number(code)))
            }
            kind::WINDOW_UPDATE => self.on_window_update(head.stream, frame::number(payload) & 0x7fff_ffff),
            // Unknown types are ignored (RFC 9113 §4.1).
            _ => Ok(()),
        }
    }

    /// The head of a DATA frame (RFC 9113 §6.1). All of the frame is accounted for here, and its
    /// padding given back at once.
    fn on_data_head(&mut self, head: Head, input: &mut BytesMut) -> Result<bool, Fault> {
        let mut padding = 0;
        let mut prefix = HEAD_LEN;
        if head.has(flag::PADDED) && head.len > 0 {
            let Some(pad) = input.get(HEAD_LEN) else {
                self.reading.wanted = HEAD_LEN + 1;
                return Ok(false);
            };
            padding = usize::from(*pad);
            prefix += 1;
        } else if head.has(flag::PADDED) {
            return Err(Fault::FRAME_SIZE);
        }
        let left = (HEAD_LEN + head.len).saturating_sub(prefix);
        let len = left.checked_sub(padding).ok_or(Fault::PROTOCOL)?;
        input.advance(prefix);
        let end = head.has(flag::END_STREAM);
        let mut data = Data {
            slot: None,
            stream: head.stream,
            left: len,
            padding,
            end,
        };
        self.reading.at = At::Data(data);
        self.empty_frames = if len == 0 && !end { self.empty_frames + 1 } else { 0 };
        if self.empty_frames > EMPTY_FRAMES {
            return Err(Fault::CALM);
        }
        let charged = u32::try_from(head.len).unwrap_or(u32::MAX);
        self.recv_window
            .received(charged)
            .map_err(|window::Overflow| Fault::FLOW_CONTROL)?;
        match self.charge(head.stream, charged, u32::try_from(len).unwrap_or(u32::MAX)) {
            Ok(slot) => data.slot = slot,
            Err(fault) => {
                self.recv_window.release(charged);
                return Err(fault);
            }
        }
        let given_back = match data.slot {
            Some(_) => charged - u32::try_from(len).unwrap_or(charged),
            None => charged,
        };
        self.recv_window.release(given_back);
        self.announce_window();
        self.reading.at = At::Data(data);
        Ok(true)
    }

    /// Charges a stream's window with a DATA frame; answers the stream's slot if it takes the bytes.
    fn charge(&mut self, id: u32, charged: u32, len: u32) -> Result<Option<usize>, Fault> {
        let Some(slot) = self.streams.find(id) else {
            return self.on_stray_data(id, charged).map(|()| None);
        };
        let Some(stream) = self.streams.get_mut(slot) else {
            return Ok(None);
        };
        match stream.receiving {
            Half::Body => {}
            Half::Head => return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR)),
            Half::Ended => return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
        }
        if stream.recv_window.received(charged).is_err() {
            return Err(Fault::Stream(id, ErrorCode::FLOW_CONTROL_ERROR));
        }
        stream.in_flight += len;
        stream.recv_window.release(charged - len);
        Ok(Some(slot))
    }

    /// DATA on a stream that is not open. What was under way when the stream was reset is ignored
    /// (RFC 9113 §5.1), as much of it as the peer had window for.
    fn on_stray_data(&mut self, id: u32, charged: u32) -> Result<(), Fault> {
        if self.is_idle(id) && !self.is_beyond_goaway(id) {
            return Err(Fault::PROTOCOL);
        }
        if self.is_beyond_goaway(id) {
            return Ok(());
        }
        match self.streams.aftermath(id) {
            Some(aftermath) => {
                let left = aftermath.window.checked_sub(charged).ok_or(Fault::FLOW_CONTROL)?;
                aftermath.window = left;
                Ok(())
            }
            None => Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
        }
    }

    fn on_data(&mut self, mut data: Data, input: &mut BytesMut) -> Result<bool, Fault> {
        let n = data.left.min(input.len());
        let is_whole = self.reading.whole < n * SHARE;
        let stream = data
            .slot
            .and_then(|slot| self.streams.get_mut(slot))
            .filter(|stream| stream.id == data.stream && stream.failure.is_none());
        match stream {
            Some(stream) if n > 0 => {
                let bytes = match is_whole {
                    true => input.split_to(n).freeze(),
                    false => Bytes::copy_from_slice(input.get(..n).unwrap_or_default()),
                };
                if !is_whole {
                    input.advance(n);
                }
                stream.inbox.push_back(bytes);
                if let Some(slot) = data.slot {
                    self.streams.tell(slot);
                }
            }
            _ => input.advance(n),
        }
        data.left -= n;
        let padding = if data.left == 0 {
            data.padding.min(input.len())
        } else {
            0
        };
        input.advance(padding);
        data.padding -= padding;
        self.reading.at = At::Data(data);
        if data.left > 0 || data.padding > 0 {
            return Ok(false);
        }
        self.reading.at = At::Head;
        if let (true, Some(slot)) = (data.end, data.slot) {
            self.end_receiving(slot, data.stream);
        }
        Ok(true)
    }

    pub(super) fn end_receiving(&mut self, slot: usize, id: u32) {
        if let Some(stream) = self.streams.get_mut(slot)
            && stream.id == id
            && stream.failure.is_none()
        {
            stream.receiving = Half::Ended;
            self.streams.settle(slot);
            self.streams.tell(slot);
        }
    }
}
