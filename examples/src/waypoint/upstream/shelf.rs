use std::error::Error as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use tokio::sync::watch;

use super::clock::Clock;
use super::dial::DialError;
use super::error::Fault;
use super::replay::Outgoing;
use super::site::SiteId;
use super::tasks::Tasks;
use super::terms::Terms;
use super::wire::{Count, Quay};

/// Idle connections of HTTP/1.1 to one endpoint, for one worker.
const MOST_IDLE: usize = 128;

/// A worker's connections to one endpoint.
pub(super) struct Shelf {
    pub(super) quay: Arc<Quay>,
    life: Weak<u64>,
    stock: Mutex<Stock>,
}

#[derive(Default)]
struct Stock {
    /// Those of HTTP/1.1 that carry nothing, the one that did last at the end.
    idle: Vec<(One, Duration)>,
    /// All of HTTP/2.
    shared: Vec<Two>,
    /// One of HTTP/2 that is being made.
    making: Option<watch::Receiver<Option<Arc<DialError>>>>,
    /// What the rule said last.
    idle_timeout: Option<Duration>,
    is_closed: bool,
}

/// A connection of HTTP/1.1.
pub(super) struct One {
    sender: http1::SendRequest<Outgoing>,
    count: Arc<Count>,
    made: Duration,
    requests: u32,
}

/// A connection of HTTP/2.
struct Two {
    sender: http2::SendRequest<Outgoing>,
    count: Arc<Count>,
    made: Duration,
    requests: u32,
    streams: Arc<AtomicU32>,
    /// When it was last given out.
    used: Duration,
}

/// A connection, or a part of one, for one exchange.
pub(super) enum Lease {
    /// All of a connection.
    One(One, Arc<Shelf>),
    /// A stream of one.
    Two(Stream),
}

/// A place for a stream on a connection of HTTP/2.
pub(super) struct Stream {
    sender: http2::SendRequest<Outgoing>,
    count: Arc<Count>,
    streams: Arc<AtomicU32>,
    quay: Arc<Quay>,
    is_used: bool,
}

/// What is to be done about a connection of HTTP/2.
pub(super) enum Make {
    /// It is being made: this tells how that ends.
    Wait(watch::Receiver<Option<Arc<DialError>>>),
    /// Nobody else makes one.
    Do(Making),
}

/// Makes a connection for all who wait for it.
pub(super) struct Making {
    shelf: Arc<Shelf>,
    tell: watch::Sender<Option<Arc<DialError>>>,
}

impl Shelf {
    pub(super) fn new(id: &SiteId) -> Self {
        Self {
            quay: Arc::default(),
            life: id.life(),
            stock: Mutex::default(),
        }
    }

    /// An idle connection of HTTP/1.1 that is ready for a request.
    pub(super) fn take(self: &Arc<Self>, terms: &Terms, now: Duration) -> Option<Lease> {
        let mut stock = self.lock();
        stock.idle_timeout = terms.idle_timeout;
        let mut busy = Vec::new();
        let found = loop {
            let Some((one, since)) = stock.idle.pop() else {
                break None;
            };
            if one.sender.is_closed() || one.is_worn(terms, now) || is_over(since, terms.idle_timeout, now) {
                continue;
            }
            if one.sender.is_ready() {
                break Some(one);
            }
            busy.push((one, since));
        };
        stock.idle.extend(busy.into_iter().rev());
        found.map(|one| Lease::One(one, Arc::clone(self)))
    }

    /// Tells those who wait for a connection when one is ready that was answered on before its request
    /// had ended.
    pub(super) fn watch(self: &Arc<Self>, tasks: &Tasks, clock: Clock) {
        let is_busy = |(one, _): &mut (One, Duration)| !one.sender.is_ready();
        let busy: Vec<_> = self.lock().idle.extract_if(.., is_busy).collect();
        for (mut one, _) in busy {
            let shelf = Arc::clone(self);
            tasks.start(async move {
                if one.sender.ready().await.is_ok() {
                    shelf.put(one, clock.now());
                }
            });
        }
    }

    /// A stream on a connection of HTTP/2 that has room for one.
    pub(super) fn share(self: &Arc<Self>, terms: &Terms, now: Duration) -> Option<Lease> {
        let mut stock = self.lock();
        stock.idle_timeout = terms.idle_timeout;
        stock
            .shared
            .retain(|two| !two.sender.is_closed() && !two.is_worn(terms, now));
        let two = stock
            .shared
            .iter_mut()
            .filter(|two| two.streams.load(Ordering::Relaxed) < terms.streams)
            .min_by_key(|two| two.streams.load(Ordering::Relaxed))?;
        two.requests = two.requests.saturating_add(1);
        two.used = now;
        two.streams.fetch_add(1, Ordering::Relaxed);
        Some(Lease::Two(Stream {
            sender: two.sender.clone(),
            count: Arc::clone(&two.count),
            streams: Arc::clone(&two.streams),
            quay: Arc::clone(&self.quay),
            is_used: two.requests > 1,
        }))
    }

