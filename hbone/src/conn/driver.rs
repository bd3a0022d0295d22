//! The turns of a connection.

mod end;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use crate::config::Config;
use crate::doze::Doze;
use crate::engine::{Engine, Progress};
use crate::entry::{Entry, Phase};
use crate::keepalive::{Action, Keepalive};
use crate::lost::Lost;
use crate::mailbox::{Mailbox, Open};
use crate::observe::{Event, Role};
use crate::request::TunnelRequest;
use crate::slot::Slot;
use crate::status::Status;
use crate::transport::SharedTransport;
use crate::tunnel::{Tunnel, TunnelError, ready};
use crate::wire::ErrorCode;

/// Times that a turn goes round before other tasks get theirs.
const ROUNDS: usize = 4;

/// Time that a connection which this side ended has to tell its peer why.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Interval of frame accounting.
const TICK: Duration = Duration::from_secs(10);

/// A request for a tunnel.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) tunnel: Arc<Tunnel>,
    /// Boxed, since it is handed on by value and gone when the tunnel is open.
    pub(crate) request: Box<TunnelRequest>,
}

/// What differs between the two roles.
pub(crate) enum Side {
    Client(watch::Sender<Status>),
    Server(mpsc::Sender<Arrival>),
}

impl Side {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Client(_) => Role::Client,
            Self::Server(_) => Role::Server,
        }
    }
}

pub(crate) struct Driver<Io, E: Engine> {
    side: Side,
    engine: E,
    /// Wakes the driver through the bell, and not at all while it is at work.
    engine_waker: Waker,
    transport: SharedTransport<Io>,
    mailbox: Arc<Mailbox>,
    config: Config,
    entries: Slab<Entry<E::Stream>>,
    /// Keys of the tunnels that need the driver.
    ready: Vec<usize>,
    has_mail: bool,
    /// Tunnels to open, once the peer allows it.
    waiting: VecDeque<Open>,
    keepalive: Keepalive,
    received: u64,
    sent: u64,
    timer: Pin<Box<Sleep>>,
    timer_doze: Doze,
    next_tick: Instant,
    /// The last stream that the peer says it will process.
    goaway: Option<u32>,
    drain: Drain,
    /// No handle is left that could open a tunnel.
    abandoned: bool,
    published: Status,
    /// The transport failed while a tunnel was open.
    cut: bool,
    /// Set once, when the connection is to end or has ended.
    end: Option<Ending>,
}

/// How far a drain has come.
#[derive(Clone, Copy)]
enum Drain {
    No,
    /// No more handles: the connection ends with its last tunnel, whenever that is.
    Abandoned,
    Until(Instant),
}

