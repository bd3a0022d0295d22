use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use thiserror::Error;

use super::{
    algorithm::Balance,
    endpoint::{Endpoint, EndpointId, Health},
    level::{Counts, availability, shares},
    load::Load,
    locality::Locality,
    member::Member,
    pool::Pool,
};

/// More endpoints than a set can have: their positions are 16 bits in tables.
const MOST: usize = 65_535;

/// The endpoints of a service, and how requests are divided among them.
///
/// Never changes; whoever picks holds on to the set it found, and finds a newer one next time.
#[derive(Debug)]
pub struct EndpointSet<T> {
    pub(super) balance: Balance,
    pub(super) members: Arc<[Member<T>]>,
    pub(super) parts: Arc<[Part]>,
    pub(super) spare: Spare,
    health: Arc<[Health]>,
    next_id: u64,
    /// How many sets led to this one.
    generation: u64,
}

/// Endpoints that have no part of the requests and could take some, the better ones first.
type Spare = Arc<[Box<[u32]>]>;

/// Endpoints of one level and health, with their part of all requests.
#[derive(Debug)]
pub(super) struct Part {
    /// Percents of this part and those before it.
    pub(super) upto: u32,
    /// One for all localities, or one for each with its weight and that of those before it.
    pub(super) pools: Box<[(u64, Pool)]>,
}

impl<T> EndpointSet<T> {
    /// A set of endpoints of which nothing was measured.
    ///
    /// Building takes time in proportion to the endpoints; with
    /// [`Affinity`](super::Algorithm::Affinity) some 20 ns for each slot and its logarithm more,
    /// which is about 15 ms for 65,536.
    ///
    /// # Errors
    ///
    /// Two endpoints of one key, or more than 65,535.
    pub fn new(balance: Balance, endpoints: impl IntoIterator<Item = Endpoint<T>>) -> Result<Self, InvalidSet> {
        Self::build(balance, endpoints, None)
    }

    /// The same service with other endpoints. Those whose key is also here keep what was measured,
    /// their requests under way and their [`EndpointId`].
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_endpoints(&self, endpoints: impl IntoIterator<Item = Endpoint<T>>) -> Result<Self, InvalidSet> {
        Self::build(self.balance.clone(), endpoints, Some(self))
    }

    /// The same endpoints with the health that each has now. Costs no more than a look at each if
    /// nothing changed.
    #[must_use]
    pub fn with_health(&self, health: impl FnMut(&Endpoint<T>) -> Health) -> Self {
        let health: Arc<[Health]> = self
            .members
            .iter()
            .map(|member| &*member.endpoint)
            .map(health)
            .collect();
        let generation = self.generation + 1;
        let (parts, spare) = if health == self.health {
            (Arc::clone(&self.parts), Arc::clone(&self.spare))
        } else {
            divide(&self.balance, &self.members, &health, generation)
        };
        Self {
            balance: self.balance.clone(),
            members: Arc::clone(&self.members),
            parts,
            spare,
            health,
            next_id: self.next_id,
            generation,
        }
    }

    /// All endpoints, whatever their health.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = (EndpointId, &Endpoint<T>)> {
        self.members.iter().map(|member| (member.id, &*member.endpoint))
    }

    /// Requests under way to an endpoint; `None` if it is not of this set.
    pub fn requests_under_way(&self, id: EndpointId) -> Option<u64> {
        let member = self.members.iter().find(|member| member.id == id)?;
        Some(member.load.requests() - 1)
    }

    fn build(
        balance: Balance,
        endpoints: impl IntoIterator<Item = Endpoint<T>>,
        before: Option<&Self>,
    ) -> Result<Self, InvalidSet> {
        let known: HashMap<&str, &Member<T>> = before
            .iter()
            .flat_map(|set| set.members.iter())
            .map(|member| (member.endpoint.key(), member))
            .collect();
        let mut next_id = before.map_or(0, |set| set.next_id);
        let mut members = Vec::new();
        for endpoint in endpoints {
            if members.len() == MOST {
                return Err(InvalidSet::TooMany { limit: MOST });
            }
            let (id, load) = known.get(endpoint.key()).map_or_else(
                || {
                    next_id += 1;
                    (EndpointId(next_id), Arc::new(Load::new(balance.decay)))
                },
                |member| (member.id, Arc::clone(&member.load)),
            );
            members.push(Member {
                id,
                weight: endpoint.weight,
                endpoint: Arc::new(endpoint),
                load,
            });
        }
        check_keys(&members)?;
        let health: Arc<[Health]> = members.iter().map(|member| member.endpoint.health).collect();
        let generation = before.map_or(0, |set| set.generation + 1);
        let (parts, spare) = divide(&balance, &members, &health, generation);
        Ok(Self {
            parts,
            spare,
            members: members.into(),
            health,
            balance,
            next_id,
            generation,
        })
    }
}

