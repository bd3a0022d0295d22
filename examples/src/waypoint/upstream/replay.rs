use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::waypoint::body::{Body, BodyError};

/// What a chunk counts beside its bytes, so that many small ones are not kept for free.
const CHUNK_COST: usize = 64;

/// Of how much of an attempt's time an endpoint must have had all but one part to be late: the rest of
/// a request that comes at the last moment leaves it no time.
const CLIENTS_SHARE: u32 = 10;

/// A request's body, which can be sent again for as long as all of it that was read is kept.
#[derive(Clone)]
pub(super) struct Replay(Option<Arc<Tape>>);

/// A body of one attempt: what is kept, and then what is still to come. Only the latest attempt's
/// reads on; one that was given up ends with an error.
pub(super) struct Outgoing {
    tape: Option<Arc<Tape>>,
    attempt: u32,
    /// Chunks that were read from the tape.
    played: usize,
    bytes: u64,
    is_done: bool,
}

/// All of a body.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

/// Why an attempt gets no more of the body.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlayError {
    #[error(transparent)]
    Client(#[from] BodyError),
    #[error("given up for another attempt")]
    Superseded,
    #[error("beginning of the body is not kept")]
    Lost,
}

struct Tape {
    bound: usize,
    size: SizeHint,
    state: Mutex<State>,
}

struct State {
    /// What is still to come; `None` when all was read, or reading failed.
    source: Option<Body>,
    attempt: u32,
    kept: Vec<Bytes>,
    /// What the kept chunks count.
    cost: usize,
    /// How much was read, kept or not.
    read: u64,
    trailers: Option<HeaderMap>,
    is_lost: bool,
    has_failed: bool,
    /// Whether an attempt waits for the client.
    is_awaited: bool,
    /// When one last had to.
    waited: Option<Instant>,
    /// Who wants the whole body once it is there.
    taps: Vec<oneshot::Sender<Whole>>,
}

impl Replay {
    /// A body of which up to `bound` bytes are kept.
    pub(super) fn new(body: Body, bound: usize) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Arc::new(Tape {
            bound,
            size: body.size_hint(),
            state: Mutex::new(State {
                source: Some(body),
                attempt: 0,
                kept: Vec::new(),
                cost: 0,
                read: 0,
                trailers: None,
                is_lost: false,
                has_failed: false,
                is_awaited: false,
                waited: None,
                taps: Vec::new(),
            }),
        })))
    }

    /// The body for another attempt. What an earlier one still reads ends. If not all of it can be
    /// sent, reading it fails.
    pub(super) fn play(&self) -> Outgoing {
        let attempt = self.0.as_ref().map_or(0, |tape| {
            let mut state = tape.lock();
            state.attempt += 1;
            state.attempt
        });
        Outgoing {
            tape: self.0.clone(),
            attempt,
            played: 0,
            bytes: 0,
            is_done: false,
        }
    }

    /// Whether another attempt would send all of it.
    pub(super) fn can_be_played(&self) -> bool {
        self.0.as_ref().is_none_or(|tape| {
            let state = tape.lock();
            !state.is_lost && !state.has_failed
        })
    }

    /// Takes the body back from an attempt, which reads no more of it. `false` if another one could
    /// not send all of it: then nothing is taken.
    ///
    /// What was sent of an attempt goes on by itself, also after an answer that is not wanted: it would
    /// read on, beyond what is kept, for as long as it takes until the next one begins.
    pub(super) fn take_back(&self) -> bool {
        self.0.as_ref().is_none_or(|tape| {
            let mut state = tape.lock();
            let is_whole = !state.is_lost && !state.has_failed;
            state.attempt += u32::from(is_whole);
            is_whole
        })
    }

    /// Whether all of it was read.
    pub(super) fn is_read(&self) -> bool {
        self.0.as_ref().is_none_or(|tape| tape.lock().source.is_none())
    }

    /// Whether the client took more than a [tenth](CLIENTS_SHARE) of the time of an attempt that began
    /// then, or has still not sent all.
    pub(super) fn is_late(&self, began: Instant) -> bool {
        self.0.as_ref().is_some_and(|tape| {
            let state = tape.lock();
            let waited = state.waited.map(|waited| waited.saturating_duration_since(began));
            state.is_awaited || waited.is_some_and(|waited| waited > began.elapsed() / CLIENTS_SHARE)
        })
    }

    /// Whether the client did not send all of it.
    pub(super) fn has_failed(&self) -> bool {
        self.0.as_ref().is_some_and(|tape| tape.lock().has_failed)
    }

    /// The whole body, once it was read. Fails if it is too large, or is never read to its end.
    pub(super) fn tap(&self) -> oneshot::Receiver<Whole> {
        let (tap, whole) = oneshot::channel();
        match &self.0 {
            None => give(
                tap,
                Whole {
                    chunks: Vec::new(),
                    trailers: None,
                },
            ),
            Some(tape) => {
                let mut state = tape.lock();
                match state.whole() {
                    Some(whole) => give(tap, whole),
                    None if state.is_lost || state.has_failed => {}
                    None => state.taps.push(tap),
                }
            }
        }
        whole
    }
}

