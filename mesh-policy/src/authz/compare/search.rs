//! Candidates for a witness, the likeliest first.

use std::{collections::HashSet, ops::ControlFlow};

use super::{
    branch::{self, ordinary},
    point::{self, Point},
    proof::Gap,
};
use crate::{
    authz::cover::{Effort, RuleView},
    chance::Draws,
    sample::{Sample, SampleRequest},
};

/// So many points are taken from the rules, those of the gaps first.
const MAX_POINTS: usize = 512;

/// So many requests that match rules are kept to be varied.
const MAX_SEEDS: usize = 256;

/// So many points are put into one sample in the end, when nothing likelier is left.
const MAX_CHANGES: u64 = 4;

/// Asks about candidates until one is a witness or enough have been tried.
pub(super) struct Search<F> {
    is_witness: F,
    left: usize,
    candidates: usize,
}

/// Whether to go on; what breaks is a witness, or that enough have been tried.
type Step = ControlFlow<Option<Sample>>;

impl<F: Fn(&Sample) -> bool> Search<F> {
    pub(super) fn new(candidates: usize, is_witness: F) -> Self {
        Self {
            is_witness,
            left: candidates,
            candidates,
        }
    }

    pub(super) fn tried(&self) -> usize {
        self.candidates - self.left
    }

