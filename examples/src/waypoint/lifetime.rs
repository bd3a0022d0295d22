//! The end of connections for bytes, which say by nothing that they have one.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::proxy::plain::PlainProgress;
use crate::proxy::traffic::Failure;

/// How often is looked in the time for which nothing may move.
const LOOKS: u32 = 4;

/// How long a connection may last, and for how long nothing may move on it; `None` is without end.
#[derive(Clone, Copy)]
pub(super) struct Lifetime {
    pub(super) age: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl Lifetime {
    /// Waits until it is over for a connection that begins now, and tells why.
    pub(super) async fn over(self, progress: &PlainProgress) -> Failure {
        tokio::select! {
            () = wait(self.age) => Failure { flags: "DT", reason: told("open for", self.age) },
            () = still(self.idle, progress) => Failure { flags: "SI", reason: told("nothing moved for", self.idle) },
        }
    }
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until nothing has moved for so long, or up to a look longer.
async fn still(time: Option<Duration>, progress: &PlainProgress) {
    let moved = || (progress.to_client(), progress.to_server());
    let (mut seen, mut since) = (moved(), Instant::now());
    loop {
        wait(time.map(|time| time / LOOKS)).await;
        let now = moved();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if time.is_some_and(|time| since.elapsed() >= time) {
            return;
        }
    }
}

fn told(what: &str, time: Option<Duration>) -> String {
    format!("{what} {} s", time.unwrap_or_default().as_secs_f32())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_over() {
        let lifetime = Lifetime {
            age: None,
            idle: Some(HOUR),
        };
        let (progress, began) = (PlainProgress::default(), Instant::now());
        let moving = async {
            for _ in 0..4 {
                sleep(HOUR / 2).await;
                progress.count_to_client(1);
                sleep(HOUR / 2).await;
                progress.count_to_server(1);
            }
            std::future::pending::<()>().await;
        };
        let failure = tokio::select! {
            failure = lifetime.over(&progress) => failure,
            () = moving => unreachable!(),
        };
        assert_eq!((failure.flags, &*failure.reason), ("SI", "nothing moved for 3600 s"));
        let waited = began.elapsed();
        assert!((5 * HOUR..6 * HOUR).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_when_it_is_old() {
        let lifetime = Lifetime {
            age: Some(HOUR),
            idle: None,
        };
        let began = Instant::now();
        let failure = lifetime.over(&PlainProgress::default()).await;
        assert_eq!((failure.flags, &*failure.reason), ("DT", "open for 3600 s"));
        assert_eq!(began.elapsed(), HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn without_bounds_it_is_never_over() {
        let lifetime = Lifetime { age: None, idle: None };
        let progress = PlainProgress::default();
        assert!(timeout(1_000 * HOUR, lifetime.over(&progress)).await.is_err());
    }
}
