//! What a request and its answer have moved so far.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::body::{Body, BodyError};
use crate::proxy::plain::PlainProgress;

#[derive(Default)]
pub(super) struct Progress {
    pub(super) bytes: PlainProgress,
    /// Whether all of the request is here.
    is_whole: AtomicBool,
    wanted: Mutex<Wanted>,
}

/// Whether the rest of a request is wanted.
enum Wanted {
    /// By whoever is to hear of the opposite.
    Yes(Option<Waker>),
    No,
}

impl Progress {
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// There is no use for the rest of the request any more: whoever still reads it, for an endpoint
    /// that has the request, gets an error.
    pub(super) fn end(&self) {
        let before = std::mem::replace(&mut *self.lock(), Wanted::No);
        if let Wanted::Yes(Some(waker)) = before {
            waker.wake();
        }
    }

    /// Counts what the client sends, for as long as it is wanted.
    pub(super) fn counting(self: &Arc<Self>, body: Body) -> Body {
        if body.is_end_stream() {
            self.is_whole.store(true, Ordering::Relaxed);
            return body;
        }
        Body::new(Counted {
            body,
            progress: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Yes(None)
    }
}

/// The content of a request.
struct Counted {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, progress } = &mut *self;
        if matches!(*progress.lock(), Wanted::No) {
            return Poll::Ready(Some(Err(BodyError::Unwanted)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                progress.bytes.count_to_server(data.len());
            }
            if frame.is_none() || body.is_end_stream() {
                progress.is_whole.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame);
        }
        match &mut *progress.lock() {
            Wanted::Yes(waker) => {
                let known = waker.take().filter(|waker| waker.will_wake(cx.waker()));
                *waker = known.or_else(|| Some(cx.waker().clone()));
                Poll::Pending
            }
            Wanted::No => Poll::Ready(Some(Err(BodyError::Unwanted))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::task::{JoinSet, yield_now};

    use super::*;
    use crate::waypoint::body::whole;

    /// A client that sends one byte, and then nothing.
    struct Stalled(bool);

    impl HttpBody for Stalled {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            match std::mem::replace(&mut self.0, true) {
                false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a"))))),
                true => Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_is_wanted() {
        let progress = Arc::new(Progress::default());
        let body = progress.counting(Body::new(Stalled(false)));
        let mut reading = JoinSet::new();
        reading.spawn(body.collect());
        while progress.bytes.to_server() == 0 {
            yield_now().await;
        }
        progress.end();
        let ended = reading.join_next().await.unwrap().unwrap();
        assert!(matches!(ended, Err(BodyError::Unwanted)));
        assert!(!progress.is_whole());
    }

    #[tokio::test]
    async fn what_is_whole_is_known_as_that() {
        for body in [whole("abc"), whole("")] {
            let progress = Arc::new(Progress::default());
            let read = progress.counting(body).collect().await.unwrap();
            assert_eq!(progress.bytes.to_server(), read.to_bytes().len() as u64);
            assert!(progress.is_whole());
        }
    }
}
