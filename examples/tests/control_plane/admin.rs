//! What operators see.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::plane::{FAR, NEAR, Plane, pod, service};

#[tokio::test]
async fn the_state_is_shown_without_tokens() {
    let plane = Plane::start(&(pod("till", "10.0.0.1", "far") + &service("till", "10.96.0.1", 8080))).await;
    let (status, page) = plane.ask("GET / HTTP/1.1\r\nhost: 127.0.0.1").await;
    assert!(status == 200 && page.contains("till.shop.svc.cluster.local"), "{page}");
    let dump = plane.dump().await;
    assert_eq!(dump["workloads"].as_array().unwrap().len(), 3);
    assert_eq!(dump["callers"][0]["node"], "far");
    assert!(dump["roots"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    for token in [NEAR, FAR] {
        assert!(!page.contains(token) && !dump.to_string().contains(token));
        assert!(!plane.process.stderr().iter().any(|line| line.contains(token)));
    }
    assert_eq!(plane.ask("GET /healthz/ready HTTP/1.1\r\nhost: 127.0.0.1").await.0, 200);
    for name in ["pages.example:80", "intranet"] {
        let elsewhere = plane.ask(&format!("GET /config_dump HTTP/1.1\r\nhost: {name}")).await;
        assert_eq!(elsewhere.0, 421, "{name}");
    }
}

#[tokio::test]
async fn a_browser_replaces_no_root() {
    let plane = Plane::start("").await;
    let request = "POST /authority?step=prepare HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://elsewhere.example";
    assert_eq!(plane.ask(request).await.0, 403);
    assert_eq!(
        plane
            .ask("GET /authority?step=prepare HTTP/1.1\r\nhost: 127.0.0.1")
            .await
            .0,
        405
    );
    assert_eq!(
        plane
            .ask("POST /authority?step=all HTTP/1.1\r\nhost: 127.0.0.1")
            .await
            .0,
        400
    );
    assert_eq!(plane.ask("GET /nothing HTTP/1.1\r\nhost: 127.0.0.1").await.0, 404);
}

#[tokio::test]
async fn where_a_token_is_asked_for_nobody_operates_without_it() {
    let plane = Plane::start_with("", |dir| {
        let file = dir.path().join("operators");
        std::fs::write(&file, "the-token-of-the-operators\n").unwrap();
        vec!["--admin-token".into(), file.display().to_string()]
    })
    .await;
    let ask = async |request: &str, header: &str| {
        plane
            .ask(&format!("{request} HTTP/1.1\r\nhost: 127.0.0.1{header}"))
            .await
            .0
    };
    let bearer = "\r\nauthorization: Bearer the-token-of-the-operators";
    for request in [
        "GET /",
        "GET /config_dump",
        "POST /authority?step=prepare",
        "GET /nothing",
    ] {
        assert_eq!(ask(request, "").await, 401, "{request}");
        assert_eq!(ask(request, &bearer.replace("the-", "a-")).await, 401, "{request}");
    }
    assert_eq!(ask("GET /healthz/ready", "").await, 200);
    assert_eq!(ask("GET /", bearer).await, 200);
    // As a browser asks.
    let basic = "\r\nauthorization: Basic bWU6dGhlLXRva2VuLW9mLXRoZS1vcGVyYXRvcnM=";
    assert_eq!(ask("GET /config_dump", basic).await, 200);
    assert_eq!(ask("POST /authority?step=prepare", bearer).await, 200);
    assert!(!plane.process.stderr().iter().any(|line| line.contains("the-token")));
}

#[tokio::test]
async fn elsewhere_operators_are_spoken_to_by_tls() {
    let plane = Plane::start_with("", |dir| {
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("operators"), "the-token-of-the-operators").unwrap();
        let flags = [
            "--tls",
            "control.mesh",
            "--roots",
            &path("roots.pem"),
            "--admin-token",
            &path("operators"),
            "--admin",
            "0.0.0.0:0",
        ];
        flags.map(str::to_owned).to_vec()
    })
    .await;
    let port = plane.admin.port();
    let mut plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    plain
        .write_all(b"GET /config_dump HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"));

    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut tls = plane.connect_tls(tcp, "control.mesh").await;
    tls.write_all(b"GET /config_dump HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.ok();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}
