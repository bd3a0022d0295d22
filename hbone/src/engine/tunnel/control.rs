//! Frames from the peer that are about streams and the connection, and carry no bytes of theirs.

use super::fault::Fault;
use super::frame::{self, Head, flag};
use super::protocol::{DRAIN_PING, Protocol, UNSEEN_RESETS, USER_PING};
use super::stream::Failure;
use super::window;
use crate::observe::Role;
use crate::wire::ErrorCode;

impl Protocol {
    /// RFC 9113 §6.4.
    pub(super) fn on_reset(&mut self, id: u32, code: ErrorCode) -> Result<(), Fault> {
        let Some(slot) = self.streams.find(id) else {
            return match self.is_idle(id) && !self.is_beyond_goaway(id) {
                true => Err(Fault::PROTOCOL),
                false => Ok(()),
            };
        };
        self.count_unseen(slot)?;
        self.streams.fail(slot, Failure::Reset { code, by_peer: true });
        Ok(())
    }

    /// Counts a stream that ends by a reset before anybody has seen it, whoever resets it: a peer can
    /// have this side do it.
    pub(super) fn count_unseen(&mut self, slot: usize) -> Result<(), Fault> {
        if self.streams.get(slot).is_some_and(|stream| stream.place.is_unseen) {
            self.unseen_resets += 1;
            if self.unseen_resets > UNSEEN_RESETS {
                return Err(Fault::CALM);
            }
        }
        Ok(())
    }

    /// RFC 9113 §6.5.
    pub(super) fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        if head.has(flag::ACK) {
            if std::mem::replace(&mut self.is_acked, true) {
                return Err(Fault::PROTOCOL);
            }
            let by = i64::from(self.limits.stream_window) - i64::from(window::INITIAL);
            self.streams.each_open(|stream| stream.recv_window.shift(by));
            self.streams.widen_resets(u32::try_from(by).unwrap_or(0));
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
    pub(super) fn on_ping(&mut self, head: Head, payload: &[u8]) {
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
    pub(super) fn on_goaway(&mut self, last: u32, code: ErrorCode) -> Result<(), Fault> {
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
    pub(super) fn on_window_update(&mut self, id: u32, increment: u32) -> Result<(), Fault> {
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

    /// Streams above the last that a GOAWAY of this side's named are ignored (RFC 9113 §6.8).
    pub(super) fn is_beyond_goaway(&self, id: u32) -> bool {
        self.role == Role::Server && self.farewell.sent.is_some_and(|(last, _)| id > last)
    }
}
