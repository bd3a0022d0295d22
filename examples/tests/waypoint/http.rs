//! Requests that pass.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Version};

use crate::cluster::{Cluster, get, told, whole};
use crate::world::soon;

#[tokio::test]
async fn a_request_reaches_the_application_of_an_endpoint() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let answer = caller.get("/a/../b?c=d").await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-shop"]),
        (200, &"one".parse().unwrap())
    );
    let told = told(&answer);
    assert_eq!(
        (&told["uri"], &told["headers"]["host"]),
        (&"/b?c=d".into(), &"till.shop.svc".into())
    );
    let headers = &told["headers"];
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-request-id"].as_str().unwrap().len(), 36);
    assert!(headers.get("x-forwarded-client-cert").is_none());
    let post = Request::post("/").header("host", "till.shop.svc");
    let answer = caller
        .send(post.body(Full::from("hello".repeat(100_000))).unwrap())
        .await;
    assert_eq!(crate::cluster::told(&answer)["body"].as_str().unwrap().len(), 500_000);
}

#[tokio::test]
async fn a_service_is_reached_by_its_name_too() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call_at("cart", "till.shop.svc:80").await;
    assert_eq!(caller.get("/").await.status(), 200);
}

#[tokio::test]
async fn what_is_not_for_this_waypoint_is_refused() {
    let cluster = Cluster::start("").await;
    for authority in [
        "free.shop.svc:80",
        "till.shop.svc:81",
        "nobody.shop.svc:80",
        "10.1.2.3:80",
    ] {
        let caller = cluster.call_at("cart", authority).await;
        assert!(caller.open().await.is_err(), "{authority}");
    }
}

#[tokio::test]
async fn many_requests_share_a_tunnel_by_http2() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let (send, _connection) = caller.http2().await;
    let requests = (0..50).map(|number| {
        let mut send = send.clone();
        async move {
            let request = Request::post(format!("http://till.shop.svc/{number}"));
            let request = request.body(Full::from(Bytes::from(vec![b'a'; 10_000]))).unwrap();
            whole(soon("answer", send.send_request(request)).await.unwrap()).await
        }
    });
    let mut tasks: tokio::task::JoinSet<_> = requests.collect();
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap();
        let told = told(&answer);
        assert_eq!(
            (answer.version(), &told["version"]),
            (Version::HTTP_2, &"HTTP/2.0".into())
        );
        assert_eq!(told["body"].as_str().unwrap().len(), 10_000);
    }
    assert_eq!(cluster.one.asked(), 50);
}

#[tokio::test]
async fn what_is_between_two_alone_goes_no_further() {
    let cluster = Cluster::start_with("", "shows_clients = true\n").await;
    let caller = cluster.call("cart").await;
    let lines = [
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("te", "trailers"),
        (
            "x-forwarded-client-cert",
            "By=me;URI=spiffe://cluster.local/ns/shop/sa/boss",
        ),
        ("x-request-id", "mine"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let told = told(&caller.send(get("/", &lines)).await);
    let headers = &told["headers"];
    assert!(
        headers.get("x-secret").is_none() && headers.get("connection").is_none(),
        "{headers}"
    );
    assert_eq!(
        (&headers["x-request-id"], &headers["traceparent"]),
        (&"mine".into(), &lines[5].1.into())
    );
    let [own, client] = ["waypoint", "cart"].map(|account| format!("spiffe://cluster.local/ns/shop/sa/{account}"));
    assert_eq!(headers["x-forwarded-client-cert"], format!("By={own};URI={client}"));
}
