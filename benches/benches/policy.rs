//! The figures of `mesh-policy` in one run, as a table for each question: what a decision costs by the
//! number of policies, beside a linear scan over rules that were parsed before and the naive evaluator
//! of the test kit; what it costs to compile policies, one of them anew, and to look for what is wrong
//! with them; and how many bytes a rule takes.
//!
//! ```text
//! cargo bench -p mesh-benches --bench policy
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a benchmark measures time, prints, and ends with its first failure"
)]

#[path = "policy/scan.rs"]
mod scan;
#[path = "policy/world.rs"]
mod world;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_policy::authz::analyze::Analysis;
use mesh_policy::authz::{AuthorizationPolicy, Compiler, TrustDomains};
use mesh_testkit::policy::{Mesh, decide};

use scan::Scan;
use world::{Aim, Kind, RULES, compile, policies, policy, with_facts};

const KINDS: [Kind; 2] = [Kind::L4, Kind::L7];

/// How much is measured.
struct Effort {
    policies: [usize; 3],
    /// How long each kind of decision is asked for, in each round.
    span: Duration,
    /// How often each of them gets its turn, so that a busy moment hits all alike.
    rounds: usize,
    /// How often what takes long is done.
    repeats: usize,
}

impl Effort {
    /// All of it for cargo's benches, and next to nothing where tests only see that this runs.
    fn wanted() -> Self {
        if std::env::args().any(|arg| arg == "--bench") {
            return Self {
                policies: [10, 1_000, 10_000],
                span: Duration::from_millis(100),
                rounds: 5,
                repeats: 15,
            };
        }
        Self {
            policies: [10, 20, 40],
            span: Duration::from_millis(1),
            rounds: 1,
            repeats: 1,
        }
    }
}

fn main() {
    let effort = Effort::wanted();
    println!("{RULES} rules in each policy; medians\n");
    println!(
        "| decision | policies | compiled | of that with {} | linear scan | naive |",
        effort.policies[0]
    );
    println!("|---|---|---|---|---|---|");
    for kind in KINDS {
        for aim in [Aim::Hit, Aim::Miss] {
            decisions(kind, aim, &effort);
        }
    }
    println!("\n| with {} policies | L4 | L7 |\n|---|---|---|", effort.policies[2]);
    let whole = KINDS.map(|kind| Whole::measure(kind, &effort));
    let row = |name: &str, cell: &dyn Fn(&Whole) -> String| {
        println!("| {name} | {} | {} |", cell(&whole[0]), cell(&whole[1]));
    };
    row("compile", &|whole| time(whole.compile));
    row("compile one anew", &|whole| time(whole.recompile));
    row("look for mistakes", &|whole| time(whole.lint));
    row("compiled bytes of a rule", &|whole| whole.set_bytes.to_string());
    row("bytes of a rule as it is written", &|whole| {
        whole.model_bytes.to_string()
    });
}

fn decisions(kind: Kind, aim: Aim, effort: &Effort) {
    let mesh = Mesh {
        dialect: kind.dialect(),
        trust_domains: TrustDomains::default(),
    };
    let worlds = effort.policies.map(|count| {
        let policies = policies(kind, count);
        let plain = policies.iter().map(|policy| AuthorizationPolicy::clone(policy));
        (
            compile(kind, &policies),
            Scan::new(kind, count),
            plain.collect::<Vec<_>>(),
        )
    });
    let mut samples = effort.policies.map(|_| <[Samples; 3]>::default());
    for _ in 0..effort.rounds {
        for ((set, scan, plain), (count, [compiled, linear, naive])) in
            worlds.iter().zip(effort.policies.iter().zip(&mut samples))
        {
            with_facts(kind, aim, *count, |facts| {
                compiled.take(effort.span, || set.decide(black_box(facts)));
                linear.take(effort.span, || scan.decide(black_box(&facts)));
                naive.take(effort.span, || decide(plain, &mesh, black_box(&facts)));
            });
        }
    }
    let medians = samples.map(|samples| samples.map(Samples::median));
    for (count, [compiled, linear, naive]) in effort.policies.iter().zip(medians) {
        println!(
            "| {} {} | {count} | {compiled:.0} ns | {:.2} | {} | {} |",
            kind.name(),
            aim.name(),
            compiled / medians[0][0],
            time(linear),
            time(naive)
        );
    }
}

/// What compiling and analysing a set of the largest size costs: nanoseconds, and bytes for each rule.
struct Whole {
    compile: f64,
    recompile: f64,
    lint: f64,
    set_bytes: usize,
    model_bytes: usize,
}

impl Whole {
    fn measure(kind: Kind, effort: &Effort) -> Self {
        let count = effort.policies[2];
        let mut made = None;
        let model_bytes = kept(|| made = Some(policies(kind, count)));
        let policies = made.unwrap();
        let mut compiled = None;
        let set_bytes = kept(|| compiled = Some(compile(kind, &policies)));
        let set = compiled.unwrap();
        let changed = Arc::new(policy(kind, count / 2).dry_run(true));
        let analysis = Analysis::new(Compiler::new(kind.dialect()));
        Self {
            compile: Samples::repeated(effort, || compile(kind, &policies)),
            recompile: Samples::repeated(effort, || set.with([Arc::clone(&changed)]).unwrap()),
            lint: Samples::repeated(effort, || {
                let report = analysis.run(policies.iter().cloned()).unwrap();
                assert!(report.is_complete());
                report
            }),
            set_bytes: set_bytes / (count * RULES),
            model_bytes: model_bytes / (count * RULES),
        }
    }
}

/// The bytes that some work leaves allocated.
fn kept(work: impl FnOnce()) -> usize {
    usize::try_from(allocation_counter::measure(work).bytes_current).unwrap()
}

/// Times of one thing, in nanoseconds.
#[derive(Default)]
struct Samples(Vec<f64>);

impl Samples {
    /// The median of something that takes long.
    fn repeated<T>(effort: &Effort, mut work: impl FnMut() -> T) -> f64 {
        let mut samples = Self::default();
        (0..effort.repeats).for_each(|_| samples.once(1, &mut work));
        samples.median()
    }

    /// As many as there are in a span, but one at least: each of enough turns that reading the clock
    /// does not count, however often another program has got in between.
    fn take<T>(&mut self, span: Duration, mut work: impl FnMut() -> T) {
        const LEAST: Duration = Duration::from_micros(10);
        let begin = Instant::now();
        let mut turns = 1;
        while (0..3).any(|_| lasts(turns, &mut work) < LEAST) {
            turns *= 2;
        }
        loop {
            self.once(turns, &mut work);
            if begin.elapsed() >= span {
                return;
            }
        }
    }

    fn once<T>(&mut self, turns: u32, work: &mut impl FnMut() -> T) {
        self.0.push(lasts(turns, work).as_nanos() as f64 / f64::from(turns));
    }

    fn median(mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[self.0.len() / 2]
    }
}

/// How long some turns take, without taking down what the last one made.
fn lasts<T>(turns: u32, work: &mut impl FnMut() -> T) -> Duration {
    let begin = Instant::now();
    for _ in 1..turns {
        black_box(work());
    }
    let last = black_box(work());
    let lasted = begin.elapsed();
    drop(last);
    lasted
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        0.0..1e3 => format!("{nanoseconds:.0} ns"),
        1e3..1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        _ => format!("{:.1} ms", nanoseconds / 1e6),
    }
}
