//! The page as Chromium shows it, over the DevTools protocol.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "test code")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::super::flow::Route;
use super::super::graph::Kind;
use super::super::graph::tests::{HOSTILE, graph};
use super::*;

/// Seconds after which the browser is ended whatever it does.
const LIMIT: &str = "60";

struct Browser {
    child: Child,
    commands: File,
    answers: BufReader<File>,
    session: Option<String>,
    last: u64,
    /// What scripts threw and nobody caught.
    exceptions: Vec<Value>,
    _dir: TempDir,
}

impl Browser {
    /// Opens a page.
    fn open(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [commands, answers] = ["commands", "answers"].map(|name| dir.path().join(name));
        assert!(
            Command::new("mkfifo")
                .args([&commands, &answers])
                .status()
                .unwrap()
                .success()
        );
        // The browser's own sandbox wants more of a system than tests may have.
        let start = r#"exec timeout "$LIMIT" chromium --headless --no-sandbox --disable-gpu \
            --user-data-dir="$PROFILE" --remote-debugging-pipe 3<"$COMMANDS" 4>"$ANSWERS""#;
        let child = Command::new("sh")
            .args(["-c", start])
            .env("LIMIT", LIMIT)
            .env("PROFILE", dir.path().join("profile"))
            .env("COMMANDS", &commands)
            .env("ANSWERS", &answers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            child,
            commands: OpenOptions::new().write(true).open(commands).unwrap(),
            answers: BufReader::new(File::open(answers).unwrap()),
            session: None,
            last: 0,
            exceptions: Vec::new(),
            _dir: dir,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.call("Runtime.enable", &json!({}));
        browser.call("Page.navigate", &json!({"url": url}));
        browser
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut command = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        write!(self.commands, "{command}\0").unwrap();
        loop {
            let mut answer = Vec::new();
            self.answers.read_until(0, &mut answer).unwrap();
            assert_eq!(answer.pop(), Some(0), "Chromium has ended");
            let mut answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["method"] == "Runtime.exceptionThrown" {
                self.exceptions.push(answer["params"].take());
            } else if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// What an expression is on the page.
    fn ask(&mut self, expression: &str) -> Value {
        let mut answer = self.call(
            "Runtime.evaluate",
            &json!({"expression": expression, "returnByValue": true}),
        );
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    fn count(&mut self, selector: &str) -> u64 {
        self.ask(&format!("document.querySelectorAll({selector:?}).length"))
            .as_u64()
            .unwrap()
    }

    fn text(&mut self, selector: &str) -> Value {
        self.ask(&format!("document.querySelector({selector:?})?.textContent"))
    }

    /// Waits until an expression is true.
    async fn until(&mut self, expression: &str) {
        for _ in 0..300 {
            if self.ask(expression) == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("never: {expression}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_draws_the_graph_follows_it_and_takes_no_name_for_markup() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, shown) = watch::channel(Arc::new(graph()));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(Page { graph: shown }.serve(listener, async {
        stopped.await.unwrap();
    }));

    let mut browser = Browser::open(&url);
    browser.until("document.body?.dataset.looks >= 1").await;
    for (selector, count) in [
        (".node", 5),
        (".node.workload.enrolled", 2),
        (".node.service", 2),
        (".node.stranger", 1),
        (".link.node_proxy", 2),
        (".link.plaintext", 2),
        (".link.denied", 0),
        (".link.member", 1),
        (".arrow", 4),
        ("#flows tr", 2),
        ("#problems li", 0),
    ] {
        assert_eq!(browser.count(selector), count, "{selector}");
    }
    let link = r#"[data-from="workload/shop/cart"][data-to="service/till.shop.svc"]"#;
    assert_eq!(
        browser.ask(&format!("document.querySelector({link:?}).getTotalLength() > 100")),
        true
    );

    // A name is text in a cell, in a node and in its tooltip, and nothing else anywhere.
    assert_eq!(browser.text("#flows tr td"), HOSTILE);
    assert_eq!(browser.text(".node.stranger title"), HOSTILE);
    assert_eq!(browser.count("img, iframe, script:not([src])"), 0);

    let mut next = graph();
    next.nodes.retain(|node| node.kind != Kind::Stranger);
    next.flows.retain(|flow| flow.route == Route::NodeProxy);
    next.links.retain(|link| link.route == Some(Route::NodeProxy));
    next.flows[0].route = Route::Denied;
    next.flows[0].connections = 7.0;
    for link in &mut next.links {
        link.route = Some(Route::Denied);
        link.connections_per_second = 2.0;
    }
    next.problems = vec![HOSTILE.to_owned()];
    sender.send_replace(Arc::new(next));
    browser
        .until("document.querySelectorAll('.link.denied').length === 2")
        .await;
    for (selector, count) in [
        (".node", 4),
        (".node.stranger", 0),
        (".link", 2),
        (".rate.denied", 2),
        ("img", 0),
    ] {
        assert_eq!(browser.count(selector), count, "{selector}");
    }
    assert_eq!(browser.text(".rate.denied"), "2.0/s");
    assert_eq!(browser.text("#legend .denied b"), "1");
    assert_eq!(browser.text("#flows td.number"), "7");
    assert_eq!(browser.text("#problems li"), HOSTILE);
    let picture = browser.call("Page.captureScreenshot", &json!({}));
    assert!(picture["data"].as_str().unwrap().len() > 10_000);

    // Even a page with a mistake in it would make no markup of text.
    let made = "try { document.body.innerHTML = '<img>'; 'markup' } catch (error) { error.name }";
    assert_eq!(browser.ask(made), "TypeError");

    stop.send(()).unwrap();
    tasks.join_next().await.unwrap().unwrap();
    browser
        .until("document.querySelector('#state').className === 'stale'")
        .await;
    assert_eq!(browser.exceptions, Vec::<Value>::new());
}
