//! Policies from files, as they change.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mesh_testkit::ca::{client, waypoint};
use tokio::time::Instant;

use crate::pair::{Listening, Served};
use crate::world::{App, Pki, Process, Tunnel, hbone_cat};

/// A policy of namespace `default` with these rules.
fn policy(action: &str, name: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec:\n  action: {action}\n  rules:\n{rules}\n"
    )
}

fn allow(name: &str, account: &str) -> String {
    let rules = format!("  - from:\n    - source: {{serviceAccounts: [{account}]}}");
    policy("ALLOW", name, &rules)
}

/// A server whose mesh lets two clients speak, and whose policies are in a file.
struct Policed {
    served: Served,
    file: PathBuf,
}

impl Policed {
    async fn start(text: &str) -> Self {
        Self::start_with(text, |_| {}).await
    }

    async fn start_with(text: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let pki = Pki::new();
        let file = pki.path().join("policies.yaml");
        fs::write(&file, text).unwrap();
        let served = Served::start_in(pki, |command| {
            command
                .args(["--allow", &waypoint().to_string(), "--policy"])
                .arg(&file);
            adjust(command);
        });
        Self {
            served: served.await,
            file,
        }
    }

    /// Waits until the server has taken `text`.
    async fn change(&self, text: &str, nth: usize) {
        fs::write(&self.file, text).unwrap();
        self.served.server.says_times("policies changed: ", nth).await;
    }

    /// The client that no policy below speaks of.
    async fn other(&self, echo: &App) -> Listening {
        let files = self.served.pki.issue(&waypoint());
        let mut command = self.served.dial_as(&files, echo.addr);
        command.args(["--listen", "127.0.0.1:0"]);
        let mut process = Process::start(&mut command);
        let addr = process.ready_at("listen").await;
        Listening { process, addr }
    }

    async fn is_refused(&self, listening: &Listening, reason: &str) {
        listening.is_reset().await;
        let line = listening.process.says("no tunnel").await;
        assert!(line.contains("peer refused the tunnel with status 401"), "{line}");
        let line = self.served.server.says("tunnel refused").await;
        assert!(line.contains("status=401") && line.contains(reason), "{line}");
    }
}

#[tokio::test]
async fn a_tunnel_that_no_policy_allows_is_answered_401() {
    let (policed, echo) = (Policed::start(&allow("web", "default/client")).await, App::echo().await);
    policed.served.listen(echo.addr).await.exchange(1000).await;
    let other = policed.other(&echo).await;
    policed.is_refused(&other, "reason=no policy allows it").await;
}

#[tokio::test]
async fn a_denial_names_its_rule() {
    let echo = App::echo().await;
    let rules = format!("  - to:\n    - operation: {{ports: [\"{}\"]}}", echo.addr.port());
    let policed = Policed::start(&policy("DENY", "closed", &rules)).await;
    let client = policed.served.listen(echo.addr).await;
    let reason = "reason=denied by `ns[default]-policy[closed]-rule[0]`";
    policed.is_refused(&client, reason).await;
}

/// Whatever a client asks for, all tunnels go to one address.
#[tokio::test]
async fn with_a_fixed_destination_policies_judge_that_one() {
    let echo = App::echo().await;
    let invented = "192.0.2.1:9".parse().unwrap();
    let port = format!("  - to:\n    - operation: {{ports: [\"{}\"]}}", echo.addr.port());
    let address = "  - when:\n    - {key: destination.ip, values: [127.0.0.1]}";
    for rules in [&*port, address] {
        let forward = |command: &mut Command| {
            command.args(["--forward", &echo.addr.to_string()]);
        };
        let denying = Policed::start_with(&policy("DENY", "closed", rules), forward).await;
        let client = denying.served.listen(invented).await;
        let reason = "reason=denied by `ns[default]-policy[closed]-rule[0]`";
        denying.is_refused(&client, reason).await;

        let allowing = Policed::start_with(&policy("ALLOW", "open", rules), forward).await;
        allowing.served.listen(invented).await.exchange(1000).await;
    }
}

#[tokio::test]
async fn a_change_closes_exactly_the_tunnels_that_are_not_admitted_any_more() {
    let both = allow("web", "default/client") + "---\n" + &allow("edge", "default/waypoint");
    let (policed, echo) = (Policed::start(&both).await, App::echo().await);
    let (near, other) = (policed.served.listen(echo.addr).await, policed.other(&echo).await);
    let (mut kept, mut lost) = (Tunnel::open(near.addr).await, Tunnel::open(other.addr).await);
    policed.change(&allow("web", "default/client"), 1).await;
    lost.is_reset().await;
    let line = policed.served.server.says("tunnel closed").await;
    assert!(line.contains(&waypoint().to_string()), "{line}");
    kept.exchange().await;
    policed.is_refused(&other, "reason=no policy allows it").await;

    policed.change(&both, 2).await;
    other.exchange(1000).await;
    kept.finish().await;
    let lines = policed.served.server.stderr();
    assert!(
        !lines.iter().any(|line| line.contains(&format!("peer={} ", client()))),
        "{lines:?}"
    );
}

