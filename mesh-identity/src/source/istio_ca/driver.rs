use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls_pki_types::UnixTime;

use super::{
    answer::Issued,
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
        while !desk.is_abandoned() {
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
                () = sleep_until(until) => {}
                () = desk.news() => {}
            }
        }
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
    match result {
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
        // Each answer's roots made a bundle, but all of them together do not.
        Err(error) => publisher.report(error),
    }
    if let Some(problem) = holdings.problem() {
        publisher.report(problem.clone());
    }
}