    /// A witness without what it does not need. The effort is for what candidates are made of.
    pub(super) fn run(&mut self, gaps: &[Gap<'_>], sets: [&[RuleView<'_>]; 2], effort: &Effort) -> Option<Sample> {
        let open = gaps.iter().filter_map(|gap| match gap {
            Gap::Rule(rule) => Some(*rule),
            Gap::Default => None,
        });
        let rules: Vec<_> = open.chain(sets.into_iter().flatten()).collect();
        let points = points(&rules, effort);
        let seeds = seeds(&rules, effort);
        match self.stages(&seeds, &points) {
            ControlFlow::Break(Some(found)) => Some(self.simplify(found)),
            ControlFlow::Break(None) | ControlFlow::Continue(()) => None,
        }
    }

    fn stages(&mut self, seeds: &[Sample], points: &[Point]) -> Step {
        for seed in seeds {
            self.ask(seed.clone())?;
        }
        for seed in seeds {
            self.ask(with(seed, &Point::NoRequest))?;
        }
        // What is unknown comes last: witnesses of which all is known say more.
        let (unknown, known): (Vec<_>, Vec<_>) = points.iter().partition(|point| point.is_unknown());
        self.vary(seeds, &known, self.candidates / 2)?;
        self.vary(seeds, &unknown, self.candidates / 3)?;
        self.merge(seeds, self.candidates / 6)?;
        self.mix(seeds, points)
    }

    /// Each seed with each point, until no more than `reserve` candidates are left.
    fn vary(&mut self, seeds: &[Sample], points: &[&Point], reserve: usize) -> Step {
        for seed in seeds {
            for point in points {
                if self.left <= reserve {
                    return ControlFlow::Continue(());
                }
                self.ask(with(seed, point))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// What is special in one seed put into another.
    fn merge(&mut self, seeds: &[Sample], reserve: usize) -> Step {
        for seed in seeds {
            for other in seeds {
                if self.left <= reserve {
                    return ControlFlow::Continue(());
                }
                self.ask(merged(seed, other))?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Some points in any seed, chosen by a sequence that is the same each time.
    fn mix(&mut self, seeds: &[Sample], points: &[Point]) -> Step {
        let mut draws = Draws::new(0);
        loop {
            let seed = choose(seeds, draws.next());
            let mut sample = seed.cloned().unwrap_or_else(ordinary);
            for _ in 0..=draws.next() % MAX_CHANGES {
                if let Some(point) = choose(points, draws.next()) {
                    point.apply(&mut sample);
                }
            }
            self.ask(sample)?;
        }
    }

    fn ask(&mut self, sample: Sample) -> Step {
        let Some(left) = self.left.checked_sub(1) else {
            return ControlFlow::Break(None);
        };
        self.left = left;
        if (self.is_witness)(&sample) {
            return ControlFlow::Break(Some(sample));
        }
        ControlFlow::Continue(())
    }

    /// As much of a witness as possible is as in the ordinary request.
    fn simplify(&self, mut witness: Sample) -> Sample {
        let ordinary = ordinary();
        for take in FACTS {
            let mut simpler = witness.clone();
            take(&mut simpler, &ordinary);
            if (self.is_witness)(&simpler) {
                witness = simpler;
            }
        }
        witness
    }
}

/// Each takes one fact, or all about the request, from another sample.
const FACTS: [fn(&mut Sample, &Sample); 13] = [
    |sample, other| sample.peer.clone_from(&other.peer),
    |sample, other| sample.source_ip = other.source_ip,
    |sample, other| sample.remote_ip = other.remote_ip,
    |sample, other| sample.destination_ip = other.destination_ip,
    |sample, other| sample.destination_port = other.destination_port,
    |sample, other| sample.sni.clone_from(&other.sni),
    |sample, other| sample.metadata.clone_from(&other.metadata),
    |sample, other| {
        if sample.request.is_none() {
            sample.request.clone_from(&other.request);
        }
    },
    |sample, other| of_request(sample, other, |request, other| request.method.clone_from(&other.method)),
    |sample, other| {
        of_request(sample, other, |request, other| {
            request.authority.clone_from(&other.authority);
        });
    },
    |sample, other| of_request(sample, other, |request, other| request.path.clone_from(&other.path)),
    |sample, other| {
        of_request(sample, other, |request, other| {
            request.headers.clone_from(&other.headers);
        });
    },
    |sample, other| of_request(sample, other, |request, other| request.claims.clone_from(&other.claims)),
];

fn of_request(sample: &mut Sample, other: &Sample, take: impl Fn(&mut SampleRequest, &SampleRequest)) {
    if let (Some(request), Some(other)) = (&mut sample.request, &other.request) {
        take(request, other);
    }
}

/// Requests that the rules match, and an ordinary one.
fn seeds(rules: &[&RuleView<'_>], effort: &Effort) -> Vec<Sample> {
    let mut seeds = vec![ordinary()];
    for rule in rules {
        for seed in branch::matches(rule, effort) {
            if seeds.len() == MAX_SEEDS || effort.is_spent() {
                return seeds;
            }
            if !effort.any(&seeds, |other| *other == seed) {
                seeds.push(seed);
            }
        }
    }
    seeds
}

fn points(rules: &[&RuleView<'_>], effort: &Effort) -> Vec<Point> {
    let mut points = Vec::new();
    let mut seen = HashSet::new();
    for rule in rules {
        let entries = rule.from.iter().chain(&rule.to).flatten();
        for field in entries.chain(&rule.when) {
            let tests = field.any.iter().flatten().chain(&field.none);
            let new = tests.filter(|test| seen.insert((field.attribute, **test)));
            let around = new.flat_map(|test| point::around(field.attribute, test));
            for point in point::without(field.attribute).into_iter().chain(around) {
                if points.len() == MAX_POINTS || effort.is_spent() {
                    return points;
                }
                if !effort.any(&points, |other| *other == point) {
                    points.push(point);
                }
            }
        }
    }
    points
}

fn with(sample: &Sample, point: &Point) -> Sample {
    let mut changed = sample.clone();
    point.apply(&mut changed);
    changed
}

/// The first sample, with what the second has otherwise than an ordinary request.
fn merged(one: &Sample, other: &Sample) -> Sample {
    let ordinary = ordinary();
    let mut merged = one.clone();
    for take in FACTS {
        let mut special = ordinary.clone();
        take(&mut special, other);
        if special != ordinary {
            take(&mut merged, other);
        }
    }
    merged
}

fn choose<T>(all: &[T], number: u64) -> Option<&T> {
    let at = number.checked_rem(all.len() as u64)?;
    all.get(at as usize)
}
