use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls_pki_types::UnixTime;

use super::{
    answer::{AnswerError, Issued},
    call::{CaError, Caller},
    desk::{Attendant, Desk},
    holdings::{Holdings, IdentityProblem},
    schedule::{Lifetime, Number, Step},
};
use crate::{
    outside::{now, random, sleep_until},
    source::follower::Publisher,
    spiffe_id::SpiffeId,
};

/// How long the calendar is not looked at, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The least difference between calendar and clock that is heeded. The calendar has whole seconds.
const LEAST_SLEEP: Duration = Duration::from_secs(5);

/// Does the work of an [`IstioCa`](super::IstioCa): whoever made that polls [`run`](Self::run).
pub struct CaDriver {
    desk: Attendant,
    caller: Caller,
    publisher: Publisher,
    holdings: Holdings,
}

/// How a call went, for which identity.
struct Outcome {
    number: Number,
    id: SpiffeId,
    result: Result<(Issued, UnixTime), CaError>,
}

impl CaDriver {
    pub(super) fn new(desk: Arc<Desk>, caller: Caller, publisher: Publisher, holdings: Holdings) -> Self {
        Self {
            desk: Attendant(desk),
            caller,
            publisher,
            holdings,
        }
    }

    /// Obtains and renews certificates until all handles and leases are gone.
    ///
    /// Nothing is spawned: calls take place within this future. Token and root files, which are
    /// small, are read where it is polled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the way to stop: calls are abandoned, waits for certificates end with
    /// an error, followers keep what was published last.
    pub async fn run(self) {
        let Self {
            desk,
            caller,
            publisher,
            mut holdings,
        } = self;
        let desk = &desk.0;
        let mut calls = FuturesUnordered::new();
        let mut changed = false;
        let mut sleep = Sleep::new(&caller);
        while !desk.is_abandoned() {
            if let Some(span) = sleep.slept_through(&caller) {
                desk.skip(span, now());
            }
            let until = match desk.next(now()) {
                (Step::Call { number, id }, _) => {
                    calls.push(obtain(&caller, number, id));
                    continue;
                }
                (Step::Withdraw(number), wanted) => {
                    if wanted {
                        holdings.withdraw(number);
                    } else {
                        holdings.forget(number);
                    }
                    changed = true;
                    continue;
                }
                (Step::Wait(until), _) => until,
            };
            if std::mem::take(&mut changed) {
                publish(&publisher, &mut holdings);
            }
            tokio::select! {
                Some(outcome) = calls.next() => changed |= settle(desk, &publisher, &mut holdings, outcome),
                () = sleep_until(until.map(|until| until.min(now() + LONGEST_WAIT))) => {}
                () = desk.news() => {}
            }
        }
    }
}

/// How far the calendar and the clock that drives timers have gone apart. The latter stands still
/// while a machine sleeps; certificates expire nonetheless.
struct Sleep {
    began: Option<(UnixTime, Instant)>,
}

impl Sleep {
    fn new(caller: &Caller) -> Self {
        let began = caller.config.clock.current_time().map(|today| (today, now()));
        Self { began }
    }

    /// The time that has passed by the calendar only, unless that is little.
    fn slept_through(&mut self, caller: &Caller) -> Option<Duration> {
        let (today, now) = (caller.config.clock.current_time()?, now());
        let (first_day, began) = *self.began.get_or_insert((today, now));
        let by_calendar = Duration::from_secs(today.as_secs().saturating_sub(first_day.as_secs()));
        let span = by_calendar.checked_sub(now.saturating_duration_since(began))?;
        (span >= LEAST_SLEEP).then(|| {
            self.began = Some((today, now));
            span
        })
    }
}

async fn obtain(caller: &Caller, number: Number, id: SpiffeId) -> Outcome {
    let result = caller.obtain(&id).await;
    Outcome { number, id, result }
}

/// Takes note of how a call went. Answers whether there is something to publish.
fn settle(desk: &Desk, publisher: &Publisher, holdings: &mut Holdings, outcome: Outcome) -> bool {
    let Outcome { number, id, result } = outcome;
    let now = now();
    let fitting = result.and_then(|(issued, judged_at)| {
        holdings.check(number, &issued).map_err(AnswerError::Roots)?;
        Ok((issued, judged_at))
    });
    match fitting {
        Ok((issued, judged_at)) => {
            let lifetime = Lifetime::of(issued.svid.not_after(), judged_at, random());
            let svid = Arc::clone(&issued.svid);
            let wanted = desk.settle(
                number,
                |schedule| schedule.issued(number, lifetime, now),
                |standing| standing.svid = Some(svid),
            );
            if wanted {
                holdings.hold(number, issued);
            }
            wanted
        }
        Err(error) => {
            let error = Arc::new(error);
            let wanted = desk.settle(
                number,
                |schedule| schedule.failed(number, now, random()),
                |standing| {
                    standing.failures += 1;
                    standing.failure = Some(Arc::clone(&error));
                },
            );
            if wanted {
                let problem = IdentityProblem { id, error };
                publisher.report(problem.clone());
                holdings.fail(number, problem);
            }
            false
        }
    }
}

fn publish(publisher: &Publisher, holdings: &mut Holdings) {
    match holdings.snapshot() {
        Ok(snapshot) => publisher.publish(snapshot),
        // Every answer was checked with the others, and what does not fit must not stay in use.
        Err(error) => return publisher.withdraw(error),
    }
    if let Some(problem) = holdings.problem() {
        publisher.report(problem.clone());
    }
}
