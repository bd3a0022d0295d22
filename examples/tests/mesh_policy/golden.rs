//! Each file in `golden/` is a command, what it prints, and its exit code. With `UPDATE_GOLDEN` in
//! the environment, the files are written anew.

use std::fs;
use std::path::Path;

use crate::mesh_policy;

#[test]
fn prints_what_the_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mesh_policy/golden");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 15);
    let mut wrong = Vec::new();
    for file in files {
        let golden = fs::read_to_string(&file).unwrap();
        let command = golden.lines().next().unwrap();
        let args = words(command.strip_prefix("$ mesh-policy ").unwrap());
        let run = mesh_policy(args.iter().map(String::as_str));
        let actual = format!("{command}\n{}{}exit code {}\n", run.stdout, run.stderr, run.code);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &actual).unwrap();
        } else if actual != golden {
            wrong.push(format!("--- {}\n{actual}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Splits at blanks that are not between quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
