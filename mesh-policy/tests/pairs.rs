//! The compiled evaluator against the slow and obvious one, in numbers that take minutes:
//!
//! ```text
//! cargo test --release -p mesh-policy --test pairs -- --ignored --nocapture
//! ```
//!
//! `POLICY_PAIRS` is how many pairs of policies and a request are made, all dialects together, and
//! `POLICY_SEED` where to begin. The same two numbers are the same pairs, on however many cores.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "test code"
)]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use mesh_policy::authz::{Compiler, Dialect};
use mesh_testkit::policy::{
    Outcome, decide,
    generate::{DIALECTS, cases, meshes, policies},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

/// Requests that are put to each set of policies.
const REQUESTS: u64 = 100;

/// Sets between two lines about how far it is.
const PROGRESS: u64 = 10_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Everything about a set follows from its number.
fn runner(set: u64) -> TestRunner {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&set.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// Puts requests to a set, and counts those that both evaluators let pass.
fn decide_alike(number: u64, dialect: Dialect) -> u64 {
    let mut runner = runner(number);
    let mesh = meshes(dialect).new_tree(&mut runner).unwrap().current();
    let policies = policies(dialect).new_tree(&mut runner).unwrap().current();
    let compiler = Compiler::new(dialect).trust_domains(mesh.trust_domains.clone());
    let set = compiler.compile(policies.clone()).unwrap();
    let cases = cases();
    let mut allowed = 0;
    for _ in 0..REQUESTS {
        let case = cases.new_tree(&mut runner).unwrap().current();
        let (compiled, naive) = case.with(|facts| {
            let compiled = Outcome::of(&set.decide(facts), &set);
            (compiled, decide(&policies, &mesh, &facts))
        });
        assert_eq!(compiled, naive, "set {number}, {dialect:?}: {case:?}\n{policies:#?}");
        allowed += u64::from(naive.is_allowed());
    }
    allowed
}

#[test]
#[ignore = "takes minutes in a release build, and hours without"]
fn compiled_and_naive_decide_millions_of_pairs_alike() {
    let (pairs, first) = (number("POLICY_PAIRS", 10_000_000), number("POLICY_SEED", 0));
    let sets = pairs.div_ceil(REQUESTS);
    let (next, allowed) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    let work = || {
        loop {
            let set = next.fetch_add(1, Ordering::Relaxed);
            if set >= sets {
                return;
            }
            let dialect = DIALECTS[set as usize % DIALECTS.len()];
            allowed.fetch_add(decide_alike(first + set, dialect), Ordering::Relaxed);
            if (set + 1) % PROGRESS == 0 {
                let seconds = start.elapsed().as_secs();
                println!("{} of {pairs} pairs, {seconds} s", (set + 1) * REQUESTS);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(work);
        }
    });
    let allowed = allowed.into_inner();
    println!(
        "{} pairs, {allowed} allowed, no difference, {} s",
        sets * REQUESTS,
        start.elapsed().as_secs()
    );
    // Both answers are common, or little was compared.
    let all = sets * REQUESTS;
    assert!((all / 10..all / 10 * 9).contains(&allowed));
}
