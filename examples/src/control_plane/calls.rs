//! The calls of one connection: a connection that nobody calls on is not kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::Status;

/// Time for somebody new to bring a token: whoever has none could take all the places.
const LOGIN: Duration = Duration::from_secs(10);

/// Time without a call of somebody who brought a token before.
const IDLE: Duration = Duration::from_secs(300);

/// Time for a call to end with its token: whoever takes no bytes does not let it.
const GRACE: Duration = Duration::from_secs(1);

/// The calls of a connection that were let in.
#[derive(Clone)]
pub(super) struct Calls {
    count: watch::Sender<Count>,
    /// Each call's end with its token. They stop with the connection.
    ends: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    open: usize,
    has_begun: bool,
    /// A call has outlived its token.
    is_overdue: bool,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            count: watch::Sender::new(Count::default()),
            ends: Arc::default(),
        }
    }

    /// A call that was let in until `withdrawn`, and that is to be dropped then.
    pub(super) fn begin(&self, withdrawn: impl Future<Output = ()> + Send + 'static) -> Call {
        self.count.send_modify(|count| {
            count.open += 1;
            count.has_begun = true;
        });
        let count = self.count.clone();
        let end = async move {
            withdrawn.await;
            sleep(GRACE).await;
            count.send_modify(|count| count.is_overdue = true);
        };
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        while ends.try_join_next().is_some() {}
        Call {
            count: self.count.clone(),
            end: ends.spawn(end),
        }
    }

    /// Waits until nobody has called for so long that nobody will, or a call does not end with its
    /// token.
    pub(super) async fn abandoned(&self) {
        let mut count = self.count.subscribe();
        loop {
            let Count {
                open,
                has_begun,
                is_overdue,
            } = *count.borrow_and_update();
            if is_overdue {
                return;
            }
            let patience = if has_begun { IDLE } else { LOGIN };
            // The sender is `self`, so it is there.
            if open > 0 {
                drop(count.changed().await);
            } else if timeout(patience, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A call that is under way.
pub(super) struct Call {
    count: watch::Sender<Count>,
    end: AbortHandle,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end.abort();
        self.count.send_modify(|count| count.open -= 1);
    }
}

/// What whoever called hears at the end of their token.
pub(super) fn withdrawn() -> Status {
    Status::unauthenticated("the bearer token is not valid any more")
}

/// What a call is answered with, for as long as whoever called may hear it.
pub(super) struct Reply {
    /// `None`: the last has been said.
    body: Option<tonic::body::Body>,
    withdrawn: Pin<Box<dyn Future<Output = ()> + Send>>,
    _call: Call,
}

impl Reply {
    /// An answer that ends with the token.
    pub(super) fn new(
        body: tonic::body::Body,
        withdrawn: Pin<Box<dyn Future<Output = ()> + Send>>,
        call: Call,
    ) -> Self {
        Self {
            body: Some(body),
            withdrawn,
            _call: call,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if this.withdrawn.as_mut().poll(cx).is_pending() {
            return Pin::new(body).poll_frame(cx);
        }
        this.body = None;
        let mut trailers = HeaderMap::new();
        let told = withdrawn().add_header(&mut trailers);
        Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_left_when_no_call_comes_or_is_open() {
        let (calls, begun) = (Calls::new(), Instant::now());
        calls.abandoned().await;
        assert_eq!(begun.elapsed(), LOGIN);

        let begun = Instant::now();
        let caller = async {
            let (first, second) = (calls.begin(pending()), calls.begin(pending()));
            sleep(IDLE * 10).await;
            drop(first);
            sleep(IDLE * 10).await;
            drop(second);
            sleep(IDLE / 2).await;
            drop(calls.begin(pending()));
        };
        tokio::join!(calls.abandoned(), caller);
        assert_eq!(begun.elapsed(), IDLE * 21 + IDLE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_left_when_a_call_does_not_end_with_its_token() {
        let (calls, begun) = (Calls::new(), Instant::now());
        let _kept = calls.begin(sleep(LOGIN));
        drop(calls.begin(sleep(Duration::ZERO)));
        calls.abandoned().await;
        assert_eq!(begun.elapsed(), LOGIN + GRACE);
    }
}
