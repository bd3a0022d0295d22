//! How a connection ends: when it was told to, or for a reason.

use std::time::Duration;

#[cfg(feature = "tls")]
use mesh_identity::live::{Closing, Urgency};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Drain, Driver, Ending, LINGER, clock};
use crate::engine::Engine;
use crate::lost::Lost;
use crate::observe::Event;
use crate::tunnel::TunnelError;
use crate::wire::ErrorCode;

impl<Io: AsyncRead + AsyncWrite + Unpin, E: Engine> Driver<Io, E> {
    /// The peer is not trusted any more.
    #[cfg(feature = "tls")]
    pub(crate) fn distrust(&mut self, closing: Closing) {
        if self.end.is_some() && self.entries.is_empty() {
            return;
        }
        let role = self.side.role();
        self.config.observe(&Event::TrustLost { role, closing });
        match closing.urgency() {
            Urgency::Drain if self.end.is_some() || matches!(self.drain, Drain::Until(_)) => {}
            Urgency::Drain => self.start_drain(self.config.drain_timeout()),
            Urgency::Abort => self.fail(Lost::Distrusted(closing.reason())),
        }
    }

    pub(super) fn start_drain(&mut self, timeout: Duration) {
        let deadline = clock() + timeout;
        self.drain = Drain::Until(deadline);
        self.engine.drain();
        self.mailbox.bell().engine();
        self.config.observe(&Event::DrainStarted {
            role: self.side.role(),
            tunnels: self.entries.len(),
        });
        if deadline < self.timer.deadline().into_std() {
            self.set_timer(deadline);
        }
    }

    /// Ends the connection for a reason of this side's: every tunnel fails at once, and the peer
    /// is told if it can be.
    pub(super) fn fail(&mut self, reason: Lost) {
        let code = match reason {
            Lost::Flood(_) => ErrorCode::ENHANCE_YOUR_CALM,
            Lost::Violation(code) => code,
            _ => ErrorCode::NO_ERROR,
        };
        self.end_within(LINGER, Err(reason));
        if let (Lost::Dead(_), Some(ending)) = (reason, &mut self.end) {
            ending.linger = None;
        }
        self.fail_tunnels(reason, ErrorCode::CANCEL);
        self.engine.abort(code);
        self.mailbox.bell().engine();
    }

    /// Gives the connection some time to end by itself.
    pub(super) fn end_within(&mut self, time: Duration, result: Result<(), Lost>) {
        let linger = clock() + time;
        self.set_timer(linger);
        self.end = Some(Ending {
            result,
            linger: Some(linger),
        });
    }

    fn fail_tunnels(&mut self, reason: Lost, code: ErrorCode) {
        let role = self.side.role();
        let (entries, waiting) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.waiting));
        self.publish_status();
        for (_, mut entry) in entries {
            entry.lose(&mut self.engine, reason, code, self.goaway);
            self.config.observe(&entry.closed(role, E::id(entry.stream())));
            self.engine.forget(entry.into_stream());
        }
        for open in waiting {
            open.tunnel.refuse(TunnelError::ConnectionLost(reason));
        }
    }

    pub(super) fn poll_end(&mut self) -> Option<Result<(), Lost>> {
        let Some(Ending { result, linger: None }) = &self.end else {
            return None;
        };
        let cut = self.cut || !self.entries.is_empty();
        let result = match *result {
            Ok(()) if cut => Err(Lost::Io(std::io::ErrorKind::UnexpectedEof)),
            // Both sides wanted the end, and the peer was quicker.
            Err(Lost::Io(_)) if !cut && self.is_draining() => Ok(()),
            result => result,
        };
        self.finish(result);
        Some(result)
    }

    fn finish(&mut self, result: Result<(), Lost>) {
        let reason = result.err().unwrap_or(Lost::Drained);
        self.waiting.extend(self.mailbox.close());
        self.fail_tunnels(reason, ErrorCode::CANCEL);
        self.config.observe(&Event::ConnectionClosed {
            role: self.side.role(),
            lost: result.err(),
        });
    }
}
