//! What the peer sends, frame by frame.

use bytes::{Buf, Bytes, BytesMut};

use super::{DRAIN_PING, EMPTY_FRAMES, Protocol, UNSEEN_RESETS, USER_PING};
use crate::engine::tunnel::fault::Fault;
use crate::engine::tunnel::frame::{self, Head, PREFACE, flag};
use crate::engine::tunnel::head::Fields;
use crate::engine::tunnel::stream::{Failure, Half, Stream};
use crate::engine::tunnel::streams::by_peer;
use crate::engine::tunnel::window;
use crate::flood::{HEAD_LEN, kind};
use crate::observe::Role;
use crate::wire::ErrorCode;

/// Bytes of a payload below this share of the buffer that they arrived in are copied out of it:
/// what keeps them waiting must not keep the buffer.
const SHARE: usize = 4;

/// Heads that may precede the final response.
const INTERIM: u8 = 100;

/// Where the peer's bytes have come to.
#[derive(Debug)]
pub(in crate::engine::tunnel) struct Reading {
    at: At,
    /// The field block that CONTINUATION frames continue.
    block: Option<Block>,
    /// Bytes that have to be there before there is anything to do.
    wanted: usize,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Before the client's preface.
    Preface,
    /// Before the first frame, which is SETTINGS.
    First,
    Head,
    /// In the payload of a DATA frame.
    Data(Data),
    /// In a payload that nobody needs.
    Skip(usize),
}

/// A DATA frame, as far as it is still to come.
#[derive(Clone, Copy, Debug)]
struct Data {
    /// The stream that gets the bytes, if there is one.
    slot: Option<usize>,
    stream: u32,
    left: usize,
    padding: usize,
    end: bool,
}

/// A field block that is not complete.
#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
    continuations: usize,
}

impl Reading {
    pub(in crate::engine::tunnel) fn new(role: Role) -> Self {
        Self {
            at: match role {
                Role::Client => At::First,
                Role::Server => At::Preface,
            },
            block: None,
            wanted: 0,
        }
    }

    pub(in crate::engine::tunnel) fn is_greeted(&self) -> bool {
        !matches!(self.at, At::Preface)
    }

    pub(in crate::engine::tunnel) fn is_within_frame(&self) -> bool {
        self.block.is_some() || self.wanted > 0 || matches!(self.at, At::Data(_) | At::Skip(_))
    }
}

