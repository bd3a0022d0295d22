//! Field blocks from the peer: requests, responses and trailers.

use super::fault::Fault;
use super::frame::{self, Head, flag};
use super::head::{self, Fields};
use super::protocol::Protocol;
use super::stream::{Half, Stream};
use crate::observe::Role;
use crate::wire::ErrorCode;

/// Heads that may precede the final response.
const INTERIM: u8 = 100;

impl Protocol {
    /// Bytes of a field block, compressed, that are looked at.
    pub(super) fn max_block(&self) -> usize {
        4 * self.limits.max_list
    }

    pub(super) fn on_continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
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
    pub(super) fn on_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<(), Fault> {
        let max_list = self.limits.max_list;
        let mut fields = Fields::default();
        let mut size = 0;
        let decoded = self.decoder.decode(block, |name, value, so_far| {
            size = so_far;
            if size <= max_list {
                fields.push(&name, value);
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
        let mut refusal = http::Response::new(());
        *refusal.status_mut() = http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let block = head::encode_response(&mut self.encoder, &refusal);
        frame::put_headers(&mut self.out, id, &block, true, self.peer.max_frame);
        self.fail_stream(id, ErrorCode::PROTOCOL_ERROR)?;
        self.allow_late_data(id, end);
        Ok(())
    }
}
