//! What is no HTTP.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::policy::DENY_ADMIN;
use crate::shop::Shop;
use crate::world::{App, eventually, free_addr, soon};

const DENY_SPY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-spy, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/spy]}}]}]
";

/// An application that takes what is no HTTP for an end.
pub async fn is_carried(cluster: &Cluster, account: &str) -> bool {
    let caller = cluster.call(account).await;
    let mut tunnel = caller.open().await.unwrap();
    tunnel.write_all(b"hello, no HTTP\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(soon("end", tunnel.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400")
}

#[tokio::test]
async fn bytes_pass_as_far_as_policies_let_connections_pass() {
    let cluster = Cluster::start(DENY_SPY).await;
    assert!(is_carried(&cluster, "cart").await);
    assert!(!is_carried(&cluster, "spy").await);
    let record = cluster
        .tells("a connection", |record| record["message"] == "connection complete")
        .await;
    assert_eq!(record["dst.service"], "till.shop.svc");
    cluster
        .tells("a refusal", |record| record["error"].to_string().contains("no-spy"))
        .await;
}

#[tokio::test]
async fn a_policy_about_requests_lets_no_bytes_pass() {
    let cluster = Cluster::start(DENY_ADMIN).await;
    assert!(!is_carried(&cluster, "cart").await);
}

pub const LIMIT: &str = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: slow, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  limits: [{requests: 2, per: 1h}]
";

pub const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: till, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: till, port: 80}]
  rules: [{backendRefs: [{name: till, port: 80}]}]
";

/// By whom nobody can be judged: the key set is none.
const TOKENS: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: till}]
  jwtRules: [{issuer: shop, jwks: KEYS}]
";

#[tokio::test]
async fn bytes_do_not_get_round_what_is_said_about_requests() {
    let cluster = Cluster::start("").await;
    assert!(is_carried(&cluster, "cart").await);
    let keys = TOKENS.replace("KEYS", r#"'{"keys": []}'"#);
    for (changes, rules) in [LIMIT, ROUTE, &keys].into_iter().enumerate() {
        cluster.change(rules, changes + 1).await;
        assert!(!is_carried(&cluster, "cart").await, "{rules}");
    }
    let cluster = Cluster::start_with("", "shows_clients = true\n").await;
    assert!(!is_carried(&cluster, "cart").await);
    // Limits that proxies share, of all services and of these.
    for (services, expected) in [
        ("", false),
        ("'shop/till.shop.svc'", false),
        ("'shop/two.shop.svc'", true),
    ] {
        let config = format!(
            "[external.limits]\nserver = {{ address = '{}' }}\ndomain = 'shop'\n\
             [[external.limits.rules]]\nservices = [{services}]\nactions = ['destination_cluster']\n",
            free_addr()
        );
        let cluster = Cluster::start_with("", &config).await;
        assert_eq!(is_carried(&cluster, "cart").await, expected, "{services}");
    }
}

const IMPATIENT: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: till, namespace: shop}
spec:
  host: till.shop.svc
  trafficPolicy: {connectionPool: {tcp: {LIMIT: 1s}, http: {idleTimeout: 1h}}}
";

/// Listens, and notes how clients end.
async fn listen(mut tcp: TcpStream, ends: Arc<Mutex<Vec<bool>>>) {
    let end = tcp.read_to_end(&mut Vec::new()).await;
    ends.lock().unwrap().push(end.is_ok());
}

#[tokio::test]
async fn bytes_end_when_nothing_moves_or_they_are_old() {
    let ends = Arc::<Mutex<Vec<bool>>>::default();
    let noted = Arc::clone(&ends);
    let cluster = Cluster::start_before(async |ip| Shop {
        app: App::start_at(ip, move |tcp| listen(tcp, Arc::clone(&noted))).await,
        asked: Arc::default(),
    })
    .await;
    let caller = cluster.call("cart").await;
    for (changes, (limit, expected)) in [
        ("idleTimeout", "nothing moved for 1 s"),
        ("maxConnectionDuration", "open for 1 s"),
    ]
    .into_iter()
    .enumerate()
    {
        cluster.change(&IMPATIENT.replace("LIMIT", limit), changes + 1).await;
        let mut tunnel = caller.open().await.unwrap();
        tunnel.write_all(b"hello, no HTTP").await.unwrap();
        let end = soon("end", tunnel.read_to_end(&mut Vec::new())).await;
        assert!(end.is_err(), "{end:?}");
        cluster.tells("the end", |record| record["error"] == expected).await;
        eventually("the other end", async || {
            (ends.lock().unwrap().len() > changes).then_some(())
        })
        .await;
    }
    assert_eq!(*ends.lock().unwrap(), [false, false]);
}

#[tokio::test]
async fn bytes_end_with_the_first_rule_about_requests() {
    let cluster = Cluster::start("").await;
    let caller = cluster.call("cart").await;
    let mut tunnel = caller.open().await.unwrap();
    tunnel.write_all(b"hello, no HTTP").await.unwrap();
    cluster.change(LIMIT, 1).await;
    drop(soon("end", tunnel.read_to_end(&mut Vec::new())).await);
    cluster
        .tells("the end", |record| record["error"].to_string().contains("not HTTP"))
        .await;
}
