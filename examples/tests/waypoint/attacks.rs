//! Requests that two programs could take for different ones.

use crate::cluster::Cluster;

#[tokio::test]
async fn no_ambiguous_request_reaches_an_endpoint() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: a\r\n".repeat(200));
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000));
    for (request, status) in [
        // What a message's end is, said in two ways.
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
            400,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 4\r\n\r\nabcd", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        // Lines that end or begin otherwise.
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nx_forwarded_for: a\r\n\r\n", 400),
        // Whom it is for.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n", 400),
        ("GET https://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: me@a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 426),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 501),
        ("GET / HTTP/1.1\r\nhost: a\r\nexpect: tea\r\n\r\n", 417),
        // Too much.
        (&long, 431),
        (&many, 431),
        (&target, 431),
    ] {
        let request = match request.split_once("\r\n") {
            Some((line, rest)) => format!("{line}\r\nconnection: close\r\n{rest}"),
            None => request.to_owned(),
        };
        let answer = caller.raw(request.as_bytes()).await;
        let found = answer.split(' ').nth(1).unwrap_or_default();
        let shown: String = request.chars().take(100).collect();
        assert_eq!(found, status.to_string(), "{shown:?}: {answer:?}");
    }
    assert_eq!(cluster.one.asked(), 0);
}

#[tokio::test]
async fn what_is_sent_on_is_framed_anew() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    // A length beside chunks is none, and is not told to anybody (RFC 9112 §6.3).
    for lines in [
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
    ] {
        let both = format!("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let answer = caller.raw(both.as_bytes()).await;
        let (_, told) = answer.split_once("\r\n\r\n").unwrap();
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        assert_eq!(
            (&told["body"], told["headers"].get("content-length")),
            (&"abc".into(), None),
            "{told}"
        );
    }
    // A chunk that is none ends the connection, with or without an answer.
    let bad = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n\
               GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = caller.raw(bad.as_bytes()).await;
    assert!(!answer.contains("/admin"), "{answer}");
}

/// Any token is a method, and servers differ in what they take for a request line.
#[tokio::test]
async fn no_spelling_makes_a_request_pass_unread() {
    let cluster = Cluster::start(crate::policy::DENY_ADMIN).await;
    let caller = cluster.call("cart").await;
    let rest = "\r\nhost: a\r\nconnection: close\r\n\r\n";
    let long = "a".repeat(100);
    for method in ["get", "Get", "g", "a.b~c", &long] {
        let answer = caller.raw(format!("{method} /admin HTTP/1.1{rest}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{method}: {answer}");
    }
    // The same methods elsewhere, as they were written.
    let answer = caller.raw(format!("get / HTTP/1.1{rest}").as_bytes()).await;
    assert!(answer.contains(r#""method":"get""#), "{answer}");
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    for line in [
        " GET /admin HTTP/1.1",
        "GET\t/admin\tHTTP/1.1",
        "GET /admin HTTP/1.1 ",
        "GET /admin http/1.1",
        "GET  /admin  HTTP/1.1",
        "GET /admin\rHTTP/1.1",
    ] {
        let answer = caller.raw(format!("{line}{rest}").as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{line:?}: {answer}"
        );
    }
    assert_eq!(cluster.one.asked(), 0);
    assert!(
        !cluster.told().iter().any(|line| line.contains("connection complete")),
        "{:?}",
        cluster.told()
    );
}

/// What servers take for a request is treated as one, whatever policies there are.
#[tokio::test]
async fn no_request_passes_unread() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let boss = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/shop/sa/boss\r\nconnection: close\r\n\r\n";
    let answer = caller
        .raw(format!("\r\n\nGET / HTTP/1.1\r\nhost: a\r\n{boss}").as_bytes())
        .await;
    let (_, told) = answer.split_once("\r\n\r\n").unwrap();
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    let lines = &told["headers"];
    assert!(
        lines.get("x-forwarded-client-cert").is_none() && lines.get("x-request-id").is_some(),
        "{told}"
    );
    for request in ["GET /admin\r\n", "GET /admin HTTP/1.1", "\r\n"] {
        let answer = caller.raw(request.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{request:?}: {answer}"
        );
    }
    assert_eq!(cluster.one.asked(), 1);
}
