//! What `ARCHITECTURE.md` states about crates and modules holds in the sources.
//!
//! The statements are its fenced blocks `crates` and `ranks CRATE`. The sources are scanned as
//! tokens, so this file needs no dependency and no build of the workspace:
//!
//! ```text
//! CARGO_MANIFEST_DIR=$PWD/examples rustc --test --edition 2024 -o layers examples/tests/layers/main.rs
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod source;
mod statement;
mod workspace;

use std::collections::BTreeSet;
use std::path::Path;

use source::Source;
use statement::{Borders, Ranks};
use workspace::{
    Section, architecture, dependencies, is_published, members, modules, package_name, read, rust_files, shown,
};

/// Production lines a source file may have: beyond that it holds more than one noun.
const MAX_FILE_LINES: usize = 600;

/// Lines of `lib.rs` that are not comments.
const MAX_DOOR_LINES: usize = 120;

/// Names that say nothing about what a file or type holds.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

#[test]
fn every_crate_depends_only_on_the_crates_below_it() {
    let borders = Borders::parse(&architecture());
    let family: BTreeSet<String> = members().iter().map(|folder| package_name(folder)).collect();
    let mut violations = Vec::new();
    for folder in members() {
        let name = package_name(&folder);
        let Some(border) = borders.0.get(&name) else {
            violations.push(format!("{name}: not in the `crates` block"));
            continue;
        };
        for (section, dependency) in dependencies(&read(&folder.join("Cargo.toml"))) {
            // What tests use may also come from the crate that holds the tests' world.
            let allowed =
                border.may_use.contains(&dependency) || (section == Section::Dev && dependency == "mesh-testkit");
            if family.contains(&dependency) && !allowed {
                violations.push(format!("{name}: depends on `{dependency}`, which is not below it"));
            }
            if section == Section::Normal && border.never.contains(&dependency) {
                violations.push(format!("{name}: depends on `{dependency}`, which it must never do"));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn no_module_looks_up_a_rank() {
    let architecture = architecture();
    let mut violations = Vec::new();
    for folder in members() {
        let name = package_name(&folder);
        match Ranks::parse(&architecture, &name) {
            Some(ranks) => check_ranks(&folder, &ranks, &mut violations),
            None if is_published(&folder) => {
                for file in modules(&folder) {
                    violations.push(format!("{}: {name} has no `ranks` block", shown(&file.path)));
                }
            }
            None => {}
        }
    }
    assert_none(&violations);
}

#[test]
fn files_are_short_and_named_by_what_they_hold() {
    let mut violations = Vec::new();
    for folder in members() {
        for path in rust_files(&folder.join("src")) {
            let source = Source::scan(&read(&path));
            let shown = shown(&path);
            if source.production_lines > MAX_FILE_LINES {
                violations.push(format!(
                    "{shown}: {} lines, more than {MAX_FILE_LINES}",
                    source.production_lines
                ));
            }
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if stem.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word)) {
                violations.push(format!("{shown}: `{stem}` does not say what the file holds"));
            }
            for (line, name) in source.type_names() {
                let lower = name.to_lowercase();
                if EMPTY_NAMES.iter().any(|empty| lower.ends_with(empty)) {
                    violations.push(format!("{shown}:{line}: `{name}` does not say what the type is"));
                }
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn every_library_opens_with_a_door() {
    let mut violations = Vec::new();
    for folder in members() {
        let path = folder.join("src/lib.rs");
        if !path.exists() {
            continue;
        }
        let source = Source::scan(&read(&path));
        let lines: BTreeSet<usize> = source.tokens.iter().map(|token| token.line).collect();
        if lines.len() > MAX_DOOR_LINES {
            violations.push(format!(
                "{}: {} lines of code, more than {MAX_DOOR_LINES}",
                shown(&path),
                lines.len()
            ));
        }
        for token in source.tokens.iter().filter(|token| token.text == "fn") {
            violations.push(format!("{}:{}: a function in the door", shown(&path), token.line));
        }
    }
    assert_none(&violations);
}

fn check_ranks(folder: &Path, ranks: &Ranks, violations: &mut Vec<String>) {
    let mut unseen: BTreeSet<&str> = ranks.rank.keys().map(String::as_str).collect();
    for file in modules(folder) {
        let shown = shown(&file.path);
        unseen.remove(file.module.as_str());
        let Some(&own_rank) = ranks.rank.get(&file.module) else {
            violations.push(format!("{shown}: module `{}` has no rank", file.module));
            continue;
        };
        let source = Source::scan(&read(&file.path));
        for (line, path) in source.paths(&file.module, &ranks.children(&file.module)) {
            match ranks.module_of(&path) {
                Some(target) if target == file.module || ranks.rank[target] > own_rank => {}
                Some(target) => {
                    violations.push(format!("{shown}:{line}: `{}` looks up at `{target}`", file.module));
                }
                None => {
                    violations.push(format!(
                        "{shown}:{line}: `{}` comes in by lib.rs: name its module",
                        path.join("::")
                    ));
                }
            }
        }
        if !ranks.io.contains(&file.module) {
            for token in source.tokens.iter().filter(|token| token.text == "tokio") {
                violations.push(format!(
                    "{shown}:{}: `{}` names tokio, but is not an `io` module",
                    token.line, file.module
                ));
            }
        }
    }
    for module in unseen {
        violations.push(format!("{}: `{module}` has a rank but no file", shown(folder)));
    }
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
