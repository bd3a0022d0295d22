//! How many requests are too many: of routes and their rules, counted here and by others.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mesh_xds_types::rate_limit::rate_limit_response::Code;
use mesh_xds_types::rate_limit::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};
use mesh_xds_types::rate_limit::{RateLimitRequest, RateLimitResponse};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::cluster::{Caller, Cluster, get, told};

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: till, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: till}]
  rules:
  - name: buy
    matches: [{path: {type: PathPrefix, value: /buy}}]
    backendRefs: [{name: till, port: 80}]
  - name: look
    matches: [{path: {type: PathPrefix, value: /look}}]
    backendRefs: [{name: two, port: 80}]
---
";

fn policy(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: traffic.mesh.internal/v1\nkind: RateLimitPolicy\n\
         metadata: {{name: {name}, namespace: shop}}\nspec:\n{rest}---\n"
    )
}

async fn statuses(caller: &Caller, path: &str, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(caller.get(path).await.status().as_u16());
    }
    statuses
}

#[tokio::test]
async fn rules_and_routes_have_limits_of_their_own() {
    let of_rule = policy(
        "of-rule",
        "  targetRefs: [{kind: HTTPRoute, name: till, sectionName: buy}]\n  \
         limits: [{requests: 2, per: 1h, by: {type: Identity}}]\n",
    );
    let of_route = policy(
        "of-route",
        "  targetRefs: [{kind: HTTPRoute, name: till}]\n  \
         limits: [{requests: 1, per: 1h, by: {type: Header, header: x-user}}, {requests: 6, per: 1h}]\n",
    );
    let cluster = Cluster::start(&format!("{ROUTE}{of_rule}{of_route}")).await;
    let (cart, spy) = (cluster.call("cart").await, cluster.call("spy").await);
    assert_eq!(statuses(&cart, "/buy", 3).await, [200, 200, 429]);
    // Other rules and other clients have not used it up.
    assert_eq!(told(&cart.get("/look").await)["name"], "two");
    assert_eq!(statuses(&spy, "/buy", 1).await, [200]);
    let ann = || get("/look", &[("x-user", "ann")]);
    assert_eq!(cart.send(ann()).await.status(), 200);
    assert_eq!(cart.send(ann()).await.status(), 429);
    // What rules turned away was not counted for the route: five were, and this is the sixth.
    assert_eq!(statuses(&cart, "/look", 2).await, [200, 429]);
    assert_eq!(cluster.one.asked() + cluster.two.asked(), 6);

    // Another policy is no reason to forget what was counted.
    let more = policy(
        "more",
        "  targetRefs: [{kind: HTTPRoute, name: till, sectionName: by}]\n  limits: [{requests: 9}]\n",
    );
    let objects = format!("{ROUTE}{more}{of_rule}{of_route}");
    cluster.change(&objects, 1).await;
    cluster.waypoint.says("has no such rule").await;
    assert_eq!(statuses(&spy, "/look", 1).await, [429]);
    cluster.change(ROUTE, 2).await;
    assert_eq!(statuses(&cart, "/buy", 4).await, [200; 4]);
}

/// A service that counts for all: more than two of a kind are too many.
struct Counts(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl RateLimitService for Counts {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        let request = request.into_inner();
        let entries = request.descriptors.iter().flat_map(|descriptor| &descriptor.entries);
        let entries: Vec<_> = entries.map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        let asked = format!("{}: {}", request.domain, entries.join(" "));
        let mut seen = self.0.lock().unwrap();
        seen.push(asked.clone());
        let is_over = seen.iter().filter(|seen| **seen == asked).count() > 2;
        let overall_code = if is_over { Code::OverLimit } else { Code::Ok };
        Ok(tonic::Response::new(RateLimitResponse {
            overall_code: overall_code.into(),
            ..RateLimitResponse::default()
        }))
    }
}

async fn counting(seen: &Arc<Mutex<Vec<String>>>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::builder().add_service(RateLimitServiceServer::new(Counts(Arc::clone(seen))));
    let mut serving = JoinSet::new();
    serving.spawn(async move { server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    (addr, serving)
}

#[tokio::test]
async fn who_counts_for_all_is_asked_by_the_descriptors_of_the_rule() {
    let seen = Arc::default();
    let (addr, _serving) = counting(&seen).await;
    let descriptors = policy(
        "shared",
        "  targetRefs: [{kind: HTTPRoute, name: till, sectionName: buy}]\n  \
         descriptors: [{entries: [{type: GenericKey, value: buying}, \
         {type: RequestHeader, header: x-user, key: user, skipIfAbsent: true}]}]\n",
    );
    let config = format!(
        "[external.limits]\nserver = {{ address = '{addr}' }}\ndomain = 'shop'\ntimeout_ms = 5000\n\
         failure_mode_deny = true\nrules = []\n"
    );
    let cluster = Cluster::start_with(&format!("{ROUTE}{descriptors}"), &config).await;
    let caller = cluster.call("cart").await;
    assert_eq!(statuses(&caller, "/look", 3).await, [200; 3]);
    assert_eq!(*seen.lock().unwrap(), [""; 0], "nobody is asked about other rules");
    assert_eq!(statuses(&caller, "/buy", 3).await, [200, 200, 429]);
    let ann = caller.send(get("/buy", &[("x-user", "ann")])).await;
    assert_eq!(ann.status(), 200);
    let buying = "shop: generic_key=buying";
    let user = format!("{buying} user=ann");
    assert_eq!(*seen.lock().unwrap(), [buying, buying, buying, &user]);
    assert_eq!(cluster.one.asked(), 3);
}

#[tokio::test]
async fn descriptors_that_nobody_is_asked_about_are_told() {
    let descriptors = policy(
        "shared",
        "  targetRefs: [{kind: Service, name: till}]\n  descriptors: [{entries: [{type: RemoteAddress}]}]\n",
    );
    let cluster = Cluster::start(&descriptors).await;
    cluster.waypoint.says("without `external.limits`").await;
    assert_eq!(cluster.call("cart").await.get("/").await.status(), 200);
}
