//! Requests under way on one connection, and the end of those on which nothing moves.
//!
//! Who sends no more of a request, or takes no more of its answer, is not waited for without end:
//! neither is polled then, so that somebody else has to look. An answer that is all written may still
//! wait for its client; that is seen by the connection's backlog. What HTTP/2 has been given waits for
//! its client's window instead, unseen: the last byte is given by itself, for which there has to be
//! room.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Response, Version};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::account::Account;
use super::backlog::Backlog;
use super::body::{Body, BodyError};
use super::progress::Progress;

/// How often is looked in the time for which nothing may move.
const LOOKS: u32 = 4;

/// Bytes that HTTP/2 may be given at once though nobody knows whether its client takes them, as few as
/// any socket would.
const UNSEEN: usize = 1024;

/// The requests of a connection.
pub(super) struct Streams {
    /// For how long nothing may move.
    patience: Option<Duration>,
    open: Mutex<Vec<Watched>>,
    pub(super) backlog: Arc<Backlog>,
}

/// A request and its answer.
pub(super) struct Stream {
    is_http2: bool,
    pub(super) progress: Arc<Progress>,
    answer: Mutex<Answer>,
    is_given_up: Notify,
}

#[derive(Default)]
struct Answer {
    /// Once there is one, until it is given up.
    content: Option<Answering>,
    /// The last byte of what came last, which follows by itself.
    rest: Bytes,
    /// It was given out, and nobody has asked for more since: there may be no room for it.
    is_rest_out: bool,
    /// Who waits for more of it.
    waker: Option<Waker>,
}

struct Answering {
    body: Body,
    account: Account,
}

struct Watched {
    stream: Weak<Stream>,
    /// What had moved when that was last new, and when that was; none yet.
    seen: Option<(Moved, Instant)>,
    is_given_up: bool,
}

/// Bytes both ways, and whether there is an answer.
type Moved = (u64, u64, bool);

impl Streams {
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self {
            patience,
            open: Mutex::default(),
            backlog: Arc::default(),
        }
    }

    /// A request has come.
    pub(super) fn open(&self, version: Version) -> Arc<Stream> {
        let stream = Arc::new(Stream {
            is_http2: version == Version::HTTP_2,
            progress: Arc::default(),
            answer: Mutex::default(),
            is_given_up: Notify::new(),
        });
        if self.patience.is_some() {
            let watched = Watched {
                stream: Arc::downgrade(&stream),
                seen: None,
                is_given_up: false,
            };
            let mut open = self.lock();
            match open.iter_mut().find(|watched| watched.stream.strong_count() == 0) {
                Some(place) => *place = watched,
                None => open.push(watched),
            }
        }
        stream
    }

    /// Gives requests up on which nothing moves for too long. Ends when one of them stays open all the
    /// same, or when nothing that was written is taken: only the connection can be ended then.
    pub(super) async fn stuck(&self) {
        let Some(patience) = self.patience else {
            return std::future::pending().await;
        };
        let mut waits: Option<(u64, Instant)> = None;
        loop {
            sleep(patience / LOOKS).await;
            let now = Instant::now();
            if self.look(patience, now) {
                return;
            }
            waits = match (self.backlog.waiting(), waits) {
                (Some(taken), Some((seen, since))) if taken == seen => {
                    if now.duration_since(since) >= patience {
                        return;
                    }
                    waits
                }
                (taken, _) => taken.map(|taken| (taken, now)),
            };
        }
    }

    fn look(&self, patience: Duration, now: Instant) -> bool {
        let mut open = self.lock();
        open.retain(|watched| watched.stream.strong_count() > 0);
        open.iter_mut().any(|watched| watched.look(patience, now))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Whether the stream was given up, and is still there.
    fn look(&mut self, patience: Duration, now: Instant) -> bool {
        let Some(stream) = self.stream.upgrade() else {
            return false;
        };
        let moved = stream.moved();
        match self.seen {
            Some((seen, since)) if seen == moved => {
                if self.is_given_up {
                    return true;
                }
                if now.duration_since(since) >= patience {
                    self.is_given_up = true;
                    stream.give_up(patience);
                    // That is no movement.
                    self.seen = Some((stream.moved(), now));
                }
            }
            _ => {
                self.seen = Some((moved, now));
                self.is_given_up = false;
            }
        }
        false
    }
}

impl Stream {
    /// Waits until the stream is given up that has no answer yet.
    pub(super) async fn given_up(&self) {
        self.is_given_up.notified().await;
    }

    /// Sends an answer, and tells the request when that has ended.
    pub(super) fn answer(self: Arc<Self>, response: Response<Body>, account: Account) -> Response<Told> {
        response.map(|body| {
            self.lock().content = Some(Answering { body, account });
            Told(Content::Told(self))
        })
    }

    fn moved(&self) -> Moved {
        let bytes = &self.progress.bytes;
        (bytes.to_client(), bytes.to_server(), self.lock().content.is_some())
    }