impl From<Whole> for Replay {
    fn from(whole: Whole) -> Self {
        let Whole { chunks, trailers } = whole;
        if chunks.is_empty() && trailers.is_none() {
            return Self(None);
        }
        let size = match trailers {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(chunks.iter().map(|chunk| chunk.len() as u64).sum()),
        };
        Self(Some(Arc::new(Tape {
            bound: usize::MAX,
            size,
            state: Mutex::new(State {
                source: None,
                attempt: 0,
                kept: chunks,
                cost: 0,
                read: 0,
                trailers,
                is_lost: false,
                has_failed: false,
                is_awaited: false,
                waited: None,
                taps: Vec::new(),
            }),
        })))
    }
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn whole(&self) -> Option<Whole> {
        let is_whole = self.source.is_none() && !self.is_lost && !self.has_failed;
        is_whole.then(|| Whole {
            chunks: self.kept.clone(),
            trailers: self.trailers.clone(),
        })
    }

    /// Reads on, and keeps what there is room for.
    fn read(&mut self, bound: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(source).poll_frame(cx);
        if std::mem::replace(&mut self.is_awaited, polled.is_pending()) {
            self.waited = Some(Instant::now());
        }
        let frame = std::task::ready!(polled);
        match &frame {
            None => self.end(),
            Some(Err(_)) => {
                self.has_failed = true;
                self.source = None;
                self.forget();
            }
            Some(Ok(frame)) => {
                if let Some(chunk) = frame.data_ref() {
                    self.read += chunk.len() as u64;
                    self.keep(chunk, bound);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                }
                let is_over = self.source.as_ref().is_some_and(|source| source.is_end_stream());
                if is_over || self.trailers.is_some() {
                    self.end();
                }
            }
        }
        Poll::Ready(frame)
    }

    fn keep(&mut self, chunk: &Bytes, bound: usize) {
        if self.is_lost || chunk.is_empty() {
            return;
        }
        self.cost = self.cost.saturating_add(chunk.len()).saturating_add(CHUNK_COST);
        if self.cost > bound.saturating_add(CHUNK_COST) {
            self.is_lost = true;
            self.forget();
        } else {
            self.kept.push(chunk.clone());
        }
    }

    fn end(&mut self) {
        self.source = None;
        let Some(whole) = self.whole() else {
            return;
        };
        for tap in std::mem::take(&mut self.taps) {
            give(tap, whole.clone());
        }
    }

    fn forget(&mut self) {
        self.kept = Vec::new();
        self.taps = Vec::new();
    }
}

fn give(tap: oneshot::Sender<Whole>, whole: Whole) {
    // Whoever wanted it may have been given up.
    drop(tap.send(whole));
}

