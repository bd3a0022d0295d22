use std::time::Duration;

use thiserror::Error;

use super::{
    bucket::{Allowance, Bucket, Limit, Limited},
    keyed::{Key, KeyedBuckets},
    policy::{LimitKey, LocalLimit},
};
use crate::{facts::Facts, traffic::header::first_line};

/// The limits of a policy for one of its targets, with what has been counted.
///
/// Limits for single clients are asked before those for all. Any number of threads may ask, and nothing
/// is allocated.
///
/// ```
/// use std::time::Duration;
/// use mesh_policy::{ConnectionFacts, traffic::rate::{Limit, LimitKey, Limiter, LocalLimit}};
///
/// let second = Duration::from_secs(1);
/// let limit = LocalLimit { name: Some("all".into()), limit: Limit::new(1, second), by: LimitKey::Everyone };
/// let limiter = Limiter::new(&[limit], 0x5eed);
/// let facts = ConnectionFacts::new();
/// assert!(limiter.check(&facts, second).is_ok());
/// assert_eq!(limiter.check(&facts, second).unwrap_err().to_string(), "the limit `all` is reached");
/// ```
#[derive(Debug)]
pub struct Limiter {
    stages: Box<[Stage]>,
}

#[derive(Debug)]
struct Stage {
    name: Option<Box<str>>,
    counter: Counter,
}

#[derive(Debug)]
enum Counter {
    Everyone(Bucket),
    Identity(KeyedBuckets),
    Header(Box<str>, KeyedBuckets),
}

impl Limiter {
    /// Limits that nothing was counted for. The `seed` must be no peer's to know, as for
    /// [`KeyedBuckets::new`].
    pub fn new(limits: &[LocalLimit], seed: u64) -> Self {
        let stages = limits.iter().map(|limit| Stage {
            name: limit.name.clone(),
            counter: match &limit.by {
                LimitKey::Everyone => Counter::Everyone(Bucket::new(limit.limit)),
                LimitKey::Identity { keys } => Counter::Identity(KeyedBuckets::new(limit.limit, *keys, seed)),
                LimitKey::Header { name, keys } => {
                    Counter::Header(name.clone(), KeyedBuckets::new(limit.limit, *keys, seed))
                }
            },
        });
        Self {
            stages: stages.collect(),
        }
    }

    /// Counts a request, and says how many more may come: by the limit that leaves the fewest. None
    /// if no limit is about it.
    ///
    /// # Errors
    ///
    /// It is one too many: a 429, or RESOURCE_EXHAUSTED in gRPC.
    pub fn check<'a>(
        &self,
        facts: impl Into<Facts<'a>>,
        now: Duration,
    ) -> Result<Option<(Limit, Allowance)>, LimitReached<'_>> {
        Self::check_all([self], facts, now)
    }

    /// The same for the limits of several policies: those for single clients of all of them before
    /// those for all, and otherwise in this order.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn check_all<'l, 'a>(
        limiters: impl IntoIterator<Item = &'l Self> + Clone,
        facts: impl Into<Facts<'a>>,
        now: Duration,
    ) -> Result<Option<(Limit, Allowance)>, LimitReached<'l>> {
        let facts = facts.into();
        let mut least: Option<(Limit, Allowance)> = None;
        for (is_for_all, limiters) in [(false, limiters.clone()), (true, limiters)] {
            let stages = limiters.into_iter().flat_map(|limiter| &limiter.stages);
            for stage in stages.filter(|stage| matches!(stage.counter, Counter::Everyone(_)) == is_for_all) {
                let Some((limit, found)) = stage.counter.count(&facts, now) else {
                    continue;
                };
                let allowance = found.map_err(|limited| LimitReached {
                    name: stage.name.as_deref(),
                    limit,
                    limited,
                })?;
                if least.is_none_or(|(_, known)| allowance.remaining < known.remaining) {
                    least = Some((limit, allowance));
                }
            }
        }
        Ok(least)
    }
}

impl Counter {
    /// None if it is not about the request.
    fn count(&self, facts: &Facts<'_>, now: Duration) -> Option<(Limit, Result<Allowance, Limited>)> {
        let keyed = |buckets: &KeyedBuckets, key: Key| (buckets.limit(), buckets.check(key, 1, now));
        Some(match self {
            Self::Everyone(bucket) => (bucket.limit(), bucket.check(1, now)),
            Self::Identity(buckets) => keyed(buckets, buckets.key(identity(facts))),
            Self::Header(name, buckets) => {
                let key = first_line(facts, name, |value| buckets.key_of(identity(facts), value));
                keyed(buckets, key?)
            }
        })
    }
}

/// The client's identity, empty without one of which it could be said that it is the client's.
fn identity<'a>(facts: &Facts<'a>) -> &'a [u8] {
    let name = facts.peer().present().and_then(|peer| peer.sole_workload());
    name.map_or(&[], |name| name.text())
}