/// The end of a connection.
struct Ending {
    result: Result<(), Lost>,
    /// Until when the peer may still be told.
    linger: Option<Instant>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin, E: Engine> Driver<Io, E> {
    pub(crate) fn new(
        side: Side,
        engine: E,
        transport: SharedTransport<Io>,
        mailbox: Arc<Mailbox>,
        config: Config,
    ) -> Self {
        let now = clock();
        Self {
            side,
            engine,
            engine_waker: Waker::from(Arc::clone(mailbox.bell())),
            transport,
            mailbox,
            entries: Slab::new(),
            ready: Vec::new(),
            has_mail: false,
            waiting: VecDeque::new(),
            keepalive: Keepalive::new(config.patience(), now),
            received: 0,
            sent: 0,
            timer: Box::pin(config.timers().sleep_until(now)),
            timer_doze: Doze::new(),
            next_tick: now + TICK,
            goaway: None,
            drain: Drain::No,
            abandoned: false,
            published: Status::default(),
            cut: false,
            end: None,
            config,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.has_mail |= self.mailbox.bell().begin_turn(cx, &mut self.ready);
        for _ in 0..ROUNDS {
            self.serve_calls();
            self.drive_engine();
            self.serve_calls();
            let is_metered = self.flush();
            self.poll_timer(cx);
            if let Some(result) = self.poll_end() {
                return Poll::Ready(result);
            }
            match self.mailbox.bell().end_turn(is_metered, &mut self.ready) {
                Some(has_mail) => self.has_mail |= has_mail,
                None => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the peer's SETTINGS have arrived.
    pub(crate) fn is_ready(&self) -> bool {
        self.transport.lock().has_first_frame()
    }

    /// Role and number of tunnels.
    pub(crate) fn describe(&self) -> (Role, usize) {
        (self.side.role(), self.entries.len())
    }

    /// Does what the handles and tunnels asked for; tells the status before places are left.
    fn serve_calls(&mut self) {
        if std::mem::take(&mut self.has_mail) {
            self.read_mail();
        }
        self.publish_status();
        let mut ready = std::mem::take(&mut self.ready);
        let is_idle = ready.is_empty() && self.waiting.is_empty() && !self.abandoned;
        for key in ready.drain(..) {
            self.serve(key);
        }
        self.ready = ready;
        if is_idle {
            return;
        }
        // Last, since the tunnels that ended just now have left their places.
        self.open_waiting();
        self.publish_status();
    }

    fn read_mail(&mut self) {
        let orders = self.mailbox.collect(&mut self.waiting);
        if let (Drain::No | Drain::Abandoned, Some(timeout)) = (self.drain, orders.drain) {
            self.start_drain(timeout);
        }
        self.abandoned = orders.abandoned;
    }

    fn open_waiting(&mut self) {
        if self.waiting.is_empty() && !self.abandoned {
            return;
        }
        let Side::Client(_) = self.side else { return };
        let limit = self.limit();
        while !self.waiting.is_empty() && (!self.is_accepting() || self.entries.len() < limit) {
            let mut cx = Context::from_waker(&self.engine_waker);
            if self.is_accepting() && self.engine.poll_open(&mut cx).is_pending() {
                break;
            }
            let Some(open) = self.waiting.pop_front() else {
                return;
            };
            self.open(open);
        }
        self.waiting.retain(|open| {
            if open.slot.is_some() {
                open.tunnel.refuse(TunnelError::ConnectionLost(Lost::Busy));
            }
            open.slot.is_none()
        });
        if self.abandoned && matches!(self.drain, Drain::No) && self.waiting.is_empty() {
            self.drain = Drain::Abandoned;
            self.engine.drain();
            self.mailbox.bell().engine();
        }
        while self.waiting.len() > self.config.max_tunnels() as usize {
            if let Some(open) = self.waiting.pop_back() {
                open.tunnel.refuse(TunnelError::ConnectionLost(Lost::Busy));
            }
        }
    }

    fn open(&mut self, open: Open) {
        if open.tunnel.is_reset() {
            return;
        }
        if !self.is_accepting() {
            return open.tunnel.refuse(TunnelError::ConnectionLost(Lost::Drained));
        }
        match self.engine.open(open.head) {
            Ok(stream) => {
                let event = Event::TunnelOpened {
                    role: Role::Client,
                    stream: E::id(&stream),
                };
                self.config.observe(&event);
                let key = self.enter(open.tunnel, stream, Phase::Requested, open.slot);
                self.serve(key);
            }
            Err(error) => open.tunnel.refuse(TunnelError::ConnectionLost(Lost::from(&error))),
        }
    }

    fn enter(&mut self, tunnel: Arc<Tunnel>, mut stream: E::Stream, phase: Phase, slot: Option<Slot>) -> usize {
        let entry = self.entries.vacant_entry();
        let key = entry.key();
        tunnel.set_key(key);
        self.engine.name(&mut stream, key);
        // Whatever was asked of the tunnel before it had a key is served with its first turn.
        tunnel.mark_all();
        entry.insert(Entry::new(tunnel, stream, phase, slot));
        self.transport.lock().stream_opened();
        key
    }

    fn serve(&mut self, key: usize) {
        let Some(entry) = self.entries.get_mut(key) else {
            if key == Tunnel::WITHOUT_KEY {
                // Somebody gave up waiting.
                self.waiting.retain(|open| !open.tunnel.is_reset());
            }
            return;
        };
        let served = entry.serve(&mut self.engine, self.goaway);
        if served.premature_reset {
            self.transport.lock().premature_reset();
        }
        if let Some((status, reason)) = served.rejected {
            self.config.observe(&Event::TunnelRejected {
                role: self.side.role(),
                stream: E::id(entry.stream()),
                status,
                reason,
            });
        }
        self.cut |= served.connection_lost;
        if served.over {
            let entry = self.entries.remove(key);
            self.config
                .observe(&entry.closed(self.side.role(), E::id(entry.stream())));
            self.engine.forget(entry.into_stream());
        }
    }

    fn drive_engine(&mut self) {
        if matches!(self.end, Some(Ending { linger: None, .. })) {
            return;
        }
        let woken = self.mailbox.bell().begin_poll();
        loop {
            let mut cx = Context::from_waker(&self.engine_waker);
            match self.engine.poll(&mut cx, woken) {
                Poll::Pending => break,
                Poll::Ready(Progress::News(key)) => {
                    if let Some(entry) = self.entries.get(key) {
                        entry.mark(ready::ENGINE);
                        self.ready.push(key);
                    }
                }
                Poll::Ready(Progress::Turn(key)) => {
                    if let Some(entry) = self.entries.get(key) {
                        entry.mark(ready::SEND);
                        self.serve(key);
                    }
                }
                Poll::Ready(Progress::Request(head, stream)) => self.admit(&head, stream),
                Poll::Ready(Progress::Closing(result)) => {
                    if self.end.is_none() {
                        self.end_within(LINGER, result.map_err(|error| Lost::from(&error)));
                    }
                    self.tell_all();
                }
                Poll::Ready(Progress::Closed(result)) => {
                    let result = result.map_err(|error| Lost::from(&error));
                    let result = self.end.take().map_or(result, |ending| ending.result);
                    self.end = Some(Ending { result, linger: None });
                    self.tell_all();
                    break;
                }
            }
        }
        let transport = self.transport.lock();
        let offence = transport.offence();
        self.goaway = transport.goaway();
        drop(transport);
        if let (Some(offence), None) = (offence, &self.end) {
            self.fail(Lost::from(offence));
        }
    }

    /// Has every tunnel look at its stream: what came before the end of the connection comes before
    /// it here, too.
    fn tell_all(&mut self) {
        for (key, entry) in &self.entries {
            entry.mark(ready::ENGINE);
            self.ready.push(key);
        }
    }

    /// Takes a request in: hands it to whoever accepts tunnels, or answers that it is malformed.
    fn admit(&mut self, head: &http::request::Parts, stream: E::Stream) {
        let Side::Server(arrivals) = &self.side else {
            return;
        };
        let window = self.config.stream_window();
        let tunnel = Tunnel::new(Arc::clone(self.mailbox.bell()), self.config.send_buffer(), window);
        let id = E::id(&stream);
        match TunnelRequest::from_parts(head) {
            Ok(request) => {
                let arrival = Arrival {
                    tunnel: Arc::clone(&tunnel),
                    request: Box::new(request),
                };
                if arrivals.try_send(arrival).is_err() {
                    tunnel.reset(ErrorCode::REFUSED_STREAM);
                } else {
                    self.config.observe(&Event::TunnelOpened {
                        role: Role::Server,
                        stream: id,
                    });
                }
            }
            Err(rejection) => {
                tracing::debug!(stream = id, %rejection, "malformed request");
                tunnel.reject(rejection);
            }
        }
        let key = self.enter(tunnel, stream, Phase::Arrived, None);
        self.serve(key);
    }

    /// Writes what was gathered; answers whether there is more to read, for which the engine has to
    /// be polled again.
    fn flush(&mut self) -> bool {
        if self.engine.end_turn() {
            self.mailbox.bell().engine();
        }
        let mut cx = Context::from_waker(&self.engine_waker);
        let mut transport = self.transport.lock();
        let pending = transport.poll_flush_gathered(&mut cx).is_pending();
        let failure = transport.write_failure();
        let (received, sent) = (transport.received(), transport.sent());
        let is_metered = transport.end_turn();
        drop(transport);
        if let (Some(kind), None) = (failure, &self.end) {
            // What the peer sent before it closed is still on its way.
            self.end_within(self.config.patience().timeout, Err(Lost::Io(kind)));
        }
        if received != self.received || pending {
            let now = clock();
            if received != self.received {
                self.keepalive.received(now);
            }
            if pending {
                self.keepalive.waiting(now, sent != self.sent);
            }
        }
        if !pending {
            self.keepalive.flushed();
        }
        (self.received, self.sent) = (received, sent);
        is_metered
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        if let Some(stall) = self.keepalive.stall_deadline()
            && stall < self.timer.deadline().into_std()
        {
            self.set_timer(stall);
        }
        while self.timer_doze.poll(cx, |cx| self.timer.as_mut().poll(cx)).is_ready() {
            let next = self.on_time(clock());
            self.set_timer(next);
        }
    }

    fn set_timer(&mut self, at: Instant) {
        self.timer.as_mut().reset(at.into());
        self.timer_doze.rouse();
    }

    /// Does what is due at `now`; answers when to come again.
    fn on_time(&mut self, now: Instant) -> Instant {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.transport.lock().tick();
        }
        if let Some(Ending { linger, .. }) = &mut self.end {
            *linger = linger.filter(|until| now < *until);
            return linger.unwrap_or(now + LINGER);
        }
        let mut next = self.next_tick;
        match self.drain {
            Drain::Until(deadline) if now >= deadline => {
                self.fail(Lost::Drained);
                return now + LINGER;
            }
            Drain::Until(deadline) => next = next.min(deadline),
            Drain::No | Drain::Abandoned => {}
        }
        match self.keepalive.judge(now) {
            Action::Wait(until) => next.min(until),
            Action::Ping(until) => {
                self.engine.ping();
                self.mailbox.bell().engine();
                next.min(until)
            }
            Action::Close(dead) => {
                self.fail(Lost::Dead(dead));
                now + LINGER
            }
        }
    }

    fn limit(&self) -> usize {
        let ours = self.config.max_tunnels() as usize;
        ours.min(self.engine.peer_stream_limit())
    }

    fn is_draining(&self) -> bool {
        !matches!(self.drain, Drain::No) || self.goaway.is_some()
    }

    fn is_accepting(&self) -> bool {
        self.end.is_none() && !self.is_draining() && !self.engine.is_ending()
    }

    fn publish_status(&mut self) {
        let Side::Client(status) = &self.side else {
            return;
        };
        let now = Status {
            tunnels: self.entries.len() + self.waiting.len(),
            limit: self.limit(),
            accepting: self.is_accepting(),
        };
        if std::mem::replace(&mut self.published, now) != now {
            status.send_replace(now);
        }
    }
}

impl<Io, E: Engine> Drop for Driver<Io, E> {
    fn drop(&mut self) {
        if let Side::Client(status) = &self.side {
            status.send_modify(|status| (status.accepting, status.tunnels) = (false, 0));
        }
        for open in self.mailbox.close().into_iter().chain(self.waiting.drain(..)) {
            open.tunnel.refuse(TunnelError::ConnectionLost(Lost::Dropped));
        }
        for mut entry in self.entries.drain() {
            entry.lose(&mut self.engine, Lost::Dropped, ErrorCode::CANCEL, None);
        }
    }
}

/// The driver is where time enters, so that tests can pause it.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