/// Whenever the change falls between two looks at the file.
#[tokio::test]
async fn a_denial_closes_its_tunnels_within_a_second() {
    let both = allow("web", "default/client") + "---\n" + &allow("edge", "default/waypoint");
    let from = "  - from:\n    - source: {serviceAccounts: [default/waypoint]}";
    let closed = format!("{both}---\n{}", policy("DENY", "closed", from));
    let (policed, echo) = (Policed::start(&both).await, App::echo().await);
    let (near, other) = (policed.served.listen(echo.addr).await, policed.other(&echo).await);
    let mut kept = Tunnel::open(near.addr).await;
    for time in 0..4 {
        let mut lost = Tunnel::open(other.addr).await;
        tokio::time::sleep(time * Duration::from_millis(130)).await;
        let written = Instant::now();
        fs::write(&policed.file, &closed).unwrap();
        lost.is_reset().await;
        assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
        kept.exchange().await;
        policed.change(&both, 2 * time as usize + 2).await;
    }
    kept.finish().await;
}

#[tokio::test]
async fn a_mistake_changes_nothing_and_is_named_with_its_line() {
    let (policed, echo) = (Policed::start(&allow("web", "default/client")).await, App::echo().await);
    let client = policed.served.listen(echo.addr).await;
    let mut tunnel = Tunnel::open(client.addr).await;
    let bad = "  - from:\n    - source: {ipBlocks: [10.0.0.300]}";
    fs::write(&policed.file, policy("DENY", "closed", bad)).unwrap();
    let line = policed.served.server.says("policies kept as they were").await;
    let place = format!("{}:8: policy `default/closed`", policed.file.display());
    assert!(line.contains(&place), "{line}");
    tunnel.exchange().await;
    client.exchange(1000).await;
    policed.change(&allow("web", "default/nobody"), 1).await;
    tunnel.is_reset().await;
}

/// Without policies everybody would be admitted.
#[tokio::test]
async fn a_file_that_was_emptied_changes_nothing() {
    let (policed, echo) = (Policed::start(&allow("web", "default/client")).await, App::echo().await);
    let other = policed.other(&echo).await;
    fs::write(&policed.file, "").unwrap();
    let line = policed.served.server.says("policies kept as they were").await;
    assert!(line.contains("there is no policy in it"), "{line}");
    policed.is_refused(&other, "reason=no policy allows it").await;
}

#[tokio::test]
async fn policies_that_cannot_be_enforced_are_refused() {
    let pki = Pki::new();
    let files = pki.issue(&client());
    let path = pki.path().join("policies.yaml");
    let selected = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
        metadata: {name: a, namespace: b}\nspec: {selector: {matchLabels: {app: web}}}\n";
    let tokens = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
        metadata: {name: a, namespace: b}\nspec: {}\n";
    let certificates = tokens.replace("RequestAuthentication", "PeerAuthentication");
    let service = allow("web", "default/client") + "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
    let twice = allow("web", "default/client") + "---\n" + &allow("web", "default/nobody");
    let twice_at = format!(":10: policy `default/web` is at {}:1, too", path.display());
    for (text, problem) in [
        (
            Some(selected),
            ":1: policy `b/a`: a selector or target selects nothing here: every policy applies",
        ),
        (
            Some(tokens),
            ": tokens are not verified here, so RequestAuthentication has no effect",
        ),
        (
            Some(&*certificates),
            ": every peer shows a certificate here, so PeerAuthentication has no effect",
        ),
        (Some(&*service), ":10: `Service` of `v1` is no policy"),
        (
            Some("# nothing yet\n"),
            ": there is no policy in it; one that allows all has `rules: [{}]`",
        ),
        (Some(&*twice), &*twice_at),
        (None, ": No such file or directory (os error 2)"),
    ] {
        drop(fs::remove_file(&path));
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let mut command = hbone_cat("serve", &files);
        command.args(["--bind", "127.0.0.1:0", "--allow", &client().to_string(), "--policy"]);
        command.arg(&path);
        let (code, lines) = Process::start(&mut command).end().await;
        let line = format!("hbone-cat: --policy {}{problem}", path.display());
        assert_eq!((code, lines), (Some(2), vec![line]));
    }
}