    /// Who makes another connection of HTTP/2: one at a time does.
    pub(super) fn make(self: &Arc<Self>) -> Make {
        let mut stock = self.lock();
        if let Some(making) = &stock.making {
            return Make::Wait(making.clone());
        }
        let (tell, made) = watch::channel(None);
        stock.making = Some(made);
        Make::Do(Making {
            shelf: Arc::clone(self),
            tell,
        })
    }

    /// Drops what has been idle for too long, or is of an endpoint that nobody asks for any more.
    /// Whether anything is left.
    pub(super) fn tidy(&self, now: Duration) -> bool {
        let is_there = self.life.strong_count() > 0;
        let mut stock = self.lock();
        let idle_timeout = stock.idle_timeout;
        stock
            .idle
            .retain(|(one, since)| is_there && !one.sender.is_closed() && !is_over(*since, idle_timeout, now));
        stock.shared.retain(|two| {
            let is_used = two.streams.load(Ordering::Relaxed) > 0;
            let is_idle = !is_used && is_over(two.used, idle_timeout, now);
            is_there && !two.sender.is_closed() && !is_idle
        });
        is_there || !self.quay.is_empty()
    }

    /// Drops all that carry nothing, and takes none back.
    pub(super) fn close(&self) {
        let mut stock = self.lock();
        stock.is_closed = true;
        stock.idle.clear();
        stock.shared.clear();
    }

    fn put(&self, one: One, now: Duration) {
        let mut stock = self.lock();
        if stock.idle.len() < MOST_IDLE && !stock.is_closed && !one.sender.is_closed() {
            stock.idle.push((one, now));
        }
        drop(stock);
        self.quay.free();
    }

    fn lock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    pub(super) fn new(sender: http1::SendRequest<Outgoing>, count: Arc<Count>, made: Duration) -> Self {
        Self {
            sender,
            count,
            made,
            requests: 0,
        }
    }

    fn is_worn(&self, terms: &Terms, now: Duration) -> bool {
        self.requests >= terms.requests_per_connection || is_over(self.made, terms.age, now)
    }
}

impl Two {
    fn is_worn(&self, terms: &Terms, now: Duration) -> bool {
        self.requests >= terms.requests_per_connection || is_over(self.made, terms.age, now)
    }
}

impl Making {
    /// There it is.
    pub(super) fn made(self, sender: http2::SendRequest<Outgoing>, count: Arc<Count>, now: Duration) {
        self.shelf.lock().shared.push(Two {
            sender,
            count,
            made: now,
            requests: 0,
            streams: Arc::default(),
            used: now,
        });
        self.shelf.quay.open();
    }

    /// There is none, for all who wait.
    pub(super) fn failed(self, error: &Arc<DialError>) {
        self.tell.send_replace(Some(Arc::clone(error)));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.shelf.lock().making = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.quay.free();
    }
}

impl Lease {
    /// Sends a request, and waits for the head of its answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the request is given up: its stream is reset, or its connection closed.
    pub(super) async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Fault> {
        match self {
            Self::One(one, _) => {
                let before = one.count.taken();
                one.requests = one.requests.saturating_add(1);
                let sent = one.sender.try_send_request(request).await;
                sent.map_err(|error| {
                    if one.count.taken() == before {
                        return Fault::ResetBeforeRequest;
                    }
                    unsent(error)
                })
            }
            Self::Two(stream) => stream.sender.try_send_request(request).await.map_err(unsent),
        }
    }

    /// Whether its connection has carried other requests before.
    pub(super) fn is_used(&self) -> bool {
        match self {
            Self::One(one, _) => one.requests > 1,
            Self::Two(stream) => stream.is_used,
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Two(_))
    }

    pub(super) fn count(&self) -> &Arc<Count> {
        match self {
            Self::One(one, _) => &one.count,
            Self::Two(stream) => &stream.count,
        }
    }

    /// The exchange is over, on both sides.
    pub(super) fn give_back(self, now: Duration) {
        if let Self::One(one, shelf) = self {
            shelf.put(one, now);
        }
    }
}

/// Why a request has no answer, and whether it may have been taken.
fn unsent(mut error: TrySendError<Request<Outgoing>>) -> Fault {
    if error.take_message().is_some() {
        return Fault::ResetBeforeRequest;
    }
    let error = error.into_error();
    let h2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    match h2 {
        // By a GOAWAY only streams end that are above its last one, and so were not processed
        // (RFC 9113 §6.8).
        Some(h2) if h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM)) => {
            Fault::Refused
        }
        Some(_) => Fault::Reset(error),
        None if error.is_parse() => Fault::Garbled(error),
        None => Fault::Reset(error),
    }
}

fn is_over(since: Duration, limit: Option<Duration>, now: Duration) -> bool {
    limit.is_some_and(|limit| now.saturating_sub(since) >= limit)
}
