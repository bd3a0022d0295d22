//! What routes have become of requests.

use crate::cluster::{Cluster, get, told};

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: till, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: till, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /new}, headers: [{name: x-tester, value: 'yes'}]}]
    backendRefs: [{name: two, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /shared}}]
    backendRefs: [{name: till, port: 80, weight: 1}, {name: two, port: 80, weight: 1}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}
  - matches: [{path: {type: PathPrefix, value: /rewritten}}]
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: inner.shop, path: {type: ReplacePrefixMatch, replacePrefixMatch: /inner}}
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-set, value: by-route}], remove: [x-gone]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {add: [{name: x-added, value: by-route}], remove: [x-shop]}
    backendRefs: [{name: till, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /nowhere}}]
    backendRefs: [{name: missing, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /copied}}]
    filters:
    - type: RequestMirror
      requestMirror: {backendRef: {name: two, port: 80}}
    backendRefs: [{name: till, port: 80}]
  - matches: [{path: {type: Exact, value: /}}]
    backendRefs: [{name: till, port: 80}]
";

const FAULTS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: till, namespace: shop}
spec:
  hosts: [till.shop.svc]
  http:
  - match: [{uri: {prefix: /teapot}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: till.shop.svc}}]
  - match: [{uri: {prefix: /direct}}]
    directResponse: {status: 202, body: {string: told}}
  - route: [{destination: {host: till.shop.svc}}]
";

#[tokio::test]
async fn requests_go_where_routes_say() {
    let cluster = Cluster::start(ROUTES).await;
    let caller = cluster.call("cart").await;
    let answer = caller.send(get("/new/x", &[("x-tester", "yes")])).await;
    assert_eq!(told(&answer)["name"], "two");
    assert_eq!(caller.get("/new/x").await.status(), 404);
    let mut names = Vec::new();
    for _ in 0..40 {
        names.push(told(&caller.get("/shared").await)["name"].clone());
    }
    assert!(
        names.contains(&"one".into()) && names.contains(&"two".into()),
        "{names:?}"
    );
    let answer = caller.get("/old/a?b=c").await;
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(
        (answer.status().as_u16(), &*location),
        (301, "http://till.shop.svc/new/a?b=c")
    );
    assert_eq!(caller.get("/nowhere").await.status(), 500);
    let record = cluster
        .tells("a request that no route takes", |record| record["flags"] == "NR")
        .await;
    assert_eq!(record["http.status"], 404);
    cluster
        .tells("a route", |record| record["route"] == "shop/till/0")
        .await;
}

#[tokio::test]
async fn messages_are_changed_as_routes_say() {
    let cluster = Cluster::start(ROUTES).await;
    let caller = cluster.call("cart").await;
    let answer = caller
        .send(get("/rewritten/a?b=c", &[("x-gone", "1"), ("x-set", "2")]))
        .await;
    let told = told(&answer);
    assert_eq!(
        (&told["uri"], &told["headers"]["host"]),
        (&"/inner/a?b=c".into(), &"inner.shop".into())
    );
    assert_eq!(
        (&told["headers"]["x-set"], told["headers"].get("x-gone")),
        (&"by-route".into(), None)
    );
    let headers = answer.headers();
    assert_eq!(
        (&headers["x-added"], headers.get("x-shop")),
        (&"by-route".parse().unwrap(), None)
    );
}

#[tokio::test]
async fn who_gets_copies_does_not_answer() {
    let cluster = Cluster::start(ROUTES).await;
    let caller = cluster.call("cart").await;
    assert_eq!(told(&caller.get("/copied").await)["name"], "one");
    crate::world::eventually("a copy", async || (cluster.two.asked() == 1).then_some(())).await;
}

#[tokio::test]
async fn faults_and_answers_are_routes_own() {
    let cluster = Cluster::start(FAULTS).await;
    let caller = cluster.call("cart").await;
    assert_eq!(caller.get("/teapot").await.status(), 418);
    let answer = caller.get("/direct").await;
    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (202, &b"told"[..]));
    assert_eq!((caller.get("/").await.status().as_u16(), cluster.one.asked()), (200, 1));
    cluster.tells("the fault", |record| record["flags"] == "FI").await;
}

#[tokio::test]
async fn a_route_that_changes_counts_from_then_on() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    assert_eq!(caller.get("/teapot").await.status(), 200);
    cluster.change(FAULTS, 1).await;
    assert_eq!(caller.get("/teapot").await.status(), 418);
}
