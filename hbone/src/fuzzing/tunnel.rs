//! One side of a connection, polled by hand, against a peer and users whose acts are spelt by
//! bytes. No time passes.

mod line;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use self::line::{Ended, Line, pattern};
use self::wire::{Frame, Wire};
use crate::client::{self, Client, OpenError};
use crate::config::Config;
use crate::conn::Connection;
use crate::engine::EngineKind;
use crate::peer::Peer;
use crate::request::{TunnelRequest, TunnelResponse};
use crate::server::{self, Incoming};
use crate::stream::{ReadHalf, TunnelStream, WriteHalf};
use crate::tunnel::TunnelError;
use crate::wire::{ErrorCode, Rejection};

/// Streams of one run.
const MAX_LINES: usize = 32;

/// Tunnels of one connection at a time.
const TUNNELS: u32 = 8;

/// Bytes that a peer may send before it has heard anything.
const WINDOW: u64 = 60_000;

/// Turns after which everything has been done that can be.
const TURNS: usize = 4;

/// Turns after which a connection whose transport has ended must have ended itself.
const MAX_TURNS: usize = 1_000;

/// Runs a script with either engine.
///
/// # Panics
///
/// If a promise is broken.
pub(super) fn run(data: &[u8]) {
    for engine in [EngineKind::Tunnel, EngineKind::H2] {
        play(data, engine, Manners::Any);
    }
}

/// Runs a script with both engines, the peer's part of it as far as the protocol allows, and holds
/// one user's view of the tunnels against the other's.
///
/// # Panics
///
/// If a promise is broken, or the engines differ.
pub(super) fn compare(data: &[u8]) {
    let tunnel = play(data, EngineKind::Tunnel, Manners::Lawful);
    let h2 = play(data, EngineKind::H2, Manners::Lawful);
    assert_eq!(tunnel, h2, "the engines differ");
}

/// What the peer of a script does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// Anything.
    Any,
    /// What leaves an engine no choice: it keeps to the protocol, and each act of it is seen
    /// through before the next.
    Lawful,
}

/// What a user saw of a tunnel: its line, the bytes, and their end.
type Sight = (usize, u64, Saw);

#[derive(Debug, PartialEq, Eq)]
enum Saw {
    End,
    /// The connection was gone, however that is told.
    Loss,
    Abort(Option<TunnelError>),
}

impl Saw {
    fn of(error: &std::io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TunnelError>());
        match cause {
            Some(TunnelError::ConnectionLost(_)) => Self::Loss,
            cause => Self::Abort(cause.cloned()),
        }
    }
}

fn play(data: &[u8], engine: EngineKind, manners: Manners) -> Vec<Sight> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return Vec::new();
    };
    let mut script = Script(data);
    let role = script.byte();
    runtime.block_on(async {
        let Some(mut play) = Play::new(role.is_multiple_of(2), engine, manners).await else {
            return Vec::new();
        };
        while !script.0.is_empty() {
            play.act(&mut script);
        }
        play.end()
    })
}

/// The bytes that are left, and zeros after them.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<TunnelStream, OpenError>>>>;

/// Whose user the script plays besides the peer.
enum Side {
    Client(Client, Vec<(usize, Opening)>),
    Server(Incoming),
}

/// A tunnel in the hands of its user.
struct Held {
    line: usize,
    reader: Option<ReadHalf>,
    writer: Option<WriteHalf>,
    got: u64,
    end: Option<Saw>,
}

struct Play {
    manners: Manners,
    wire: Wire,
    connection: Option<Connection<Wire>>,
    side: Side,
    lines: Vec<Line>,
    /// Somebody gave up a tunnel that may have had no stream: lines and streams part.
    is_misnumbered: bool,
    held: Vec<Held>,
}

