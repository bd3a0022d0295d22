use std::time::Duration;

use thiserror::Error;

use super::{
    endpoint::{Endpoint, EndpointId},
    load::InFlight,
    member::Member,
    set::{EndpointSet, Part},
};
use crate::chance::{Draws, mix};

/// How often the algorithm is asked before any endpoint will do.
const ASKED: u64 = 8;

/// What a request asks of its endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    hash: Option<u64>,
    avoided: &'a [EndpointId],
    leaves: bool,
}

impl<'a> Ask<'a> {
    /// Nothing in particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where it belongs, for [`Algorithm::Affinity`](super::Algorithm::Affinity): an
    /// [`AffinityKey`](super::AffinityKey)'s hash, or any other number that is uniform in all bits.
    #[must_use]
    pub fn hash(mut self, hash: Option<u64>) -> Self {
        self.hash = hash;
        self
    }

    /// Which endpoints have failed it already. They get it again only if no other would, not even one
    /// of a level that gets nothing otherwise. This is more than Envoy and Istio do: those draw five
    /// times among the endpoints that get requests.
    #[must_use]
    pub fn avoid(mut self, endpoints: &'a [EndpointId]) -> Self {
        self.avoided = endpoints;
        self
    }

    /// Whether the whole levels of those that are [avoided](Self::avoid) are, too: their other
    /// endpoints get it only if no other level has one that would. If there is no other level, this asks
    /// for nothing. Envoy's `envoy.retry_priorities.previous_priorities` does so. Default: no.
    #[must_use]
    pub fn leave_levels(mut self, leaves: bool) -> Self {
        self.leaves = leaves;
        self
    }
}

/// An endpoint that gets a request.
#[derive(Debug)]
pub struct Picked<'a, T> {
    member: &'a Member<T>,
}

impl<'a, T> Picked<'a, T> {
    /// The endpoint.
    pub fn endpoint(&self) -> &'a Endpoint<T> {
        &self.member.endpoint
    }

    /// What names it over updates of the set.
    pub fn id(&self) -> EndpointId {
        self.member.id
    }

    /// The request is on its way, and counts from now on.
    pub fn begin(&self, now: Duration) -> InFlight {
        self.member.load.begin(now)
    }
}

/// No endpoint can be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoEndpoint {
    /// The set is empty.
    #[error("there are no endpoints")]
    Empty,
    /// No endpoint is healthy, and panic is off.
    #[error("no endpoint is healthy")]
    Unhealthy,
    /// All endpoints were refused.
    #[error("no endpoint takes requests")]
    Refused,
}

impl<T> EndpointSet<T> {
    /// The endpoint for a request.
    ///
    /// # Errors
    ///
    /// There is none that may be asked: a 503, or UNAVAILABLE in gRPC.
    pub fn pick(&self, ask: Ask<'_>, now: Duration, random: u64) -> Result<Picked<'_, T>, NoEndpoint> {
        self.pick_if(ask, now, random, |_| true)
    }

    /// The same among endpoints that `admit` takes. It is asked about endpoints that are about to be
    /// picked, and the first for which it says yes is: it may hand out the one probe that an
    /// endpoint on probation gets. One that it refuses it may be asked about again.
    ///
    /// # Errors
    ///
    /// As for [`pick`](Self::pick), or all were refused.
    pub fn pick_if(
        &self,
        ask: Ask<'_>,
        now: Duration,
        random: u64,
        mut admit: impl FnMut(&Endpoint<T>) -> bool,
    ) -> Result<Picked<'_, T>, NoEndpoint> {
        let mut draws = Draws::new(random);
        let left = self.left(ask);
        let asked = if left.is_empty() { ASKED } else { 0 };
        for attempt in 0..asked {
            // Another attempt has another hash, the same for each request of that hash.
            let hash = ask
                .hash
                .map(|hash| if attempt == 0 { hash } else { mix(hash ^ attempt) });
            let Some(member) = self.choose(hash, now, &mut draws) else {
                break;
            };
            if !ask.avoided.contains(&member.id) && admit(&member.endpoint) {
                return Ok(Picked { member });
            }
        }
        self.any(ask, &left, &mut draws, admit)
    }

    fn choose(&self, hash: Option<u64>, now: Duration, draws: &mut Draws) -> Option<&Member<T>> {
        let part = self.part(hash, draws)?;
        let (all, _) = part.pools.last()?;
        let pool = match &*part.pools {
            [(_, pool)] => pool,
            pools => {
                let drawn = hash.map_or_else(|| draws.next(), |hash| mix(!hash)) % all.max(&1);
                &pools.iter().find(|(upto, _)| drawn < *upto)?.1
            }
        };
        let chosen = pool.choose(&self.members, &self.balance, hash, now, draws)?;
        self.members.get(chosen as usize)
    }

    fn part(&self, hash: Option<u64>, draws: &mut Draws) -> Option<&Part> {
        if let [part] = &*self.parts {
            return Some(part);
        }
        let percent = hash.map_or_else(|| draws.next(), mix) % 100;
        self.parts.iter().find(|part| percent < u64::from(part.upto))
    }

    /// Whoever is left: first those who have not failed the request, and of them the better parts
    /// before levels that get nothing otherwise.
    #[cold]
    fn any(
        &self,
        ask: Ask<'_>,
        left: &[u32],
        draws: &mut Draws,
        mut admit: impl FnMut(&Endpoint<T>) -> bool,
    ) -> Result<Picked<'_, T>, NoEndpoint> {
        if self.members.is_empty() {
            return Err(NoEndpoint::Empty);
        }
        if self.pools().all(<[u32]>::is_empty) {
            return Err(NoEndpoint::Unhealthy);
        }
        for wanted in [Merit::Fresh, Merit::Left, Merit::Failed] {
            let merit = |member: &Member<T>| match ask.avoided.contains(&member.id) {
                true => Merit::Failed,
                false if left.contains(&member.endpoint.priority) => Merit::Left,
                false => Merit::Fresh,
            };
            for group in self.groups() {
                let first = draws.below(group.len() as u32) as usize;
                let (late, early) = group.split_at(first);
                for member in early.iter().chain(late).filter_map(|at| self.members.get(*at as usize)) {
                    if merit(member) == wanted && admit(&member.endpoint) {
                        return Ok(Picked { member });
                    }
                }
            }
        }
        Err(NoEndpoint::Refused)
    }

    /// Those with a part of the requests.
    fn pools(&self) -> impl Iterator<Item = &[u32]> {
        let pools = self.parts.iter().flat_map(|part| &part.pools);
        pools.map(|(_, pool)| &*pool.members)
    }

    /// Those, and whoever is left.
    fn groups(&self) -> impl Iterator<Item = &[u32]> {
        self.pools().chain(self.spare.iter().map(|group| &**group))
    }

    /// The levels that a request leaves; none, if nobody of another could get it.
    fn left(&self, ask: Ask<'_>) -> Vec<u32> {
        if !ask.leaves {
            return Vec::new();
        }
        let avoided = self.members.iter().filter(|member| ask.avoided.contains(&member.id));
        let left: Vec<u32> = avoided.map(|member| member.endpoint.priority).collect();
        let mut all = self.groups().flatten();
        let is_elsewhere = |member: &Member<T>| !left.contains(&member.endpoint.priority);
        if all.any(|at| self.members.get(*at as usize).is_some_and(is_elsewhere)) {
            left
        } else {
            Vec::new()
        }
    }
}

/// How an endpoint suits a request that has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merit {
    Fresh,
    /// Its level is one that the request leaves.
    Left,
    Failed,
}