/// A request is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the limit{} is reached", Named(.name))]
#[non_exhaustive]
pub struct LimitReached<'l> {
    /// The name of the limit.
    pub name: Option<&'l str>,
    /// The limit.
    pub limit: Limit,
    /// When the request could pass.
    pub limited: Limited,
}

struct Named<'l>(&'l Option<&'l str>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, " `{}`", name.escape_debug()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ConnectionFacts, Known, Peer, RequestFacts};

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(name: &str, requests: u32, by: LimitKey) -> LocalLimit {
        LocalLimit {
            name: Some(name.into()),
            limit: Limit::new(requests, SECOND),
            by,
        }
    }

    /// The name of the limit that a request of an account and a user reaches, if it does.
    fn reached(limiter: &Limiter, account: Option<&str>, user: Option<&str>) -> Option<String> {
        let peer = account.map(|account| Peer::from(&format!("spiffe://t/ns/n/sa/{account}").parse().unwrap()));
        let headers: Vec<(&str, &str)> = user.map(|user| ("X-User", user)).into_iter().collect();
        let connection = ConnectionFacts::new().peer(peer.as_ref().into());
        let facts = RequestFacts::new(connection, b"GET", &headers);
        let reached = limiter.check(&facts, SECOND).err()?;
        reached.name.map(str::to_owned)
    }

    #[test]
    fn limits_for_one_are_asked_before_those_for_all() {
        let limits = [
            limit("all", 3, LimitKey::Everyone),
            limit("client", 2, LimitKey::Identity { keys: 64 }),
        ];
        let limiter = Limiter::new(&limits, 7);
        let ask = |account| reached(&limiter, account, None);
        assert_eq!((ask(Some("a")), ask(Some("a"))), (None, None));
        // Who is over its own limit takes nothing of the others'.
        for _ in 0..5 {
            assert_eq!(ask(Some("a")).as_deref(), Some("client"));
        }
        assert_eq!(ask(Some("b")), None);
        assert_eq!(ask(Some("b")).as_deref(), Some("all"));
    }

    #[test]
    fn who_is_over_its_own_limit_takes_nothing_of_another_policys_for_all() {
        let all = Limiter::new(&[limit("all", 5, LimitKey::Everyone)], 7);
        let client = Limiter::new(&[limit("client", 1, LimitKey::Identity { keys: 64 })], 7);
        let facts = ConnectionFacts::new();
        let check = || Limiter::check_all([&all, &client], &facts, SECOND);
        assert!(check().is_ok());
        for _ in 0..9 {
            assert_eq!(check().unwrap_err().name, Some("client"));
        }
        let left = all.check(&facts, SECOND).unwrap().unwrap();
        assert_eq!(left.1.remaining, 3);
    }

    #[test]
    fn clients_without_an_identity_are_one() {
        let limiter = Limiter::new(&[limit("client", 1, LimitKey::Identity { keys: 64 })], 7);
        assert_eq!(reached(&limiter, None, Some("x")), None);
        assert!(reached(&limiter, None, Some("y")).is_some());
        let facts = ConnectionFacts::new().peer(Known::Unavailable);
        assert!(limiter.check(&facts, SECOND).is_err());
    }

    #[test]
    fn values_of_a_header_are_counted_for_each_client() {
        let by = LimitKey::Header {
            name: "x-user".into(),
            keys: 1_024,
        };
        let limiter = Limiter::new(&[limit("user", 1, by)], 7);
        let ask = |account, user| reached(&limiter, Some(account), user).is_some();
        assert!(!ask("a", Some("u")) && ask("a", Some("u")));
        assert!(!ask("a", Some("v")) && !ask("b", Some("u")));
        assert!(!ask("a", None) && !ask("a", None));
    }

    #[test]
    fn values_of_host_are_counted_without_a_line() {
        let by = LimitKey::Header {
            name: "host".into(),
            keys: 1_024,
        };
        let limiter = Limiter::new(&[limit("host", 1, by)], 7);
        let headers: Vec<(&str, &str)> = Vec::new();
        let ask = |authority: &'static str| {
            let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers);
            let facts = facts.authority(Known::Present(authority.as_bytes()));
            limiter.check(&facts, SECOND).is_err()
        };
        assert!(!ask("a") && ask("a") && !ask("b"));
    }

    #[test]
    fn the_limit_that_leaves_least_is_told() {
        let limits = [
            limit("all", 10, LimitKey::Everyone),
            limit("client", 4, LimitKey::Identity { keys: 64 }),
        ];
        let limiter = Limiter::new(&limits, 7);
        let (limit, allowance) = limiter.check(&ConnectionFacts::new(), SECOND).unwrap().unwrap();
        assert_eq!((limit.tokens(), allowance.remaining), (4, 3));
        assert_eq!(Limiter::new(&[], 7).check(&ConnectionFacts::new(), SECOND), Ok(None));
    }
}
