//! Each folder in `golden/` is a directory of objects, with what it is compiled to in `golden.txt`;
//! some have more flags in `flags`.
//! With `UPDATE_GOLDEN` in the environment, these are written anew.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn objects_are_compiled_as_the_files_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/golden");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 15);
    let mut wrong = Vec::new();
    for case in cases {
        let flags = fs::read_to_string(case.join("flags")).unwrap_or_default();
        let output = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .args(["--print", "--dir"])
            .arg(&case)
            .args(flags.split_whitespace())
            .output()
            .unwrap();
        let actual = format!(
            "{}{}exit code {}\n",
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
            output.status.code().unwrap()
        );
        let golden = case.join("golden.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &actual).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != actual {
            wrong.push(format!("--- {}\n{actual}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