impl Outgoing {
    fn frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PlayError>>> {
        let Some(tape) = &self.tape else {
            return Poll::Ready(None);
        };
        let mut state = tape.lock();
        if state.attempt != self.attempt || (state.has_failed && !self.is_done) {
            return Poll::Ready(Some(Err(PlayError::Superseded)));
        }
        if state.is_lost {
            if self.bytes != state.read {
                return Poll::Ready(Some(Err(PlayError::Lost)));
            }
        } else {
            if let Some(chunk) = state.kept.get(self.played) {
                self.played += 1;
                return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
            }
            if state.source.is_none() && !self.is_done {
                self.is_done = true;
                return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
            }
        }
        let frame = std::task::ready!(state.read(tape.bound, cx));
        // What was just read is on the tape, if it is kept.
        self.played = state.kept.len();
        self.is_done = state.source.is_none();
        Poll::Ready(frame.map(|frame| frame.map_err(PlayError::Client)))
    }
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = PlayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PlayError>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(self.frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(chunk) = frame.data_ref()
        {
            self.bytes += chunk.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let Some(tape) = &self.tape else {
            return true;
        };
        self.is_done || {
            let state = tape.lock();
            let is_read = state.source.is_none() && !state.is_lost && !state.has_failed;
            is_read && state.trailers.is_none() && self.played >= state.kept.len()
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(tape) = &self.tape else {
            return SizeHint::with_exact(0);
        };
        match tape.size.exact() {
            Some(all) => SizeHint::with_exact(all.saturating_sub(self.bytes)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    /// Chunks, and trailers behind them.
    struct Source(VecDeque<Frame<Bytes>>);

    impl hyper::body::Body for Source {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn body(chunks: &[Vec<u8>], has_trailers: bool) -> Body {
        let trailers = || HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        let chunks = chunks.iter().map(|chunk| Frame::data(Bytes::copy_from_slice(chunk)));
        let trailers = has_trailers.then(|| Frame::trailers(trailers()));
        Body::new(Source(chunks.chain(trailers).collect()))
    }

    async fn read(outgoing: Outgoing) -> (Vec<u8>, bool) {
        let collected = outgoing.collect().await.unwrap();
        let has_trailers = collected.trailers().is_some();
        (collected.to_bytes().to_vec(), has_trailers)
    }

    proptest! {
        #[test]
        fn each_attempt_sends_all_or_none_can(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            has_trailers in any::<bool>(),
            bound in 0_usize..400,
            given_up in prop::collection::vec(0_usize..8, 0..4),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let replay = Replay::new(body(&chunks, has_trailers), bound);
                let mut whole = replay.tap();
                for frames in given_up {
                    let mut outgoing = replay.play();
                    for _ in 0..frames {
                        drop(poll_fn(|cx| Pin::new(&mut outgoing).poll_frame(cx)).await);
                    }
                }
                let cost: usize = chunks.iter().filter(|chunk| !chunk.is_empty()).map(|chunk| chunk.len() + CHUNK_COST).sum();
                let fits = cost <= bound + CHUNK_COST;
                if replay.can_be_played() {
                    let sent = read(replay.play()).await;
                    assert_eq!(sent, (chunks.concat(), has_trailers));
                    assert_eq!(replay.can_be_played(), fits);
                    match whole.try_recv() {
                        Ok(whole) => assert_eq!(read(Replay::from(whole).play()).await, (chunks.concat(), has_trailers)),
                        Err(_) => assert!(!fits),
                    }
                } else {
                    assert!(!fits && !replay.take_back());
                    assert!(matches!(replay.play().collect().await, Err(PlayError::Lost)));
                }
            });
        }
    }

    #[tokio::test]
    async fn what_was_taken_back_is_read_no_further() {
        let replay = Replay::new(body(&vec![vec![b'x'; 100]; 10], false), 500);
        let mut first = replay.play();
        assert!(poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.unwrap().is_ok());
        assert!(replay.take_back());
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await {}
        assert_eq!(read(replay.play()).await.0.len(), 1_000);
        assert!(!replay.take_back());
    }

    #[tokio::test]
    async fn what_cannot_be_taken_back_goes_on() {
        let replay = Replay::new(body(&vec![vec![b'x'; 100]; 10], false), 500);
        let mut first = replay.play();
        for _ in 0..8 {
            assert!(poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.unwrap().is_ok());
        }
        assert!(!replay.take_back());
        assert_eq!(read(first).await.0.len(), 200);
    }

    #[tokio::test]
    async fn an_attempt_that_was_given_up_takes_nothing_from_the_next() {
        let replay = Replay::new(body(&[b"one".to_vec(), b"two".to_vec()], false), 1_000);
        let mut first = replay.play();
        assert!(poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.unwrap().is_ok());
        let second = replay.play();
        let end = poll_fn(|cx| Pin::new(&mut first).poll_frame(cx)).await.unwrap();
        assert!(matches!(end, Err(PlayError::Superseded)));
        assert_eq!(read(second).await.0, b"onetwo");
    }

    #[tokio::test]
    async fn lengths_are_those_of_what_is_still_to_come() {
        let replay = Replay::new(crate::waypoint::body::whole("four"), 1_000);
        for _ in 0..2 {
            let mut outgoing = replay.play();
            assert_eq!(
                (outgoing.size_hint().exact(), outgoing.is_end_stream()),
                (Some(4), false)
            );
            assert!(
                poll_fn(|cx| Pin::new(&mut outgoing).poll_frame(cx))
                    .await
                    .unwrap()
                    .is_ok()
            );
            assert_eq!(
                (outgoing.size_hint().exact(), outgoing.is_end_stream()),
                (Some(0), true)
            );
        }
        assert!(Replay::new(crate::waypoint::body::whole(""), 0).play().is_end_stream());
    }
}