impl Play {
    async fn new(is_client: bool, engine: EngineKind, manners: Manners) -> Option<Self> {
        let wire = Wire::default();
        let mut config = Config::default();
        config.set_engine(engine);
        config
            .set_stream_window(16 * 1024)
            .set_send_buffer(4 * 1024)
            .set_max_tunnels(TUNNELS);
        if !is_client {
            wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        wire.frame(&Frame::settings());
        wire.allow(4 * 1024);
        let (side, connection) = match is_client {
            true => {
                let made = client::handshake(wire.clone(), Peer::unknown(), &config).await;
                let (client, connection) = made.ok()?;
                (Side::Client(client, Vec::new()), connection)
            }
            false => {
                let made = server::handshake(wire.clone(), Peer::unknown(), &config).await;
                let (incoming, connection) = made.ok()?;
                (Side::Server(incoming), connection)
            }
        };
        Some(Self {
            manners,
            wire,
            connection: Some(connection),
            side,
            lines: Vec::new(),
            is_misnumbered: false,
            held: Vec::new(),
        })
    }

    fn act(&mut self, script: &mut Script<'_>) {
        let (act, which, arg) = (script.byte(), script.byte(), script.byte());
        if self.manners == Manners::Lawful {
            self.settle();
            if !self.is_lawful(act % 16, which, arg) {
                return;
            }
        }
        match act % 16 {
            0 | 1 => self.open(arg),
            2 => self.respond(which, arg),
            3 | 4 => self.peer_data(which, arg),
            5 => self.peer_reset(which, arg),
            6 => self.peer_frame(which, |id| Frame::window_update(id, arg)),
            7 => self.raw_frame(which, arg, script),
            8 => self.turn(),
            9 => self.take(which, arg),
            10 => self.read(which, arg),
            11 => self.write(which, arg),
            12 => self.finish(which),
            13 => self.let_go(which, arg),
            14 => self.wire.allow(usize::from(arg) * 64),
            _ => self.weather(arg),
        }
    }

    /// Lets an engine do in several turns what another does in one.
    fn settle(&mut self) {
        (0..TURNS).for_each(|_| self.turn());
    }

    /// Whether the protocol allows the peer an act. Users may do anything, but the transport stays.
    fn is_lawful(&self, act: u8, which: u8, arg: u8) -> bool {
        let is_client = matches!(self.side, Side::Client(..));
        let line = usize::from(which)
            .checked_rem(self.lines.len())
            .and_then(|index| self.lines.get(index));
        match act {
            0 | 1 => self.lines.len() < TUNNELS as usize,
            2 => line.is_some_and(Line::may_respond),
            3 | 4 => {
                let sent: u64 = self.lines.iter().map(Line::sent).sum();
                sent + data_len(arg) as u64 <= WINDOW && line.is_some_and(|line| line.may_send(is_client))
            }
            5 => which != u8::MAX && line.is_some_and(|line| line.may_send(false)),
            // Small enough for any number of them.
            6 => (1..100).contains(&arg),
            7 | 15 => false,
            _ => true,
        }
    }

    /// A new stream: the peer's request, or the user's.
    fn open(&mut self, arg: u8) {
        if self.lines.len() == MAX_LINES {
            return;
        }
        let index = self.lines.len();
        let mut line = Line::new(index);
        match &mut self.side {
            Side::Server(_) => {
                let ends = arg.is_multiple_of(4);
                self.wire.frame(&Frame::request(line.id(), index, ends));
                if ends {
                    line.end();
                }
                self.lines.push(line);
            }
            Side::Client(client, openings) => {
                let Some(authority) = line::authority(index) else {
                    return;
                };
                let (client, request) = (client.clone(), TunnelRequest::new(authority));
                let mut opening: Opening = Box::pin(async move { client.open(request).await });
                // Asked for, and taken up by the driver: streams are numbered in this order, unless
                // one that waits for a place is given up.
                if self.is_misnumbered {
                    line.doubt();
                }
                if opening.as_mut().poll(&mut context()).is_pending() {
                    openings.push((index, opening));
                }
                self.lines.push(line);
                self.turn();
            }
        }
    }

    /// The peer's response.
    fn respond(&mut self, which: u8, arg: u8) {
        if let (Side::Client(..), Some(line)) = (&self.side, pick(&mut self.lines, which)) {
            let ends = arg.is_multiple_of(4);
            line.respond();
            self.wire.frame(&Frame::response(line.id(), arg % 8 == 1, ends));
            if ends {
                line.end();
            }
        }
    }

    fn peer_data(&mut self, which: u8, arg: u8) {
        let Some(line) = pick(&mut self.lines, which) else {
            return;
        };
        let ends = arg % 8 == 7;
        let payload = line.next(data_len(arg));
        self.wire.frame(&Frame::data(line.id(), &payload, ends));
        if ends {
            line.end();
        }
    }

    fn peer_reset(&mut self, which: u8, arg: u8) {
        self.peer_frame(which, |id| Frame::reset(id, arg));
        if let (Some(line), true) = (pick(&mut self.lines, which), which != u8::MAX) {
            line.reset();
        }
    }

    /// A frame of a stream, or of the connection.
    fn peer_frame(&mut self, which: u8, frame: impl FnOnce(u32) -> Frame) {
        let id = pick(&mut self.lines, which).map_or(0, |line| line.id());
        self.wire.frame(&frame(if which == u8::MAX { 0 } else { id }));
    }

    fn raw_frame(&mut self, which: u8, arg: u8, script: &mut Script<'_>) {
        let (kind, flags) = (arg % 12, script.byte());
        let payload: Vec<u8> = (0..script.byte() % 16).map(|_| script.byte()).collect();
        let id = match pick(&mut self.lines, which) {
            Some(line) if which != u8::MAX => {
                line.doubt();
                line.id()
            }
            _ => 0,
        };
        self.wire.frame(&Frame::raw(kind, flags, id, &payload));
    }

    fn turn(&mut self) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(&mut context()).is_ready()
        {
            self.connection = None;
        }
    }

