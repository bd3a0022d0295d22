//! What happens to a frame that comes in, before the script sees it.

use std::task::Context;

use tokio::io::{AsyncRead, AsyncWrite};

use super::history::Way;
use super::{RawPeer, Received};
use crate::frames::{Frame, Kind, setting};
use crate::hpack::Fields;

impl<T: AsyncRead + AsyncWrite + Unpin, S> RawPeer<T, S> {
    /// Moves bytes both ways until none move without waiting.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        loop {
            self.wire.write_out(cx);
            if !self.habits.reads || self.wire.poll_fill(cx).is_pending() {
                return;
            }
            while let Some(frame) = self.wire.next_frame() {
                self.take_in(frame);
            }
        }
    }

    pub(super) fn queue(&mut self, frame: &Frame) {
        self.credit.spend(frame);
        self.history.note(Way::Sent, frame);
        self.wire.queue(frame);
    }

    fn take_in(&mut self, frame: Frame) {
        self.history.note(Way::Received, &frame);
        let fields = self.decode_fields(&frame);
        let handled = match frame.kind {
            Kind::SETTINGS => self.take_settings(&frame),
            Kind::PING => self.take_ping(&frame),
            Kind::WINDOW_UPDATE => {
                self.credit.give(frame.stream, frame.increment());
                false
            }
            Kind::DATA => {
                self.return_credit(&frame);
                false
            }
            Kind::GOAWAY => {
                self.went_away = true;
                false
            }
            _ => false,
        };
        if !handled {
            self.inbox.push_back(Received { frame, fields });
        }
    }

    fn decode_fields(&mut self, frame: &Frame) -> Option<Fields> {
        if !matches!(frame.kind, Kind::HEADERS | Kind::PUSH_PROMISE | Kind::CONTINUATION) {
            return None;
        }
        self.open_block.extend_from_slice(&frame.body());
        if !frame.is_end_headers() {
            return None;
        }
        let block = self.open_block.split();
        let decoded = self.decoder.decode(&block);
        Some(decoded.unwrap_or_else(|error| panic!("a header block is malformed: {error}; had seen{}", self.history)))
    }

    fn take_settings(&mut self, frame: &Frame) -> bool {
        if !frame.is_ack() {
            for (id, value) in frame.settings_values() {
                self.peer_settings.insert(id, value);
                if id == setting::INITIAL_WINDOW_SIZE {
                    self.credit.set_initial(value);
                }
            }
            self.heard_settings = true;
            if self.habits.acks_settings {
                self.queue(&Frame::settings_ack());
            }
        }
        self.habits.acks_settings
    }

    fn take_ping(&mut self, frame: &Frame) -> bool {
        let answers = !frame.is_ack() && self.habits.acks_pings;
        if answers {
            self.queue(&Frame::ping_ack(frame.opaque()));
        }
        answers
    }

    fn return_credit(&mut self, frame: &Frame) {
        let len = u32::try_from(frame.payload.len()).unwrap();
        if !self.habits.returns_credit || len == 0 {
            return;
        }
        self.queue(&Frame::window_update(0, len));
        if !frame.is_end_stream() {
            self.queue(&Frame::window_update(frame.stream, len));
        }
    }
}
