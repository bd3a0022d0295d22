use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use prost::Message;
use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

#[cfg(feature = "jwt")]
use super::jwt::JwtBundlesError;
use super::{
    channel::{Channel, Consequence, RpcError},
    retry::Backoff,
    wire::Empty,
    x509::{MessageError, SvidFault},
};
use crate::svid::SvidError;

/// The longest wait for a stream's first message, which servers have to send at once (SPIFFE
/// Workload API §4.2).
const FIRST_MESSAGE: Duration = Duration::from_secs(15);
/// The longest sleep until something expires: clocks are set, and machines wake up late.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What becomes of a stream's messages. Each is complete and replaces the one before it.
pub(super) trait Feed {
    type Message: Message + Default + 'static;
    const PATH: &'static str;

    /// Puts a message in the place of the one before, or leaves that.
    fn take(&mut self, message: &Self::Message, now: UnixTime) -> Result<(), StreamError>;

    /// Says why there is nothing newer.
    fn report(&mut self, problem: StreamError);

    /// Takes everything back.
    fn withdraw(&mut self, reason: StreamError);

    /// Drops what is past its time.
    fn expire(&mut self, now: UnixTime);

    /// The last second of what expires next.
    fn expires(&self) -> Option<UnixTime>;
}

/// Where streams come from, and the time and the randomness they need.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) channel: Channel,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) clock: Arc<dyn TimeProvider>,
}

impl Link {
    /// What the clock shows, if it can be read.
    pub(super) fn now(&self) -> Option<UnixTime> {
        self.clock.current_time()
    }

    fn random(&self) -> u32 {
        let mut bytes = [0; 4];
        match self.provider.secure_random.fill(&mut bytes) {
            Ok(()) => u32::from_ne_bytes(bytes),
            Err(_) => u32::MAX / 2,
        }
    }
}

/// Keeps a stream open, again and again, and feeds `feed` by it. Ends only when the server says
/// that there is no such stream, and then when nothing is left that could expire; what has no end of
/// its own is taken back.
pub(super) async fn follow<F: Feed>(mut feed: F, link: Link) {
    let mut backoff = Backoff::default();
    loop {
        let failure = attend(&mut feed, &link, &mut backoff).await;
        match failure.consequence() {
            Consequence::Retry => feed.report(failure),
            Consequence::Withdraw => feed.withdraw(failure),
            Consequence::GiveUp => {
                feed.report(failure.clone());
                while feed.expires().is_some() {
                    meanwhile(&mut feed, &link, sleep(LONGEST_SLEEP)).await;
                }
                // Nobody would say any more that a bundle is not to be believed.
                feed.withdraw(failure);
                return;
            }
        }
        let pause = backoff.pause(link.random());
        meanwhile(&mut feed, &link, sleep(pause)).await;
    }
}

/// Opens a stream and takes its messages until it fails.
///
/// A message that says nothing sensible is reported and the stream stays: asking again at once
/// would get the same one. One that is ahead of its time is asked for again, since the server has no
/// reason to repeat it. That a stream is silent after its first message is no failure, since
/// nothing may have changed; the connection below it is probed.
async fn attend<F: Feed>(feed: &mut F, link: &Link, backoff: &mut Backoff) -> StreamError {
    let timed_out = RpcError::Timeout { after: FIRST_MESSAGE }.into();
    let deadline = Instant::now() + FIRST_MESSAGE;
    let opening = timeout_at(deadline, link.channel.stream::<Empty, F::Message>(F::PATH, Empty {}));
    let mut stream = match meanwhile(feed, link, opening).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(failure)) => return failure.into(),
        Err(_) => return timed_out,
    };
    let Ok(mut next) = meanwhile(feed, link, timeout_at(deadline, stream.message())).await else {
        return timed_out;
    };
    loop {
        match next {
            Ok(Some(message)) => {
                let now = link.now().ok_or(StreamError::NoClock);
                match now.and_then(|now| feed.take(&message, now)) {
                    Ok(()) => backoff.reset(),
                    Err(problem) if problem.heals_with_time() => return problem,
                    Err(problem) => feed.report(problem),
                }
            }
            Ok(None) => return RpcError::Ended.into(),
            Err(status) => return RpcError::from(status).into(),
        }
        next = meanwhile(feed, link, stream.message()).await;
    }
}

/// Waits for `done`, and lets expire what expires until then.
async fn meanwhile<F: Feed, T>(feed: &mut F, link: &Link, done: impl Future<Output = T>) -> T {
    let mut done = pin!(done);
    loop {
        let mut next = LONGEST_SLEEP;
        if let Some(now) = link.now() {
            feed.expire(now);
            // What is valid in its last second is not in the next.
            let left = |expires: UnixTime| Duration::from_secs(expires.as_secs().saturating_sub(now.as_secs()) + 1);
            next = feed.expires().map_or(next, left).min(next);
        }
        tokio::select! {
            biased;
            value = &mut done => return value,
            () = sleep(next) => {}
        }
    }
}

/// Why a stream of the Workload API gives nothing newer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The stream fails.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// A message of the X.509 stream was not taken.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message of the JWT bundles stream was not taken.
    #[cfg(feature = "jwt")]
    #[error(transparent)]
    JwtBundles(#[from] JwtBundlesError),
    /// The clock could not be read, by which a message is judged. It is asked for again.
    #[error("the clock could not be read")]
    NoClock,
    /// An SVID expired, and the server sent no other.
    #[error("an svid expired and was not renewed")]
    NotRenewed,
}

impl StreamError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Rpc(error) => error.consequence(),
            _ => Consequence::Retry,
        }
    }

    /// Whether the same message will do later: the clock may be behind the server's, or not there yet.
    fn heals_with_time(&self) -> bool {
        matches!(
            self,
            Self::NoClock
                | Self::Message(MessageError::Svid {
                    fault: SvidFault::Svid(SvidError::NotYetValid { .. }),
                    ..
                })
        )
    }
}