    /// The user takes the next tunnel, or answers that there is none.
    fn take(&mut self, which: u8, arg: u8) {
        match &mut self.side {
            Side::Server(incoming) => {
                let accepted = std::pin::pin!(incoming.accept()).poll(&mut context());
                let Poll::Ready(Some(tunnel)) = accepted else { return };
                let line = line::of(tunnel.request().authority());
                match arg % 8 {
                    0 => tunnel.reject(Rejection::Overloaded),
                    1 => drop(tunnel),
                    _ => self.hold(line, tunnel.accept(TunnelResponse::new())),
                }
            }
            Side::Client(_, openings) if openings.is_empty() => {}
            Side::Client(client, openings) => {
                let status = client.status();
                let place = usize::from(which) % openings.len();
                let (line, mut opening) = openings.swap_remove(place);
                match opening.as_mut().poll(&mut context()) {
                    // Given up, or waited for still.
                    Poll::Pending if arg.is_multiple_of(8) => {
                        drop(opening);
                        if status.tunnels >= status.limit {
                            self.is_misnumbered = true;
                            self.lines.iter_mut().for_each(Line::doubt);
                        }
                    }
                    Poll::Pending => openings.push((line, opening)),
                    Poll::Ready(Ok(stream)) => self.hold(line, stream),
                    Poll::Ready(Err(_)) => {}
                }
            }
        }
    }

    fn hold(&mut self, line: usize, stream: TunnelStream) {
        let (reader, writer) = stream.into_split();
        self.held.push(Held {
            line,
            reader: Some(reader),
            writer: Some(writer),
            got: 0,
            end: None,
        });
    }

    fn read(&mut self, which: u8, arg: u8) {
        let Some(held) = pick(&mut self.held, which) else {
            return;
        };
        // Engines need not cut a stream in the same pieces.
        while held.read(usize::from(arg), &self.lines) && self.manners == Manners::Lawful {}
    }

    fn write(&mut self, which: u8, arg: u8) {
        let writer = pick(&mut self.held, which).and_then(|held| held.writer.as_mut());
        if let Some(writer) = writer
            && let Poll::Ready(Ok(room)) = writer.poll_ready(&mut context())
        {
            assert!(room > 0, "room for nothing");
            writer.put_chunk(Bytes::from(vec![arg; usize::from(arg) * 16]));
        }
    }

    fn finish(&mut self, which: u8) {
        let writer = pick(&mut self.held, which).and_then(|held| held.writer.as_mut());
        if let Some(Poll::Ready(Err(error))) = writer.map(|writer| writer.poll_finish(&mut context())) {
            assert!(!error.to_string().is_empty());
        }
    }

    fn let_go(&mut self, which: u8, arg: u8) {
        let Some(held) = pick(&mut self.held, which) else {
            return;
        };
        match arg % 4 {
            0 => held.reader = None,
            1 => held.writer = None,
            2 => {
                if let Some(writer) = held.writer.take() {
                    writer.reset(ErrorCode::CONNECT_ERROR);
                }
            }
            _ => (held.reader, held.writer) = (None, None),
        }
    }

    fn weather(&mut self, arg: u8) {
        match (arg, &self.side) {
            (255, _) => self.wire.close(),
            (254, _) => self.wire.fail(),
            (253, Side::Server(incoming)) => incoming.drainer().drain(),
            (253, Side::Client(client, _)) => client.drain(),
            (252, _) => self.connection = None,
            _ => {}
        }
    }

    /// The transport ends: so does everything else, and in truth. Answers what the users saw.
    fn end(mut self) -> Vec<Sight> {
        self.wire.allow(usize::MAX / 2);
        if self.manners == Manners::Lawful {
            self.settle();
        }
        self.wire.close();
        for _ in 0..MAX_TURNS {
            self.turn();
        }
        assert!(self.connection.is_none(), "the connection outlives its transport");
        for held in &mut self.held {
            while held.reader.is_some() {
                assert!(held.read(1_000, &self.lines), "a tunnel outlives its connection");
            }
        }
        self.wire.check_sent();
        self.held
            .into_iter()
            .filter_map(|held| Some((held.line, held.got, held.end?)))
            .collect()
    }
}

impl Held {
    /// Reads once, and judges it; answers whether there was anything.
    fn read(&mut self, max: usize, lines: &[Line]) -> bool {
        let (Some(reader), Some(line)) = (&mut self.reader, lines.get(self.line)) else {
            return false;
        };
        let mut room = vec![0; max.max(1)];
        let mut buf = ReadBuf::new(&mut room);
        let Poll::Ready(read) = Pin::new(reader).poll_read(&mut context(), &mut buf) else {
            return false;
        };
        let bytes = buf.filled();
        for byte in bytes {
            assert!(
                line.is_in_doubt() || *byte == pattern(self.line, self.got),
                "wrong byte"
            );
            self.got += 1;
        }
        if read.is_ok() && bytes.is_empty() {
            let whole = line.ended() == Ended::At(self.got);
            assert!(
                whole || line.is_in_doubt(),
                "an abort was shown as an end, or bytes are missing"
            );
        }
        match read {
            Ok(()) if !bytes.is_empty() => return true,
            Ok(()) => self.end = Some(Saw::End),
            Err(error) => self.end = Some(Saw::of(&error)),
        }
        self.reader = None;
        true
    }
}

fn data_len(arg: u8) -> usize {
    usize::from(arg) * usize::from(arg) % 5_000
}

fn pick<T>(items: &mut [T], which: u8) -> Option<&mut T> {
    let index = usize::from(which).checked_rem(items.len())?;
    items.get_mut(index)
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
