//! What the users of streams do with them.

use std::task::Poll;

use bytes::Bytes;

use super::protocol::{MAX_ID, Protocol};
use super::stream::{Failure, Half, Stream};
use super::{frame, head, window};
use crate::engine::{EngineError, Received};
use crate::observe::Role;
use crate::transport::copy_pieces;
use crate::wire::ErrorCode;

impl Protocol {
    /// Whether a stream may be opened (client).
    pub(super) fn may_open(&self) -> bool {
        self.streams.open() < self.peer.max_streams
    }

    /// Opens a stream (client); answers its slot and id.
    pub(super) fn open(&mut self, head: &http::Request<()>) -> Result<(usize, u32), EngineError> {
        let id = self.next_id;
        if self.farewell.end.is_some()
            || self.farewell.is_draining
            || self.farewell.received.is_some()
            || self.role == Role::Server
            || id > MAX_ID
        {
            let (code, by_peer) = (ErrorCode::NO_ERROR, false);
            return Err(Failure::GoAway { code, by_peer }.into());
        }
        self.next_id += 2;
        let block = head::encode_request(&mut self.encoder, head);
        frame::put_headers(&mut self.out, id, &block, false, self.peer.max_frame);
        let mut stream = Stream::new(id, self.peer.initial_window, self.recv_initial());
        stream.sending = Half::Body;
        Ok((self.streams.insert(stream), id))
    }

    pub(super) fn poll_response(&mut self, slot: usize) -> Poll<Result<http::response::Parts, EngineError>> {
        let Some(stream) = self.streams.get_mut(slot) else {
            return Poll::Pending;
        };
        match (stream.response.take(), stream.failure) {
            (Some(head), _) => Poll::Ready(Ok(*head)),
            (None, Some(failure)) => Poll::Ready(Err(failure.into())),
            (None, None) => Poll::Pending,
        }
    }

    pub(super) fn respond(&mut self, slot: usize, head: &http::Response<()>, end: bool) -> Result<(), EngineError> {
        let stream = self.streams.get_mut(slot).ok_or_else(EngineError::closed)?;
        if let Some(failure) = stream.failure {
            return Err(failure.into());
        }
        if stream.sending != Half::Head {
            return Err(EngineError::closed());
        }
        let block = head::encode_response(&mut self.encoder, head);
        frame::put_headers(&mut self.out, stream.id, &block, end, self.peer.max_frame);
        stream.sending = if end { Half::Ended } else { Half::Body };
        self.streams.settle(slot);
        Ok(())
    }

    pub(super) fn poll_send_capacity(&mut self, slot: usize, wanted: usize) -> Poll<Result<usize, EngineError>> {
        let sendable = self.sendable();
        let is_crowded = self.streams.is_crowded();
        let Some(stream) = self.streams.get_mut(slot) else {
            return Poll::Ready(Err(EngineError::closed()));
        };
        if stream.failure.is_some() || stream.sending != Half::Body {
            return Poll::Ready(Err(EngineError::closed()));
        }
        let has_turn = std::mem::take(&mut stream.place.has_turn);
        let window = stream.send_window.available().min(wanted);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        if window == 0 {
            stream.place.is_held = true;
            return Poll::Pending;
        }
        if sendable == 0 || (is_crowded && !has_turn) {
            self.streams.wait(slot);
            return Poll::Pending;
        }
        // Where others wait, a turn is a frame.
        let share = if is_crowded { self.peer.max_frame } else { usize::MAX };
        Poll::Ready(Ok(window.min(sendable).min(share)))
    }

    pub(super) fn send(&mut self, slot: usize, bytes: &Bytes, end: bool) -> Result<(), EngineError> {
        let stream = self.streams.get_mut(slot).ok_or_else(EngineError::closed)?;
        if stream.failure.is_some() || stream.sending != Half::Body {
            return Err(EngineError::closed());
        }
        stream.send_window.sent(bytes.len());
        self.send_window.sent(bytes.len());
        let mut rest = bytes.as_ref();
        while let Some((part, tail)) = rest
            .split_at_checked(self.peer.max_frame)
            .filter(|(_, t)| !t.is_empty())
        {
            frame::put_data(&mut self.out, stream.id, part.len(), false);
            copy_pieces(&mut self.out, part);
            self.data_frames += 1;
            rest = tail;
        }
        if !rest.is_empty() || end {
            frame::put_data(&mut self.out, stream.id, rest.len(), end);
            copy_pieces(&mut self.out, rest);
            self.data_frames += 1;
        }
        if end {
            stream.sending = Half::Ended;
            self.streams.settle(slot);
        }
        Ok(())
    }

    pub(super) fn reset(&mut self, slot: usize, code: ErrorCode) {
        let Some(stream) = self.streams.get(slot).filter(|stream| !stream.is_closed()) else {
            return;
        };
        let (id, window) = (stream.id, stream.recv_window.left());
        frame::put_reset(&mut self.out, id, code);
        self.streams.fail(slot, Failure::Reset { code, by_peer: false });
        if stream_may_talk(self.streams.get(slot)) {
            self.streams.remember(id, window, self.limits.remembered());
        }
    }

    pub(super) fn poll_reset(&mut self, slot: usize) -> Poll<EngineError> {
        match self.streams.get(slot).and_then(|stream| stream.failure) {
            Some(failure) => Poll::Ready(failure.into()),
            None => Poll::Pending,
        }
    }

    /// What arrived before a failure comes before it, and an end stays one.
    pub(super) fn poll_recv(&mut self, slot: usize) -> Poll<Result<Received, EngineError>> {
        let Some(stream) = self.streams.get_mut(slot) else {
            return Poll::Ready(Err(EngineError::closed()));
        };
        if let Some(bytes) = stream.inbox.pop_front() {
            return Poll::Ready(Ok(Received::Data(bytes)));
        }
        match (stream.receiving, stream.failure) {
            (Half::Ended, _) if stream.has_trailers => Poll::Ready(Ok(Received::Trailers)),
            (Half::Ended, _) => Poll::Ready(Ok(Received::End)),
            (_, Some(failure)) => Poll::Ready(Err(failure.into())),
            (_, None) => Poll::Pending,
        }
    }

    pub(super) fn release(&mut self, slot: usize, n: usize) {
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(stream.in_flight);
        stream.in_flight -= n;
        self.recv_window.release(n);
        stream.recv_window.release(n);
        if stream.receiving == Half::Body
            && stream.failure.is_none()
            && let Some(increment) = stream.recv_window.due()
        {
            frame::put_window_update(&mut self.out, stream.id, increment);
        }
        self.announce_window();
    }

    /// Nobody uses the stream any more: what has not ended is reset, and what nobody read does not
    /// count.
    pub(super) fn forget(&mut self, slot: usize) {
        let Some(stream) = self.streams.get(slot) else { return };
        let is_answered = self.role == Role::Server && stream.sending == Half::Ended;
        self.reset(
            slot,
            if is_answered {
                ErrorCode::NO_ERROR
            } else {
                ErrorCode::CANCEL
            },
        );
        if let Some(stream) = self.streams.remove(slot) {
            self.recv_window.release(stream.in_flight);
            self.announce_window();
        }
    }

    /// The window of a stream that the peer opens, or answers, now.
    pub(super) fn recv_initial(&self) -> u32 {
        match self.is_acked {
            true => self.limits.stream_window,
            false => window::INITIAL,
        }
    }
}

/// Whether the peer had not ended its side.
fn stream_may_talk(stream: Option<&Stream>) -> bool {
    stream.is_some_and(|stream| stream.receiving != Half::Ended)
}
