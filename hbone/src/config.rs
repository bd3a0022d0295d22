//! Limits, windows and deadlines of a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::EngineKind;
use crate::keepalive::Patience;
use crate::observe::{Event, Observer};
use crate::timers::Timers;

/// Largest window that HTTP/2 can express (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Limits, windows and deadlines of a connection, the same for a client and a server.
///
/// Every default is safe against a hostile peer. The memory that a peer can make a connection
/// hold is at most [`stream_window`](Self::set_stream_window) and twice
/// [`send_buffer`](Self::set_send_buffer) bytes for each tunnel, and 1 MiB for the connection.
/// Bytes that nobody reads may each keep up to four times their length of the buffers that they
/// arrived in.
///
/// ```
/// use std::time::Duration;
///
/// let mut config = hbone::Config::default();
/// config.set_max_tunnels(100).set_response_timeout(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct Config {
    stream_window: u32,
    max_frame_size: u32,
    max_header_list: u32,
    max_tunnels: u32,
    send_buffer: usize,
    handshake_timeout: Duration,
    response_timeout: Duration,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    stall_timeout: Duration,
    drain_timeout: Duration,
    observer: Option<Arc<dyn Observer>>,
    timers: Timers,
    engine: EngineKind,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stream_window: 512 * 1024,
            max_frame_size: 64 * 1024,
            max_header_list: 16 * 1024,
            max_tunnels: 200,
            send_buffer: 256 * 1024,
            handshake_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(15),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
            observer: None,
            timers: Timers::default(),
            engine: EngineKind::default(),
        }
    }
}

impl Config {
    /// Bytes that a peer may have under way on one tunnel before this side has read them.
    ///
    /// Default 512 KiB; clamped to 16 KiB..=16 MiB. One tunnel carries at most this much for each
    /// round trip: 512 KiB are 4 Gbit/s at 1 ms and 80 Mbit/s at 50 ms. A larger window lets bulk
    /// tunnels delay the small messages of their neighbours by as much as it holds.
    ///
    /// The window of the connection is this times the [tunnels](Self::set_max_tunnels) it may
    /// carry, so that tunnels that nobody reads never take window from the others. Where that is
    /// more than the 2 GiB that HTTP/2 can express, each tunnel gets its share of those.
    pub fn set_stream_window(&mut self, bytes: u32) -> &mut Self {
        self.stream_window = bytes.clamp(16 * 1024, 16 * 1024 * 1024);
        self
    }

    /// Largest frame that a peer may send (SETTINGS_MAX_FRAME_SIZE, RFC 9113 §6.5.2).
    ///
    /// Default 64 KiB; clamped to 16 KiB..=1 MiB. The frame is the turn that a tunnel takes on
    /// the wire, so large frames make bulk data cheaper and its neighbours slower.
    pub fn set_max_frame_size(&mut self, bytes: u32) -> &mut Self {
        self.max_frame_size = bytes.clamp(16 * 1024, 1024 * 1024);
        self
    }

    /// Largest request or response head, counted as RFC 9113 §6.5.2 does.
    ///
    /// Default 16 KiB; clamped to 1 KiB..=64 KiB.
    pub fn set_max_header_list(&mut self, bytes: u32) -> &mut Self {
        self.max_header_list = bytes.clamp(1024, 64 * 1024);
        self
    }

    /// Tunnels that one connection carries at a time.
    ///
    /// A server announces it and refuses what is above it with REFUSED_STREAM; a client opens no
    /// more than this and no more than its peer allows. Default 200; clamped to 1..=10,000.
    pub fn set_max_tunnels(&mut self, tunnels: u32) -> &mut Self {
        self.max_tunnels = tunnels.clamp(1, 10_000);
        self
    }

    /// Bytes that one tunnel accepts from its user beyond those that its peer has given it window
    /// for, and bytes with window that wait for the wire.
    ///
    /// Default 256 KiB; clamped to 4 KiB..=16 MiB.
    pub fn set_send_buffer(&mut self, bytes: usize) -> &mut Self {
        self.send_buffer = bytes.clamp(4 * 1024, 16 * 1024 * 1024);
        self
    }

    /// Time for each step of making a connection: TCP, TLS, and the HTTP/2 preface with the first
    /// SETTINGS. Default 10 s.
    pub fn set_handshake_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Time from asking for a tunnel to its response. A server gives a handler the same time to
    /// answer. Default 15 s, more than the 10 s that common peers give their own dial.
    pub fn set_response_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.response_timeout = timeout;
        self
    }

    /// Silence after which a PING is sent, unless output waits for the peer. Any received byte ends
    /// the silence, and so does output that was stuck and moves again. Default 10 s.
    pub fn set_keepalive_interval(&mut self, interval: Duration) -> &mut Self {
        self.keepalive_interval = interval;
        self
    }

    /// Silence beyond the interval after which the connection is given up. Default 10 s.
    pub fn set_keepalive_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Time that output may wait while the peer accepts none of it. Default 30 s.
    pub fn set_stall_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.stall_timeout = timeout;
        self
    }

    /// Time that open tunnels are given to end when a connection drains. Default 5 s.
    pub fn set_drain_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.drain_timeout = timeout;
        self
    }

    /// Who is told what happens. Default: nobody.
    pub fn set_observer(&mut self, observer: Arc<dyn Observer>) -> &mut Self {
        self.observer = Some(observer);
        self
    }

    /// What connections keep their deadlines with, once they are established. Default: the timers of
    /// the runtime that each was made in.
    pub fn set_timers(&mut self, timers: Timers) -> &mut Self {
        self.timers = timers;
        self
    }

    /// Chooses the implementation of HTTP/2, for tests that hold one against the other.
    pub(crate) fn set_engine(&mut self, engine: EngineKind) {
        self.engine = engine;
    }

    pub(crate) fn engine(&self) -> EngineKind {
        self.engine
    }

    pub(crate) fn stream_window(&self) -> u32 {
        self.stream_window.min(MAX_WINDOW / self.max_tunnels)
    }

    pub(crate) fn connection_window(&self) -> u32 {
        self.stream_window() * self.max_tunnels
    }

    pub(crate) fn max_frame_size(&self) -> u32 {
        self.max_frame_size
    }

    pub(crate) fn max_header_list(&self) -> u32 {
        self.max_header_list
    }

    pub(crate) fn max_tunnels(&self) -> u32 {
        self.max_tunnels
    }

    pub(crate) fn send_buffer(&self) -> usize {
        self.send_buffer
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    pub(crate) fn response_timeout(&self) -> Duration {
        self.response_timeout
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    pub(crate) fn patience(&self) -> Patience {
        Patience {
            interval: self.keepalive_interval,
            timeout: self.keepalive_timeout,
            stall: self.stall_timeout,
        }
    }

    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }

    pub(crate) fn observe(&self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer.event(event);
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("stream_window", &self.stream_window)
            .field("max_frame_size", &self.max_frame_size)
            .field("max_header_list", &self.max_header_list)
            .field("max_tunnels", &self.max_tunnels)
            .field("send_buffer", &self.send_buffer)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("keepalive_interval", &self.keepalive_interval)
            .field("keepalive_timeout", &self.keepalive_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}