impl Protocol {
    /// Takes from `input` what can be acted on; answers how long it has to be before there is more.
    pub(in crate::engine::tunnel) fn receive(&mut self, input: &mut BytesMut) -> usize {
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
        if len == 0 && !end {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(Fault::CALM);
            }
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
        let is_whole = input.capacity() < n * SHARE;
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

    fn end_receiving(&mut self, slot: usize, id: u32) {
        if let Some(stream) = self.streams.get_mut(slot)
            && stream.id == id
            && stream.failure.is_none()
        {
            stream.receiving = Half::Ended;
            self.streams.settle(slot);
            self.streams.tell(slot);
        }
    }

    /// Bytes of a field block, compressed, that are looked at.
    fn max_block(&self) -> usize {
        4 * self.limits.max_list
    }

    fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let max_block = self.max_block();
        // An honest peer fills its frames.
        let continuations = (self.limits.max_list * 5 / 4 / self.limits.max_frame).max(5);
        let mut block = self.reading.block.take().ok_or(Fault::PROTOCOL)?;
        block.continuations += 1;
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) && block.bytes.len() <= max_block {
            return self.on_block(block.stream, block.end, &block.bytes);
        }
        if block.bytes.len() > max_block || block.continuations > continuations {
            return Err(Fault::CALM);
        }
        self.reading.block = Some(block);
        Ok(())
    }

    /// A whole field block. It is read whatever becomes of it, since later ones depend on it.
    fn on_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let max_list = self.limits.max_list;
        let mut fields = Fields::default();
        let mut size = 0;
        let decoded = self.decoder.decode(block, |name, value, so_far| {
            size = so_far;
            if size <= max_list {
                fields.push(name, value);
            }
            size <= 4 * max_list
        });
        decoded.map_err(|_| Fault::Connection(ErrorCode::COMPRESSION_ERROR))?;
        if size > 4 * max_list {
            return Err(Fault::CALM);
        }
        let fields = (size <= max_list).then_some(fields);
        match (self.streams.find(id), self.role) {
            (Some(slot), _) => self.on_stream_block(slot, id, end, fields),
            (None, Role::Server) => self.on_request(id, end, fields),
            (None, Role::Client) => self.on_stray_block(id, end),
        }
    }

    /// A response, or trailers (RFC 9113 §8.1).
    fn on_stream_block(&mut self, slot: usize, id: u32, end: bool, fields: Option<Fields>) -> Result<(), Fault> {
        let malformed = Fault::Stream(id, ErrorCode::PROTOCOL_ERROR);
        let Some(stream) = self.streams.get_mut(slot) else {
            return Ok(());
        };
        let fields = fields.ok_or(malformed)?;
        match stream.receiving {
            Half::Ended => return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
            Half::Body => {
                fields.check_trailers().map_err(|_| malformed)?;
                if !end {
                    return Err(malformed);
                }
                stream.has_trailers = true;
            }
            Half::Head => {
                let head = fields.into_response().map_err(|_| malformed)?;
                if head.status.is_informational() {
                    stream.interim += 1;
                    return if end || stream.interim > INTERIM {
                        Err(malformed)
                    } else {
                        Ok(())
                    };
                }
                stream.response = Some(Box::new(head));
                stream.receiving = Half::Body;
                self.streams.tell(slot);
            }
        }
        if end {
            self.end_receiving(slot, id);
        }
        Ok(())
    }

    /// A block on a stream that is not open.
    fn on_stray_block(&mut self, id: u32, end: bool) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::PROTOCOL);
        }
        let Some(aftermath) = self.streams.aftermath(id) else {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        };
        aftermath.heads = aftermath.heads.checked_sub(1).ok_or(Fault::CALM)?;
        if end {
            (aftermath.heads, aftermath.window) = (0, 0);
        }
        Ok(())
    }

    /// A request (server), unless it belongs to a stream that was there before.
    fn on_request(&mut self, id: u32, end: bool, fields: Option<Fields>) -> Result<(), Fault> {
        if self.is_beyond_goaway(id) {
            return Ok(());
        }
        if id.is_multiple_of(2) {
            return Err(Fault::PROTOCOL);
        }
        if id <= self.last_opened {
            return match self.streams.aftermath(id) {
                Some(_) => self.on_stray_block(id, end),
                None => Err(Fault::PROTOCOL),
            };
        }
        self.last_opened = id;
        if self.streams.open() >= self.limits.max_tunnels {
            self.fail_stream(id, ErrorCode::REFUSED_STREAM)?;
            self.allow_late_data(id, end);
            return Ok(());
        }
        let Some(fields) = fields else {
            return self.refuse_large_head(id, end);
        };
        let Ok(head) = fields.into_request() else {
            self.fail_stream(id, ErrorCode::PROTOCOL_ERROR)?;
            self.allow_late_data(id, end);
            return Ok(());
        };
        let mut stream = Stream::new(id, self.peer.initial_window, self.recv_initial());
        stream.receiving = if end { Half::Ended } else { Half::Body };
        stream.place.is_unseen = true;
        self.last_processed = id;
        let slot = self.streams.insert(stream);
        self.arrivals.push_back((Box::new(head), slot));
        Ok(())
    }

    /// What follows a request that was refused unseen.
    fn allow_late_data(&mut self, id: u32, end: bool) {
        let window = if end { 0 } else { self.recv_initial() };
        self.streams.remember(id, window, self.limits.remembered());
    }

    /// Answers 431 (RFC 6585 §5), and wants no more of the request.
    fn refuse_large_head(&mut self, id: u32, end: bool) -> Result<(), Fault> {
        let mut head = http::Response::new(());
        *head.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let block = crate::engine::tunnel::head::encode_response(&mut self.encoder, &head);
        frame::put_headers(&mut self.out, id, &block, true, self.peer.max_frame);
        self.fail_stream(id, ErrorCode::PROTOCOL_ERROR)?;
        self.allow_late_data(id, end);
        Ok(())
    }

    /// Streams above the last that a GOAWAY of this side's named are ignored (RFC 9113 §6.8).
    fn is_beyond_goaway(&self, id: u32) -> bool {
        self.role == Role::Server && self.farewell.sent.is_some_and(|(last, _)| id > last)
    }

    /// RFC 9113 §6.4.
    fn on_reset(&mut self, id: u32, code: ErrorCode) -> Result<(), Fault> {
        let Some(slot) = self.streams.find(id) else {
            return match self.is_idle(id) && !self.is_beyond_goaway(id) {
                true => Err(Fault::PROTOCOL),
                false => Ok(()),
            };
        };
        if self.streams.get(slot).is_some_and(|stream| stream.place.is_unseen) {
            self.unseen_resets += 1;
            if self.unseen_resets > UNSEEN_RESETS {
                return Err(Fault::CALM);
            }
        }
        self.streams.fail(slot, by_peer(code));
        Ok(())
    }

    /// RFC 9113 §6.5.
    fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.has(flag::ACK) {
            if std::mem::replace(&mut self.is_acked, true) {
                return Err(Fault::PROTOCOL);
            }
            let by = i64::from(self.limits.stream_window) - i64::from(window::INITIAL);
            self.streams.each_open(|stream| stream.recv_window.shift(by));
            return Ok(());
        }
        let new = self.peer.apply(payload, self.role == Role::Server)?;
        let by = i64::from(new.initial_window) - i64::from(self.peer.initial_window);
        if by != 0 {
            let mut shifted = Ok(());
            self.streams
                .each_open(|stream| shifted = shifted.and(stream.send_window.shift(by)));
            shifted.map_err(|window::Overflow| Fault::FLOW_CONTROL)?;
            for slot in self.streams.all() {
                self.unhold(slot);
            }
        }
        self.encoder.limit_table(new.header_table);
        self.peer = new;
        frame::put_settings_ack(&mut self.out);
        Ok(())
    }

    /// RFC 9113 §6.7.
    fn on_ping(&mut self, head: Head, payload: &[u8]) {
        let payload = payload.first_chunk().copied().unwrap_or_default();
        if !head.has(flag::ACK) {
            return frame::put_ping(&mut self.out, payload, true);
        }
        match payload {
            USER_PING => self.is_pinging = false,
            DRAIN_PING if self.farewell.sent.is_some() && !self.farewell.is_draining => {
                self.farewell.is_draining = true;
                self.say_goodbye(self.last_processed, ErrorCode::NO_ERROR);
            }
            _ => {}
        }
    }

    /// RFC 9113 §6.8.
    fn on_goaway(&mut self, last: u32, code: ErrorCode) -> Result<(), Fault> {
        if self.farewell.received.is_some_and(|(before, _)| last > before) {
            return Err(Fault::PROTOCOL);
        }
        self.farewell.received = Some((last, code));
        if self.role == Role::Client {
            for slot in self.streams.above(last) {
                self.streams.fail(slot, Failure::GoAway { code, by_peer: true });
            }
        }
        Ok(())
    }

    /// RFC 9113 §6.9.
    fn on_window_update(&mut self, id: u32, increment: u32) -> Result<(), Fault> {
        let by = i64::from(increment);
        if id == 0 {
            if increment == 0 {
                return Err(Fault::PROTOCOL);
            }
            return self
                .send_window
                .shift(by)
                .map_err(|window::Overflow| Fault::FLOW_CONTROL);
        }
        let Some(slot) = self.streams.find(id) else {
            return match self.is_idle(id) && !self.is_beyond_goaway(id) {
                true => Err(Fault::PROTOCOL),
                false => Ok(()),
            };
        };
        if increment == 0 {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        let shifted = self
            .streams
            .get_mut(slot)
            .map_or(Ok(()), |stream| stream.send_window.shift(by));
        shifted.map_err(|window::Overflow| Fault::Stream(id, ErrorCode::FLOW_CONTROL_ERROR))?;
        self.unhold(slot);
        Ok(())
    }

    /// Tells a stream whose window held bytes back that it has window.
    fn unhold(&mut self, slot: usize) {
        if let Some(stream) = self.streams.get_mut(slot)
            && stream.place.is_held
            && stream.send_window.available() > 0
        {
            stream.place.is_held = false;
            self.streams.tell(slot);
        }
    }
}
