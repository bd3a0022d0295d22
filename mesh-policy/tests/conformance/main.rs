//! The cases of the Gateway API's conformance suite for HTTPRoute and GRPCRoute, as data: `cases/` has a
//! file for each of its tests, by the test's name, with objects and with requests and what becomes of
//! them. `cases/left-out.md` says which tests have none, and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod case;
mod world;

use std::{collections::BTreeSet, fs, path::Path};

use self::world::World;

const BASE: &str = include_str!("base.yaml");

fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = entries.filter(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    let mut files: Vec<_> = yaml
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_case_comes_out_as_the_suite_wants_it() {
    let (mut asked, mut wrong) = (0, Vec::new());
    for (name, text) in files() {
        let (world, cases) = World::new(&format!("{BASE}---\n{text}"));
        assert!(!cases.is_empty(), "{name} asks for nothing");
        for case in cases {
            asked += 1;
            let (found, expected) = (world.ask(&case), case.expected());
            if found != expected {
                wrong.push(format!(
                    "{name}: {}\n  wanted {expected}\n  found  {found}",
                    case.request()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(asked >= 250, "{asked}");
}

#[test]
fn every_test_of_the_suite_has_cases_or_a_reason() {
    let left_out = include_str!("cases/left-out.md");
    let left_out: BTreeSet<&str> = left_out
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let files = files();
    let with_cases: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let suite: BTreeSet<&str> = include_str!("suite.txt").lines().collect();
    assert!(left_out.is_disjoint(&with_cases));
    let known: BTreeSet<&str> = left_out.union(&with_cases).copied().collect();
    assert_eq!(known, suite);
}
