//! Who may ask for what.

use hyper::StatusCode;

use crate::cluster::{Cluster, get, told};

pub const DENY_ADMIN: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]
";

const ALLOW_CART: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart-reads, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]
    to: [{operation: {methods: [GET], hosts: [till.shop.svc]}}]
";

#[tokio::test]
async fn a_policy_decides_about_each_request() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    let caller = cluster.call("cart").await;
    for (path, status) in [
        ("/", 200),
        ("/admin", 403),
        ("/x/../admin/x", 403),
        ("/%61dmin", 403),
        ("/admins", 200),
    ] {
        let answer = caller.get(path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        if status == 403 {
            assert_eq!(&answer.body()[..], b"RBAC: access denied");
        }
    }
    let record = cluster
        .tells("a denied request", |record| record["http.status"] == 403)
        .await;
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("no-admin"), "{error}");
}

#[tokio::test]
async fn who_is_allowed_is_known_by_the_tunnel() {
    let cluster = Cluster::start(ALLOW_CART).await;
    let (cart, spy) = (cluster.call("cart").await, cluster.call("spy").await);
    assert_eq!(cart.get("/").await.status(), StatusCode::OK);
    assert_eq!(spy.get("/").await.status(), StatusCode::FORBIDDEN);
    let spoofed = get(
        "/",
        &[("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/cart")],
    );
    assert_eq!(spy.send(spoofed).await.status(), StatusCode::FORBIDDEN);
    cluster.change("", 1).await;
    assert_eq!(spy.get("/").await.status(), StatusCode::OK);
    assert_eq!(told(&spy.get("/").await)["name"], "one");
}

#[tokio::test]
async fn a_policy_with_a_fault_leaves_the_last_good_one() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    let caller = cluster.call("cart").await;
    cluster.change(&DENY_ADMIN.replace("paths", "path"), 1).await;
    cluster.waypoint.says("objects.yaml").await;
    assert_eq!(caller.get("/admin").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(caller.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_call_is_denied_in_its_own_way() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    let caller = cluster.call("cart").await;
    let answer = caller
        .send(get("/admin", &[("content-type", "application/grpc")]))
        .await;
    assert_eq!(
        (answer.status(), &answer.headers()["grpc-status"]),
        (StatusCode::OK, &"7".parse().unwrap())
    );
}

#[tokio::test]
async fn a_limit_turns_away_who_comes_too_often() {
    let limit = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: slow, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  limits:
  - {requests: 2, per: 1h, by: {type: Identity}}
";
    let cluster = Cluster::start(limit).await;
    let caller = cluster.call("cart").await;
    for status in [200, 200, 429, 429] {
        let answer = caller.get("/").await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers().contains_key("retry-after"), status == 429);
    }
    assert_eq!(cluster.call("spy").await.get("/").await.status(), StatusCode::OK);
    assert_eq!(cluster.one.asked(), 3);
}
