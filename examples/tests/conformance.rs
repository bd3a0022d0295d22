//! `docs/conformance.md` names files and tests that exist, and leaves nothing blank.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_file_and_test_that_is_named_exists() {
    let mut faults = Vec::new();
    for row in rows() {
        let (requirement, [code, test]) = (row.requirement(), row.evidence());
        for path in quoted(code).filter(|path| !root().join(path).exists()) {
            faults.push(format!("{requirement}: there is no `{path}`"));
        }
        for name in quoted(test).filter(|name| !is_test(name)) {
            faults.push(format!("{requirement}: there is no test `{name}`"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_requirement_has_code_and_test() {
    let mut faults = Vec::new();
    for row in rows() {
        let blank = row.0.iter().any(|cell| cell.is_empty());
        if blank || row.evidence().into_iter().any(|cell| quoted(cell).next().is_none()) {
            faults.push(row.requirement());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_rules_are_numbered_without_gaps() {
    let numbers: Vec<usize> = rows().iter().filter_map(|row| row.0[0].parse().ok()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}

#[test]
fn what_does_not_exist_is_noticed() {
    assert!(is_test("conformance::what_does_not_exist_is_noticed"));
    assert!(is_test("tunnel::tls::what_is_no_tls_1_3_is_refused"));
    assert!(is_test(
        "hbone/src/wire/tests.rs::statuses_are_those_of_the_reference_proxy"
    ));
    for name in [
        "chains::no_such",
        "no_such::chains",
        "chains",
        "hbone/src/wire/tests.rs::rejections",
    ] {
        assert!(!is_test(name), "{name}");
    }
}

/// The cells of one row of a table; the last two are code and test.
struct Row(Vec<String>);

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|');
        let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
        let is_rule = cells.iter().all(|cell| cell.bytes().all(|byte| byte == b'-'));
        let is_head = cells.last().is_some_and(|cell| cell == "test");
        (!is_rule && !is_head).then_some(Self(cells))
    }

    fn requirement(&self) -> String {
        self.0[..self.0.len() - 2].join(" ")
    }

    fn evidence(&self) -> [&str; 2] {
        [&self.0[self.0.len() - 2], &self.0[self.0.len() - 1]]
    }
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let rows: Vec<Row> = text.lines().filter_map(Row::parse).collect();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    rows
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether there is a test of this name: `FILE::NAME`, or `TARGET::MODULES::NAME` in some crate.
fn is_test(name: &str) -> bool {
    let Some((place, function)) = name.rsplit_once("::") else {
        return false;
    };
    if place.ends_with(".rs") {
        return has_test(&root().join(place), function);
    }
    let place = place.replace("::", "/");
    crates().iter().map(|folder| folder.join("tests")).any(|tests| {
        let files = [format!("{place}.rs"), format!("{place}/main.rs")];
        files.iter().any(|file| has_test(&tests.join(file), function))
    })
}

fn has_test(file: &Path, function: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(function))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let Some(place) = lines.iter().position(|line| is_it(line)) else {
        return false;
    };
    let mut attributes = lines[..place].iter().rev().take_while(|line| line.starts_with('#'));
    attributes.any(|attribute| attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test"))
}

fn crates() -> Vec<PathBuf> {
    let folders = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("Cargo.toml").exists()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