fn check_keys<T>(members: &[Member<T>]) -> Result<(), InvalidSet> {
    let mut keys: Vec<&str> = members.iter().map(|member| member.endpoint.key()).collect();
    keys.sort_unstable();
    let twice = keys.iter().zip(keys.iter().skip(1)).find(|(one, next)| one == next);
    twice.map_or(Ok(()), |(key, _)| Err(InvalidSet::Duplicate { key: (*key).into() }))
}

/// Who gets which part of the requests, and who is left.
fn divide<T>(balance: &Balance, members: &[Member<T>], health: &[Health], generation: u64) -> (Arc<[Part]>, Spare) {
    let mut levels: BTreeMap<u32, Vec<(u32, Health)>> = BTreeMap::new();
    for (number, (member, health)) in (0..).zip(members.iter().zip(health)) {
        levels
            .entry(member.endpoint.priority)
            .or_default()
            .push((number, *health));
    }
    let counts: Vec<Counts> = levels.values().map(|level| counts(level)).collect();
    let shares = shares(&counts, balance.overprovisioning, balance.panic_threshold);
    let divided = || levels.values().zip(&shares);
    let healthy = divided().map(|(level, share)| (level, share.healthy, Health::Healthy, share.panics));
    let degraded = divided().map(|(level, share)| (level, share.degraded, Health::Degraded, share.panics));
    let (mut upto, mut parts, mut spare) = (0, Vec::new(), Vec::new());
    for (level, percent, health, panics) in healthy.chain(degraded) {
        if percent > 0 {
            upto += percent;
            let serves = |member: &(u32, Health)| panics || member.1 == health;
            let pools = pools(balance, members, level, serves, generation);
            parts.push(Part { upto, pools });
        } else if !panics {
            spare.extend(left_over(members, level, health));
        }
    }
    (parts.into(), spare.into())
}

/// The endpoints of a level with a health, unless localities have shares of it: those without one are
/// to get nothing.
fn left_over<T>(members: &[Member<T>], level: &[(u32, Health)], wanted: Health) -> Option<Box<[u32]>> {
    let has_share = |number: u32| {
        members
            .get(number as usize)
            .is_some_and(|member| member.endpoint.share.is_some())
    };
    if level.iter().any(|(number, _)| has_share(*number)) {
        return None;
    }
    let of_health = level.iter().filter(|(_, health)| *health == wanted);
    let left: Box<[u32]> = of_health.map(|(number, _)| *number).collect();
    (!left.is_empty()).then_some(left)
}

fn counts(level: &[(u32, Health)]) -> Counts {
    let of = |wanted| level.iter().filter(|(_, health)| *health == wanted).count() as u32;
    Counts {
        healthy: of(Health::Healthy),
        degraded: of(Health::Degraded),
        all: level.len() as u32,
    }
}

/// The endpoints of one locality in a level.
struct Place {
    share: Option<u32>,
    members: Vec<(u32, Health)>,
}

/// The endpoints of a level that serve, by locality if that matters.
fn pools<T>(
    balance: &Balance,
    members: &[Member<T>],
    level: &[(u32, Health)],
    serves: impl Fn(&(u32, Health)) -> bool,
    generation: u64,
) -> Box<[(u64, Pool)]> {
    let pool = |of_level: &[(u32, Health)]| {
        let serving = of_level
            .iter()
            .filter(|member| serves(member))
            .map(|(number, _)| *number);
        Pool::new(members, serving.collect(), balance.algorithm, generation)
    };
    let mut localities: BTreeMap<&Locality, Place> = BTreeMap::new();
    for entry in level {
        if let Some(member) = members.get(entry.0 as usize) {
            let endpoint = &member.endpoint;
            let place = localities.entry(&endpoint.locality).or_insert_with(|| Place {
                share: endpoint.share,
                members: Vec::new(),
            });
            place.members.push(*entry);
        }
    }
    if localities.values().all(|place| place.share.is_none()) {
        return [(1, pool(level))].into();
    }
    let mut upto = 0;
    localities
        .values()
        .filter_map(|place| {
            let serving = place.members.iter().filter(|member| serves(member)).count() as u32;
            let available = availability(serving, place.members.len() as u32, balance.overprovisioning);
            let weight = u64::from(place.share.unwrap_or(0)) * u64::from(available);
            upto += weight;
            (weight > 0).then(|| (upto, pool(&place.members)))
        })
        .collect()
}

/// Endpoints that cannot be a set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSet {
    /// Two endpoints have this key.
    #[error("two endpoints have the key `{key}`")]
    Duplicate {
        /// The key.
        key: Box<str>,
    },
    /// There are more endpoints than this.
    #[error("there are more than {limit} endpoints")]
    TooMany {
        /// The most there may be.
        limit: usize,
    },
}
