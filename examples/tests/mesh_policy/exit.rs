//! Exit codes, and the one line for what is bad.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use crate::{Run, mesh_policy};

const ALLOW_80: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: n}
spec:
  rules:
  - to:
    - operation: {ports: [80]}
";

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn in_folder(folder: &TempDir, args: &[&str]) -> Run {
    let path = folder.path().to_str().unwrap();
    let args: Vec<_> = args.iter().map(|arg| arg.replace('@', path)).collect();
    mesh_policy(args.iter().map(String::as_str))
}

/// The one line of a run that failed, without the folder's path.
fn refusal(folder: &TempDir, args: &[&str]) -> String {
    let run = in_folder(folder, args);
    assert_eq!((run.code, run.stderr.lines().count()), (2, 1), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    run.stderr.trim_end().replace(folder.path().to_str().unwrap(), "@")
}

#[test]
fn allowed_is_0_and_denied_is_1() {
    let folder = folder(&[("a.yaml", ALLOW_80)]);
    assert_eq!(in_folder(&folder, &["check", "@", "--port", "80"]).code, 0);
    assert_eq!(in_folder(&folder, &["check", "@", "--port", "81"]).code, 1);
    assert_eq!(in_folder(&folder, &["explain", "@", "--port", "81"]).code, 1);
    assert_eq!(
        in_folder(&folder, &["check", "@", "--port", "81", "--namespace", "other"]).code,
        0
    );
    let unsaid = in_folder(&folder, &["check", "@"]);
    assert_eq!(unsaid.code, 1, "what is not said does not allow: {}", unsaid.stdout);
}

#[test]
fn findings_are_1_and_advice_only_if_asked() {
    let wrong = ALLOW_80.replace("ports: [80]", "ports: [80], notPorts: [80]");
    let advice = ALLOW_80.replace("ports: [80]", "hosts: [a.example]");
    let folder = folder(&[
        ("good.yaml", ALLOW_80),
        ("wrong.yaml", &wrong),
        ("advice.yaml", &advice),
    ]);
    assert_eq!(in_folder(&folder, &["lint", "@/good.yaml", "--strict"]).code, 0);
    assert_eq!(in_folder(&folder, &["lint", "@/wrong.yaml"]).code, 1);
    assert_eq!(in_folder(&folder, &["lint", "@/advice.yaml"]).code, 0);
    assert_eq!(in_folder(&folder, &["lint", "@/advice.yaml", "--strict"]).code, 1);
}

#[test]
fn differences_are_1() {
    let wider = ALLOW_80.replace("[80]", "[80, 81]");
    let folder = folder(&[("before/a.yaml", ALLOW_80), ("after/deep/b.yml", &wider)]);
    assert_eq!(in_folder(&folder, &["diff", "@/before", "@/after"]).code, 1);
    assert_eq!(in_folder(&folder, &["diff", "@/before", "@/after", "--wider"]).code, 1);
    let narrower = in_folder(&folder, &["diff", "@/after", "@/before", "--wider"]);
    assert_eq!((narrower.code, narrower.stdout.starts_with("proven")), (0, true));
}

#[test]
fn what_is_not_found_is_not_called_proven() {
    let of = |block: &str| ALLOW_80.replace("to:\n    - operation: {ports: [80]}", block);
    let whole = of("from:\n    - source: {ipBlocks: [0.0.0.0/0]}");
    let halves = of("from:\n    - source: {ipBlocks: [0.0.0.0/1]}\n    - source: {ipBlocks: [128.0.0.0/1]}");
    let folder = folder(&[("a.yaml", &whole), ("b.yaml", &halves)]);
    let run = in_folder(&folder, &["diff", "@/a.yaml", "@/b.yaml", "--candidates", "100"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("100 requests, which is no proof"), "{}", run.stdout);
}

#[test]
fn what_was_converted_there_and_back_is_proven_the_same() {
    let policy = ALLOW_80.replace("ports: [80]", "methods: [GET], notPaths: [/b/*, '/c/{**}']");
    let folder = folder(&[("http.yaml", &policy), ("l4.yaml", ALLOW_80)]);
    for (file, format, source, dialect) in [
        ("http", "envoy-http", "envoy", "envoy-http"),
        ("l4", "envoy-tcp", "envoy", "envoy-tcp"),
        ("l4", "ztunnel", "ztunnel", "ztunnel"),
        ("http", "kubernetes", "kubernetes", "strict"),
    ] {
        let before = format!("@/{file}.yaml");
        let there = in_folder(&folder, &["convert", &before, "--to", format, "--json"]);
        assert_eq!((there.code, there.stderr.as_str()), (0, ""), "{format}");
        fs::write(folder.path().join("there.json"), &there.stdout).unwrap();
        let back = ["convert", "@/there.json", "--from", source, "--to", "kubernetes"];
        let back = in_folder(&folder, &back);
        assert_eq!((back.code, back.stderr.as_str()), (0, ""), "{format}");
        fs::write(folder.path().join("back.yaml"), &back.stdout).unwrap();
        let diff = in_folder(&folder, &["diff", &before, "@/back.yaml", "--dialect", dialect]);
        assert_eq!(
            (diff.code, diff.stdout.as_str()),
            (0, "proven: both admit the same\n"),
            "{format}"
        );
    }
    // What people read says the same as what programs do.
    let text = in_folder(&folder, &["convert", "@/http.yaml", "--to", "envoy-http"]);
    fs::write(folder.path().join("there.yaml"), &text.stdout).unwrap();
    let back = ["convert", "@/there.yaml", "--from", "envoy", "--to", "envoy-http"];
    assert_eq!(in_folder(&folder, &back).stdout, text.stdout);
}

#[test]
fn what_a_format_cannot_hold_is_an_error_or_said() {
    let audit = ALLOW_80.replace("spec:", "spec:\n  action: AUDIT");
    let folder = folder(&[
        ("a.yaml", &audit),
        ("b.yaml", &audit),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\n"),
    ]);
    let expected = "@/a.yaml:2: policy `n/p`: action: this plane ignores the action";
    let args = ["convert", "@/a.yaml", "--to", "ztunnel"];
    assert_eq!(
        refusal(&folder, &args),
        format!("mesh-policy: {expected} (--lossy leaves it out)")
    );
    let lossy = in_folder(&folder, &[&args[..], &["--lossy"]].concat());
    let stderr = lossy.stderr.replace(folder.path().to_str().unwrap(), "@");
    assert_eq!((lossy.code, lossy.stdout.as_str()), (1, "[]\n"));
    assert_eq!(stderr, format!("mesh-policy: left out: {expected}\n"));
    for (args, expected) in [
        (
            &["convert", "@/pod.yaml", "--to", "kubernetes"][..],
            "@/pod.yaml:1: kind: a `Pod` is no policy (--lossy leaves it out)",
        ),
        (
            &["convert", "@/a.yaml", "@/b.yaml", "--to", "kubernetes"],
            "@/b.yaml:2: policy `n/p` is at @/a.yaml:2, too",
        ),
    ] {
        assert_eq!(refusal(&folder, args), format!("mesh-policy: {expected}"));
    }
}

#[test]
fn what_is_no_message_is_refused_with_its_place() {
    let message = r#"{"name": "p", "namespace": "n", "rules": [
  {"clauses": [{"matches": [{"destinationPorts": [70000]}]}]}
]}"#;
    let unknown = message.replace("destinationPorts", "destinationPort");
    let selected = message
        .replace("70000", "80")
        .replace(r#""rules""#, r#""scope": "WORKLOAD_SELECTOR", "rules""#);
    let folder = folder(&[("a.json", message), ("b.json", &unknown), ("c.json", &selected)]);
    let fault = |file| refusal(&folder, &["convert", file, "--from", "ztunnel", "--to", "kubernetes"]);
    assert_eq!(
        fault("@/a.json"),
        "mesh-policy: @/a.json: policy `n/p`: rules[0].clauses[0].matches[0].destination_ports[0]: `70000` is no port"
    );
    assert!(fault("@/b.json").starts_with("mesh-policy: @/b.json:2: unknown field `destinationPort`"));
    let expected = "policy `n/p`: scope: the message does not say which workloads are selected";
    assert!(fault("@/c.json").contains(expected));
}

#[test]
fn a_witness_can_be_checked() {
    let after = ALLOW_80.replace("ports: [80]", "methods: [GET], hosts: [a.example], paths: [/b/*]");
    let folder = folder(&[("a.yaml", ALLOW_80), ("b.yaml", &after)]);
    let diff = in_folder(
        &folder,
        &["diff", "@/a.yaml", "@/b.yaml", "--dialect", "envoy-http", "--json"],
    );
    let answer: serde_json::Value = serde_json::from_str(&diff.stdout).unwrap();
    assert_eq!(answer["answer"], "different");
    fs::write(folder.path().join("facts.json"), answer["facts"].to_string()).unwrap();
    for (file, side) in [("@/a.yaml", "before"), ("@/b.yaml", "after")] {
        let check = ["check", file, "--dialect", "envoy-http", "--facts", "@/facts.json"];
        let allowed = answer[side]["allowed"].as_bool().unwrap();
        assert_eq!(in_folder(&folder, &check).code == 0, allowed, "{side}");
    }
}

#[test]
fn headers_that_are_not_said_may_be_there() {
    let debug = ALLOW_80.replace(
        "  rules:\n  - to:\n    - operation: {ports: [80]}",
        "  action: DENY\n  rules:\n  - when:\n    - {key: 'request.headers[x-debug]', values: ['*']}",
    );
    let folder = folder(&[
        ("a.yaml", &debug),
        ("facts.yaml", "request: {method: GET, headers: none}"),
    ]);
    let check = ["check", "@/a.yaml", "--dialect", "envoy-http"];
    for (more, code) in [
        (&["--method", "GET", "--path", "/"][..], 1),
        (&["--method", "GET", "--no-headers"], 0),
        (&["--method", "GET", "--header", "x-other: a"], 0),
        (&["--method", "GET", "--header", "x-debug: a"], 1),
        (&["--facts", "@/facts.yaml"], 0),
    ] {
        let run = in_folder(&folder, &[&check[..], more].concat());
        assert_eq!(run.code, code, "{more:?}: {}", run.stdout);
    }
}

#[test]
fn flags_count_before_the_file() {
    let folder = folder(&[("a.yaml", ALLOW_80), ("facts.yml", "peer: none\nport: 81\n")]);
    let facts = ["check", "@/a.yaml", "--facts", "@/facts.yml"];
    assert_eq!(in_folder(&folder, &facts).code, 1);
    let with_flag: Vec<_> = facts.into_iter().chain(["--port", "80"]).collect();
    assert_eq!(in_folder(&folder, &with_flag).code, 0);
}

#[test]
fn bad_input_is_one_line_with_its_place() {
    let unknown = ALLOW_80.replace("ports", "port");
    let invalid = ALLOW_80.replace("[80]", "[http]");
    let folder = folder(&[
        ("good.yaml", ALLOW_80),
        ("unknown.yaml", &unknown),
        ("invalid.yaml", &invalid),
        ("no.yaml", "a: ["),
        ("facts.yaml", "peer: none\nprot: 80\n"),
        ("empty/readme.txt", ""),
    ]);
    for (args, expected) in [
        (
            &["check", "@/missing.yaml"][..],
            "@/missing.yaml: No such file or directory (os error 2)",
        ),
        (
            &["lint", "@/empty"],
            "@/empty: there is no file that ends in .yaml, .yml or .json",
        ),
        (
            &["lint", "@/unknown.yaml"],
            "@/unknown.yaml:8: there is no field `spec.rules[0].to[0].operation.port`",
        ),
        (
            &["check", "@/invalid.yaml"],
            "@/invalid.yaml:8: policy `n/p`: rules[0].to[0].operation.ports[0]: `http` is no port from 0 to 65535",
        ),
        (
            &["check", "@/good.yaml", "--facts", "@/facts.yaml"],
            "@/facts.yaml:2: there is no field `prot`",
        ),
        (
            &["check", "@/good.yaml", "--method", "GET", "--path", "cart"],
            "--path `cart`: the path does not begin with `/`",
        ),
        (
            &["check", "@/good.yaml", "--host", "a.example"],
            "--method: a request has one",
        ),
        (
            &["check", "@/good.yaml", "--port", "http"],
            "invalid value 'http' for '--port <PORT>': invalid digit found in string",
        ),
    ] {
        assert_eq!(refusal(&folder, args), format!("mesh-policy: {expected}"));
    }
    let syntax = refusal(&folder, &["lint", "@/no.yaml"]);
    assert!(
        syntax.starts_with("mesh-policy: @/no.yaml:2: this is no yaml"),
        "{syntax}"
    );
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: n}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn a_demand_for_certificates_is_not_left_out() {
    let folder = folder(&[
        ("a/a.yaml", ALLOW_80),
        ("b/a.yaml", ALLOW_80),
        ("b/strict.yaml", STRICT),
    ]);
    let problem = "mesh-policy: --namespace: what PeerAuthentication `n/strict` demands depends on it";
    for args in [
        &["check", "@/b", "--port", "80", "--peer", "none"][..],
        &["explain", "@/b", "--port", "80", "--peer", "none"],
        &["diff", "@/a", "@/b"],
    ] {
        assert_eq!(refusal(&folder, args), problem);
    }
    let check = ["check", "@/b", "--port", "80", "--peer", "none", "--namespace", "n"];
    assert_eq!(in_folder(&folder, &check).code, 1);
    let diff = in_folder(&folder, &["diff", "@/a", "@/b", "--namespace", "n"]);
    assert_eq!((diff.code, diff.stdout.starts_with("different")), (1, true));
}

#[test]
fn what_would_not_count_is_refused() {
    let old = ALLOW_80.replace("security.istio.io/v1", "rbac.istio.io/v1alpha1");
    let folder = folder(&[
        ("old.yaml", &old),
        ("twice/a.yaml", ALLOW_80),
        ("twice/b.yaml", ALLOW_80),
        ("empty.yaml", ""),
        ("nothing/a.yaml", "# not yet\n"),
    ]);
    for (path, problem) in [
        (
            "@/old.yaml",
            "@/old.yaml:2: `rbac.istio.io/v1alpha1` is no known version of the api",
        ),
        ("@/twice", "@/twice/b.yaml:2: policy `n/p` is at @/twice/a.yaml:2, too"),
        ("@/empty.yaml", "@/empty.yaml: there is no policy"),
        ("@/nothing", "@/nothing: there is no policy"),
    ] {
        let problem = format!("mesh-policy: {problem}");
        assert_eq!(refusal(&folder, &["check", path, "--port", "80"]), problem);
        if path != "@/twice" {
            assert_eq!(refusal(&folder, &["lint", path]), problem);
        }
    }
    let replaced = in_folder(&folder, &["lint", "@/twice"]);
    assert_eq!(replaced.code, 1, "{}", replaced.stdout);
}

#[test]
fn what_ztunnel_is_not_told_is_said() {
    let tried = ALLOW_80.replace("name: p", "name: p, annotations: {istio.io/dry-run: 'true'}");
    let wide = r#"[{"name": "d", "namespace": "n", "scope": "GLOBAL", "action": "DENY", "rules": [{"clauses": []}]}]"#;
    let folder = folder(&[("tried.yaml", &tried), ("wide.json", wide)]);
    for (file, from, expected) in [
        ("@/tried.yaml", "kubernetes", "dry-run: "),
        ("@/wide.json", "ztunnel", "scope: "),
    ] {
        let said = refusal(&folder, &["convert", file, "--from", from, "--to", "ztunnel"]);
        assert!(
            said.contains(expected) && said.ends_with("(--lossy leaves it out)"),
            "{said}"
        );
    }
}

#[test]
fn what_is_no_policy_belongs_to_others() {
    let service = format!("{ALLOW_80}---\napiVersion: v1\nkind: Service\nmetadata: {{name: a}}\n");
    let folder = folder(&[("all.yaml", &service)]);
    assert_eq!(in_folder(&folder, &["check", "@", "--port", "80"]).code, 0);
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let folder = folder(&[("..2026_01_02/a.yaml", ALLOW_80)]);
    symlink("..2026_01_02", folder.path().join("..data")).unwrap();
    symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    assert_eq!(in_folder(&folder, &["check", "@", "--port", "80"]).code, 0);
}

#[test]
fn a_link_to_a_folder_is_not_passed_over() {
    let folder = folder(&[
        ("real/a.yaml", ALLOW_80),
        ("all/b.yaml", &ALLOW_80.replace("name: p", "name: q")),
    ]);
    symlink("../real", folder.path().join("all/more")).unwrap();
    assert_eq!(
        refusal(&folder, &["check", "@/all", "--port", "80"]),
        "mesh-policy: @/all/more: a link to a folder is not followed: name the folder itself"
    );
}

#[test]
fn help_tells_the_exit_codes() {
    let help = mesh_policy(["--help"]);
    assert_eq!(help.code, 0);
    for part in [
        "Exit code 0",
        "2: a flag or a file is bad",
        "3: whether the sets differ is not decided",
    ] {
        let text: Vec<_> = help.stdout.split_whitespace().collect();
        assert!(text.join(" ").contains(part), "{part}");
    }
    let convert = mesh_policy(["convert", "--help"]).stdout;
    for flag in [
        "--from",
        "--to",
        "--lossy",
        "--trust-domain",
        "--waypoint",
        "envoy-http",
        "ztunnel",
    ] {
        assert!(convert.contains(flag), "{flag}");
    }
}
