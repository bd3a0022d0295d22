use std::time::Duration;

use super::{
    algorithm::{Algorithm, Balance},
    lots::Lots,
    member::Member,
    rendezvous,
    turns::Turns,
};
use crate::{
    chance::{Draws, mix},
    fingerprint,
};

/// Endpoints among which only the algorithm chooses, by their positions in a set.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) members: Box<[u32]>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// Drawn by weight, where weights differ.
    Drawn(Option<Lots>),
    Turns(Turns),
    Table(Box<[u16]>, Option<Lots>),
}

impl Pool {
    pub(super) fn new<T>(set: &[Member<T>], members: Vec<u32>, algorithm: Algorithm, generation: u64) -> Self {
        let of_set = || members.iter().filter_map(|member| set.get(*member as usize));
        let weights: Vec<u32> = of_set().map(|member| member.weight).collect();
        let order = match algorithm {
            Algorithm::RoundRobin => Order::Turns(Turns::by(&weights, generation)),
            Algorithm::Affinity { slots } => {
                let contenders: Vec<_> = of_set()
                    .map(|member| (mix(fingerprint::of(member.endpoint.key().as_bytes())), member.weight))
                    .collect();
                Order::Table(rendezvous::table(slots, &contenders), Lots::by(&weights))
            }
            Algorithm::PeakEwma | Algorithm::LeastRequest | Algorithm::Random => Order::Drawn(Lots::by(&weights)),
        };
        Self {
            members: members.into(),
            order,
        }
    }

    /// The position in its set of the endpoint that gets the request.
    pub(super) fn choose<T>(
        &self,
        set: &[Member<T>],
        balance: &Balance,
        hash: Option<u64>,
        now: Duration,
        draws: &mut Draws,
    ) -> Option<u32> {
        let chosen = match (&self.order, balance.algorithm) {
            (Order::Turns(turns), _) => turns.take(),
            (Order::Table(table, lots), _) => match hash {
                Some(hash) => table.get(rendezvous::slot(hash, table.len())).copied().map(u32::from)?,
                None => self.draw(lots.as_ref(), draws),
            },
            (Order::Drawn(lots), Algorithm::PeakEwma) => {
                let (one, other) = self.draw_two(lots.as_ref(), draws);
                self.sooner(set, one, other, now)
            }
            (Order::Drawn(lots), Algorithm::LeastRequest) => {
                let (one, other) = self.draw_two(lots.as_ref(), draws);
                let best = self.idler(set, one, other);
                (2..balance.choices).fold(best, |best, _| {
                    let other = self.draw(lots.as_ref(), draws);
                    self.idler(set, best, other)
                })
            }
            (Order::Drawn(lots), _) => self.draw(lots.as_ref(), draws),
        };
        self.members.get(chosen as usize).copied()
    }

    fn draw(&self, lots: Option<&Lots>, draws: &mut Draws) -> u32 {
        match lots {
            Some(lots) => lots.draw(draws),
            None => draws.below(self.members.len() as u32),
        }
    }

    /// Two that differ, if weights let them.
    fn draw_two(&self, lots: Option<&Lots>, draws: &mut Draws) -> (u32, u32) {
        let one = self.draw(lots, draws);
        let other = match lots {
            Some(lots) => lots.draw(draws),
            None => {
                let other = draws.below((self.members.len() as u32).saturating_sub(1));
                other + u32::from(other >= one)
            }
        };
        (one, other)
    }

    /// Whichever may be expected to answer sooner.
    fn sooner<T>(&self, set: &[Member<T>], one: u32, other: u32, now: Duration) -> u32 {
        let (Some(first), Some(second)) = (self.member(set, one), self.member(set, other)) else {
            return one;
        };
        // The average of who never answered would be a guess.
        let (Some(a), Some(b)) = (first.load.response_time(now), second.load.response_time(now)) else {
            return self.idler(set, one, other);
        };
        let expected = |member: &Member<T>, time: f64| time * member.load.requests() as f64 / f64::from(member.weight);
        if expected(second, b) < expected(first, a) {
            other
        } else {
            one
        }
    }

    /// Whichever has less under way for its weight.
    fn idler<T>(&self, set: &[Member<T>], one: u32, other: u32) -> u32 {
        let (Some(first), Some(second)) = (self.member(set, one), self.member(set, other)) else {
            return one;
        };
        let (a, b) = (first.load.requests(), second.load.requests());
        if b * u64::from(first.weight) < a * u64::from(second.weight) {
            other
        } else {
            one
        }
    }

    fn member<'a, T>(&self, set: &'a [Member<T>], at: u32) -> Option<&'a Member<T>> {
        set.get(*self.members.get(at as usize)? as usize)
    }
}
