//! Replays the inputs of `fuzz/regressions/` over the fuzz targets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library in the workspace of its own that fuzzing has")]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_input_passes_its_target() {
    for (name, target) in targets::TARGETS {
        for input in names(&regressions().join(name)) {
            println!("{name}/{input}");
            target(&fs::read(regressions().join(name).join(input)).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_binary_and_a_folder() {
    let targets: BTreeSet<String> = targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let binaries: BTreeSet<String> = names(&regressions().with_file_name("fuzz_targets"))
        .iter()
        .map(|file| file.strip_suffix(".rs").unwrap().to_owned())
        .collect();
    assert_eq!(binaries, targets);
    assert_eq!(names(regressions()), targets);
}

fn regressions() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/regressions"))
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
