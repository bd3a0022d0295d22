//! Bad flags, files and certificates: exit code 2 and one line that names what is wrong.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mesh_identity::source::dev_ca::{Extension, Name, Template};
use mesh_testkit::ca::{client, server, stranger};
use rustls::pki_types::UnixTime;

use crate::world::{Files, Pki, Process, hbone_cat};

#[tokio::test]
async fn missing_files() {
    let pki = Pki::new();
    let good = pki.issue(&server());
    let missing = pki.path().join("missing");
    for (flag, files) in in_each_place(&good, &missing) {
        assert_eq!(
            refusal(serve(&files)).await,
            format!(
                "hbone-cat: {flag} {}: No such file or directory (os error 2)",
                missing.display()
            )
        );
    }
}

#[tokio::test]
async fn unreadable_files() {
    let pki = Pki::new();
    let good = pki.issue(&server());
    // Permissions would not keep root out.
    for (flag, files) in in_each_place(&good, pki.path()) {
        assert_eq!(
            refusal(serve(&files)).await,
            format!(
                "hbone-cat: {flag} {}: Is a directory (os error 21)",
                pki.path().display()
            )
        );
    }
}

#[tokio::test]
async fn files_without_certificates_or_key() {
    let pki = Pki::new();
    let good = pki.issue(&server());
    let text = pki.path().join("text");
    fs::write(&text, "no PEM at all\n").unwrap();
    for (flag, files) in in_each_place(&good, &text) {
        let problem = if flag == "--key" {
            "no private key found"
        } else {
            "no certificate found"
        };
        assert_eq!(
            refusal(serve(&files)).await,
            format!("hbone-cat: {flag} {}: {problem}", text.display())
        );
    }
}

#[tokio::test]
async fn a_key_of_another_certificate() {
    let pki = Pki::new();
    let (one, other) = (pki.issue(&server()), pki.issue(&server()));
    let files = Files { key: other.key, ..one };
    assert_eq!(
        refusal(serve(&files)).await,
        format!(
            "hbone-cat: --key {}: the key does not match the certificate",
            files.key.display()
        )
    );
}

#[tokio::test]
async fn an_expired_certificate() {
    let pki = Pki::new();
    let hour = Duration::from_secs(3600);
    let mut template = Template::leaf(&server(), UnixTime::now());
    template.not_after = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) - hour);
    template.not_before = UnixTime::since_unix_epoch(Duration::from_secs(template.not_after.as_secs()) - hour);
    let files = from_template(&pki, template);
    let line = refusal(serve(&files)).await;
    let start = format!(
        "hbone-cat: --cert {}: the certificate expired at 2",
        files.cert.display()
    );
    assert!(line.starts_with(&start), "{line}");
}

#[tokio::test]
async fn a_certificate_without_a_spiffe_id() {
    let pki = Pki::new();
    for name in [
        Name::Dns("server.example".into()),
        Name::Uri("https://server.example/".into()),
    ] {
        let mut template = Template::leaf(&server(), UnixTime::now());
        template.names = Some(Extension::names(&[name]));
        let files = from_template(&pki, template);
        let line = refusal(serve(&files)).await;
        assert!(
            line.starts_with(&format!("hbone-cat: --cert {}: ", files.cert.display())),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_certificate_that_its_own_roots_do_not_vouch_for() {
    let pki = Pki::new();
    let other = Pki::new();
    let files = Files {
        roots: other.issue(&server()).roots,
        ..pki.issue(&server())
    };
    assert_eq!(
        refusal(serve(&files)).await,
        format!(
            "hbone-cat: --cert {}: peers would not believe this chain: \
             the certificate was not issued by a root of trust domain `cluster.local`",
            files.cert.display()
        )
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_hbone-cat"));
    command.args(["serve", "--bind", "127.0.0.1:0", "--allow", &stranger().to_string()]);
    command.arg("--cert").arg(&files.cert).arg("--key").arg(&files.key);
    command.arg(format!(
        "--roots=other.example={}",
        pki.issue(&stranger()).roots.display()
    ));
    assert_eq!(
        refusal(command).await,
        "hbone-cat: --cert: no --roots for trust domain `cluster.local`"
    );
}

#[tokio::test]
async fn peers_of_a_trust_domain_without_roots() {
    let pki = Pki::new();
    let mut command = serve(&pki.issue(&server()));
    command.args(["--allow", &stranger().to_string()]);
    assert_eq!(
        refusal(command).await,
        "hbone-cat: --allow: no --roots for trust domain `other.example`"
    );
}

#[tokio::test]
async fn bad_flags() {
    let pki = Pki::new();
    let files = pki.issue(&client());
    for (flag, value, problem) in [
        (
            "--allow",
            "spiffe://cluster.local/ns/*/sa/a",
            "`*` may only be the whole last segment of a pattern",
        ),
        ("--forward", "nowhere", "invalid socket address syntax"),
        ("--threads", "0", "0 is not in 1..=256"),
        ("--roots", "Other=roots.pem", ""),
    ] {
        let mut command = serve(&files);
        command.args([flag, value]);
        let line = refusal(command).await;
        let start = format!("hbone-cat: invalid value '{value}' for '{flag}");
        assert!(line.starts_with(&start) && line.ends_with(problem), "{line}");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_hbone-cat"));
    command.args(["dial", "--peer", "127.0.0.1:1", "--target", "app:80"]);
    assert_eq!(
        refusal(command).await,
        "hbone-cat: the following required arguments were not provided: \
         --expect <SPIFFE_ID> --cert <FILE> --key <FILE> --roots <FILE>"
    );
}

#[tokio::test]
async fn an_address_in_use() {
    let pki = Pki::new();
    let files = pki.issue(&server());
    let mut first = Process::start(&mut serve(&files));
    let addr = first.ready_at("bind").await.to_string();
    let mut second = hbone_cat("serve", &files);
    second.args(["--bind", &addr, "--allow", &client().to_string()]);
    assert_eq!(
        refusal(second).await,
        format!("hbone-cat: --bind `{addr}`: Address already in use (os error 98)")
    );
}

#[tokio::test]
async fn help_is_no_error() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["dial", "--help"],
        &["--version"],
    ] {
        let mut process = Process::start(Command::new(env!("CARGO_BIN_EXE_hbone-cat")).args(args));
        let mut stdout = process.take_stdout();
        let text = std::io::read_to_string(&mut stdout).unwrap();
        assert!(text.contains("hbone-cat"), "{text}");
        assert_eq!(process.end().await, (Some(0), vec![]));
    }
}

fn serve(files: &Files) -> Command {
    let mut command = hbone_cat("serve", files);
    command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string()]);
    command
}

/// The good files with a bad one in the place of each, and the flag that it belongs to.
fn in_each_place(good: &Files, bad: &Path) -> [(&'static str, Files); 3] {
    let bad = bad.to_owned();
    [
        (
            "--cert",
            Files {
                cert: bad.clone(),
                ..good.clone()
            },
        ),
        (
            "--key",
            Files {
                key: bad.clone(),
                ..good.clone()
            },
        ),
        (
            "--roots",
            Files {
                roots: bad,
                ..good.clone()
            },
        ),
    ]
}

fn from_template(pki: &Pki, template: Template) -> Files {
    let authority = pki.mesh.authority(server().trust_domain());
    pki.write(&server(), &authority.issue_with(template).unwrap())
}

/// The one line of a program that refuses to start.
async fn refusal(mut command: Command) -> String {
    let (code, mut lines) = Process::start(&mut command).end().await;
    assert_eq!((code, lines.len()), (Some(2), 1), "{lines:?}");
    lines.remove(0)
}
