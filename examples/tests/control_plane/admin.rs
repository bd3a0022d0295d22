//! What operators see.

use crate::plane::{FAR, NEAR, Plane, pod, service};

#[tokio::test]
async fn the_state_is_shown_without_tokens() {
    let plane = Plane::start(&(pod("till", "10.0.0.1", "far") + &service("till", "10.96.0.1", 8080))).await;
    let (status, page) = plane.ask("GET / HTTP/1.1\r\nhost: a").await;
    assert!(status == 200 && page.contains("till.shop.svc.cluster.local"), "{page}");
    let dump = plane.dump().await;
    assert_eq!(dump["workloads"].as_array().unwrap().len(), 3);
    assert_eq!(dump["callers"][0]["node"], "far");
    assert!(dump["roots"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    for token in [NEAR, FAR] {
        assert!(!page.contains(token) && !dump.to_string().contains(token));
        assert!(!plane.process.stderr().iter().any(|line| line.contains(token)));
    }
    assert_eq!(plane.ask("GET /healthz/ready HTTP/1.1\r\nhost: a").await.0, 200);
}

#[tokio::test]
async fn a_browser_replaces_no_root() {
    let plane = Plane::start("").await;
    let request = "POST /authority?step=prepare HTTP/1.1\r\nhost: a\r\norigin: http://elsewhere.example";
    assert_eq!(plane.ask(request).await.0, 403);
    assert_eq!(
        plane.ask("GET /authority?step=prepare HTTP/1.1\r\nhost: a").await.0,
        405
    );
    assert_eq!(plane.ask("POST /authority?step=all HTTP/1.1\r\nhost: a").await.0, 400);
    assert_eq!(plane.ask("GET /nothing HTTP/1.1\r\nhost: a").await.0, 404);
}
