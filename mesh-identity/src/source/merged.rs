use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use thiserror::Error;

use super::{
    follower::{Follower, Problem, Publisher, Source, State},
    snapshot::Snapshot,
};
use crate::{bundle::TrustBundles, spiffe_id::SpiffeId};

/// Several sources as one, in order of precedence: such as an identity from a certificate
/// authority, with roots that an operator put into files.
///
/// - **Identities** are those of all sources; of several with the same SPIFFE ID the first source's.
///   The default is the first source's default.
/// - **Bundles** are never merged. A trust domain belongs to the first source that knows it, whether
///   by a bundle, an empty one included, or as an alias; what later sources say about it is passed
///   over. Aliases of a later source for what an earlier one calls an alias are left out.
/// - **Nothing is published** until every source has published, and those whose identities are taken
///   have had something, so that no half of a configuration is ever in use. A source of bundles may
///   have none yet, as a federation before its first fetch.
/// - **A source that withdraws** what it published, or has no identity or no bundle left where those
///   are taken and it had some, withdraws all: no other one fills the gap, since it might still say
///   what has just been taken back.
/// - **A source that ends** leaves what it last published. Its problem, and that of a source that
///   cannot renew, is this source's problem.
#[derive(Debug)]
pub struct MergedSource {
    publisher: Arc<Publisher>,
}

/// What a [`MergedSource`] takes from one of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Identities, and bundles with their aliases.
    All,
    /// Identities only.
    Identities,
    /// Bundles with their aliases only.
    Trust,
}

impl MergedSource {
    /// What these sources say together, the first one with precedence, and the future that has to
    /// be polled for their changes to arrive. It completes when all of them have ended.
    #[must_use = "no change arrives unless the future is polled"]
    pub fn new(
        parts: impl IntoIterator<Item = (Share, Follower)>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let publisher = Arc::new(Publisher::new());
        let mut merge = Merge::new(parts);
        merge.publish(&publisher);
        let source = Self {
            publisher: Arc::clone(&publisher),
        };
        let driver = async move {
            while merge.changed().await {
                merge.publish(&publisher);
            }
        };
        (source, driver)
    }
}

impl Source for MergedSource {
    fn follow(&self) -> Follower {
        self.publisher.follow()
    }
}

struct Merge {
    parts: Vec<Part>,
    /// The generations that were last published.
    published: Vec<u64>,
}

struct Part {
    share: Share,
    follower: Follower,
    has_ended: bool,
}

impl Merge {
    fn new(parts: impl IntoIterator<Item = (Share, Follower)>) -> Self {
        let parts = parts.into_iter().map(|(share, follower)| Part {
            share,
            follower,
            has_ended: false,
        });
        Self {
            parts: parts.collect(),
            published: Vec::new(),
        }
    }

    /// Waits for news of any part; false when there can be no more.
    async fn changed(&mut self) -> bool {
        let mut waits: Vec<_> = self
            .parts
            .iter_mut()
            .filter(|part| !part.has_ended)
            .map(|part| {
                Box::pin(async {
                    part.has_ended = part.follower.changed().await.is_err();
                }) as Pin<Box<dyn Future<Output = ()> + Send + '_>>
            })
            .collect();
        if waits.is_empty() {
            return false;
        }
        poll_fn(|cx| {
            let arrived = waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready());
            if arrived { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        true
    }

    fn publish(&mut self, publisher: &Publisher) {
        let states: Vec<_> = self
            .parts
            .iter()
            .map(|part| (part.share, part.follower.state()))
            .collect();
        let problem = states.iter().find_map(|(_, state)| state.problem.clone());
        let generations: Vec<_> = states.iter().map(|(_, state)| state.generation).collect();
        let published = std::mem::replace(&mut self.published, generations);
        if published != self.published && states.iter().all(|(share, state)| has_come(*share, state)) {
            if states.iter().any(|(share, state)| is_withdrawn(*share, state)) {
                return withdraw(publisher, problem);
            }
            publisher.publish(merge(&states));
        }
        if let Some(problem) = problem {
            publisher.report(problem);
        }
    }
}

/// Whether what a part is for has been there.
fn has_come(share: Share, state: &State) -> bool {
    let ever = state.ever;
    state.generation > 0
        && match share {
            Share::All => ever.identity || ever.bundle,
            Share::Identities => ever.identity,
            Share::Trust => true,
        }
}

/// Whether a part has nothing left of what it had. What others have does not count in its place.
fn is_withdrawn(share: Share, State { snapshot, ever, .. }: &State) -> bool {
    let identities = ever.identity && snapshot.is_empty();
    let bundles = ever.bundle && !snapshot.has_bundles();
    match share {
        Share::All => identities || bundles,
        Share::Identities => identities,
        Share::Trust => bundles,
    }
}

fn withdraw(publisher: &Publisher, problem: Option<Problem>) {
    match problem {
        Some(problem) => publisher.withdraw(problem),
        None => publisher.withdraw(PartWithdrawn),
    }
}

/// The parts in order of precedence as one.
fn merge(parts: &[(Share, State)]) -> Snapshot {
    let mut ids: HashSet<&SpiffeId> = HashSet::new();
    let svids: Vec<_> = parts
        .iter()
        .filter(|(share, _)| *share != Share::Trust)
        .flat_map(|(_, state)| state.snapshot.svids())
        .filter(|svid| ids.insert(svid.id()))
        .cloned()
        .collect();
    let trust = parts
        .iter()
        .filter(|(share, _)| *share != Share::Identities)
        .fold(TrustBundles::default(), |trust, (_, part)| {
            trust.or(part.snapshot.trust())
        });
    Snapshot::new(svids, Arc::new(trust))
}

/// One of several sources took back what it had published, and did not say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("one of the merged sources withdrew what it had published")]
struct PartWithdrawn;