    fn give_up(&self, patience: Duration) {
        let (content, waker) = {
            let mut answer = self.lock();
            (answer.content.take(), answer.waker.take())
        };
        match content {
            // Whoever looks for one hears of it.
            None => self.is_given_up.notify_one(),
            Some(Answering { mut account, .. }) => {
                account.fail("SI", format!("nothing moved for {} s", patience.as_secs_f32()));
                account.tell();
            }
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut answer = self.lock();
        let Answer {
            content,
            rest,
            is_rest_out,
            waker,
        } = &mut *answer;
        let Some(Answering { body, account }) = content else {
            return Poll::Ready(Some(Err(BodyError::Idle)));
        };
        *is_rest_out = !rest.is_empty();
        if *is_rest_out {
            let frame = Some(Ok(Frame::data(std::mem::take(rest))));
            account.hear(frame.as_ref());
            return Poll::Ready(frame);
        }
        let Poll::Ready(mut frame) = Pin::new(&mut *body).poll_frame(cx) else {
            let known = waker.take().filter(|waker| waker.will_wake(cx.waker()));
            *waker = known.or_else(|| Some(cx.waker().clone()));
            return Poll::Pending;
        };
        let data = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.data_mut());
        let is_last = body.size_hint().lower() == 0;
        if let Some(data) = data.filter(|data| self.is_http2 && is_last && data.len() > UNSEEN) {
            *rest = data.split_off(data.len() - 1);
        }
        account.hear(frame.as_ref());
        Poll::Ready(frame)
    }

    fn lock(&self) -> MutexGuard<'_, Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Whether nothing more of it can come.
    fn is_whole(&self) -> bool {
        let is_over = |content: &Answering| content.body.is_end_stream();
        self.rest.is_empty() && !self.is_rest_out && self.content.as_ref().is_some_and(is_over)
    }

    fn size_hint(&self) -> SizeHint {
        let content = self.content.as_ref().map(|content| content.body.size_hint());
        let (mut hint, rest) = (content.unwrap_or_default(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

/// An answer whose end is told.
pub(super) struct Told(Content);

enum Content {
    /// The request goes on, and is told by somebody else.
    Untold(Body),
    Told(Arc<Stream>),
}

impl Told {
    /// An answer whose request goes on.
    pub(super) fn untold(response: Response<Body>) -> Response<Self> {
        response.map(|body| Self(Content::Untold(body)))
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Content::Untold(body) => Pin::new(body).poll_frame(cx),
            Content::Told(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Untold(body) => body.is_end_stream(),
            Content::Told(stream) => stream.lock().is_whole(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Untold(body) => body.size_hint(),
            Content::Told(stream) => stream.lock().size_hint(),
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let Content::Told(stream) = &self.0 else {
            return;
        };
        let mut answer = stream.lock();
        let is_whole = answer.is_whole();
        let content = answer.content.take();
        drop(answer);
        // Who sees that nothing comes does not ask again.
        if let Some(Answering { mut account, .. }) = content.filter(|_| is_whole) {
            account.hear(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::waypoint::backlog;

    const PATIENCE: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn a_request_on_which_nothing_moves_is_given_up() {
        let streams = Streams::new(Some(PATIENCE));
        let (idle, busy) = (streams.open(Version::HTTP_11), streams.open(Version::HTTP_11));
        let began = Instant::now();
        let moving = async {
            loop {
                sleep(PATIENCE / 2).await;
                busy.progress.bytes.count_to_server(1);
            }
        };
        tokio::select! {
            () = idle.given_up() => {}
            () = busy.given_up() => panic!("given up though it moves"),
            () = streams.stuck() => panic!("stuck though nobody was given up before"),
            () = moving => {}
        }
        let waited = began.elapsed();
        assert!((PATIENCE..2 * PATIENCE).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_stuck_by_who_stays_when_it_was_given_up() {
        let streams = Streams::new(Some(PATIENCE));
        let stream = streams.open(Version::HTTP_11);
        timeout(3 * PATIENCE, streams.stuck()).await.unwrap();
        drop(stream);
        let streams = Streams::new(Some(PATIENCE));
        let stream = streams.open(Version::HTTP_11);
        let gone = async {
            stream.given_up().await;
            drop(stream);
        };
        let stuck = timeout(100 * PATIENCE, streams.stuck());
        assert!(tokio::join!(gone, stuck).1.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_everybody_waits() {
        let streams = Streams::new(None);
        let stream = streams.open(Version::HTTP_11);
        let ended = timeout(100 * PATIENCE, async {
            tokio::select! {
                () = stream.given_up() => {}
                () = streams.stuck() => {}
            }
        });
        assert!(ended.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_stuck_by_what_is_not_taken() {
        let streams = Streams::new(Some(PATIENCE));
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = backlog::Watched::new(near, Arc::clone(&streams.backlog));
        let slow = async {
            near.write_all(b"slow").await.unwrap();
            for _ in 0..8 {
                sleep(PATIENCE / 2).await;
                let taken = async { far.read_exact(&mut [0; 1]).await };
                let (written, _) = tokio::join!(near.write_all(b"s"), taken);
                written.unwrap();
            }
            near.write_all(b"not taken").await
        };
        let began = Instant::now();
        tokio::select! {
            _ = slow => panic!("taken"),
            () = streams.stuck() => {}
        }
        let waited = began.elapsed();
        assert!((5 * PATIENCE..7 * PATIENCE).contains(&waited), "{waited:?}");
    }

    #[test]
    fn streams_that_have_ended_take_no_room() {
        let streams = Streams::new(Some(PATIENCE));
        for _ in 0..1_000 {
            drop((streams.open(Version::HTTP_11), streams.open(Version::HTTP_11)));
        }
        assert_eq!(streams.lock().len(), 2);
    }
}
