//! What waypoints are told, and who they may be.

use mesh_identity::source::istio_ca::{CaAddress, CaConfig, IstioCa, Priority};
use mesh_identity::{SpiffeId, provider};
use mesh_xds::client::{Apply, Driver, StreamEnd};
use mesh_xds::delta::{ClientConfig, Push, Refusal};
use mesh_xds_types::MANIFEST_TYPE_URL;
use mesh_xds_types::core::Node;
use mesh_xds_types::traffic::Manifest;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;

use crate::plane::{NEAR, Plane, namespace, service};
use crate::world::{eventually, soon};

/// A waypoint with a service account and a token, and with an address for its services.
pub fn waypoint(namespace: &str, name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}], \
         addresses: [{{value: {ip}}}]}}\n\
         ---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         ---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
         metadata: {{name: {name}, namespace: {namespace}, \
         annotations: {{kubernetes.io/service-account.name: {name}}}}}\n\
         stringData: {{token: {}}}\n",
        token(namespace, name)
    )
}

pub fn token(namespace: &str, name: &str) -> String {
    format!("token-of-the-waypoint-{namespace}-{name}")
}

fn route(name: &str, service: &str, prefix: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  rules:\n  - matches: \
         [{{path: {{value: {prefix}}}}}]\n    backendRefs: [{{name: {service}, port: 80}}]\n"
    )
}

/// Two waypoints of one namespace, each with a service and a route.
fn objects(of_cart: &str) -> String {
    let service = |name: &str, ip: &str, waypoint: &str| {
        let labelled = format!("namespace: shop, labels: {{istio.io/use-waypoint: {waypoint}}}");
        service(name, ip, 8080).replace("namespace: shop", &labelled)
    };
    namespace("a: b")
        + &waypoint("shop", "one", "10.0.0.1")
        + &waypoint("shop", "two", "10.0.0.2")
        + &service("cart", "10.96.0.1", "one")
        + &service("till", "10.96.0.2", "two")
        + of_cart
        + &route("till", "till", "/till")
}

/// What somebody is told: names, those of what is gone with a `-`.
struct Listener {
    told: mpsc::UnboundedReceiver<Vec<String>>,
    _task: JoinSet<()>,
}

struct Ear(mpsc::UnboundedSender<Vec<String>>);

impl Apply for Ear {
    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let brought = push.resources().iter().map(|resource| {
            let body = resource.resource.as_ref().unwrap();
            let manifest = Manifest::decode(body.value.as_slice()).unwrap();
            let Manifest {
                kind,
                namespace,
                name,
                text,
            } = manifest;
            assert_eq!(resource.name, format!("{kind}/{namespace}/{name}"));
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&object["kind"], &object["metadata"]["name"]),
                (&kind.into(), &name.into())
            );
            resource.name.clone()
        });
        let gone = push.removed().iter().map(|name| format!("-{name}"));
        let mut told: Vec<_> = brought.chain(gone).collect();
        told.sort();
        drop(self.0.send(told));
        Vec::new()
    }

    fn ended(&mut self, _: &StreamEnd) {}
}

impl Listener {
    /// Somebody who brings this token, and calls itself the waypoint `shop/two` whoever it is.
    fn new(plane: &Plane, token: String) -> Self {
        let node = Node {
            id: "waypoint~10.0.0.2~two.shop~shop.svc.cluster.local".to_owned(),
            ..Node::default()
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", plane.addr)).unwrap();
        let transport = InterceptedService::new(endpoint.connect_lazy(), move |mut request: Request<()>| {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
            Ok(request)
        });
        let (driver, _) = Driver::new(transport, ClientConfig::new(node).all(MANIFEST_TYPE_URL));
        let (tell, told) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move { driver.run(&mut Ear(tell)).await });
        Self { told, _task: task }
    }

    async fn hears(&mut self) -> Vec<String> {
        soon("news", self.told.recv()).await.unwrap()
    }
}

#[tokio::test]
async fn a_waypoint_is_told_of_its_own_services_and_of_each_change_alone() {
    let plane = Plane::start(&objects(&(route("cart", "cart", "/a") + &route("other", "cart", "/b")))).await;
    let listener = |name: &str| Listener::new(&plane, token("shop", name));
    let (mut one, mut two) = (listener("one"), listener("two"));
    let mut node = Listener::new(&plane, NEAR.to_owned());
    assert_eq!(
        one.hears().await,
        ["Gateway/shop/one", "HTTPRoute/shop/cart", "HTTPRoute/shop/other"]
    );
    assert_eq!(two.hears().await, ["Gateway/shop/two", "HTTPRoute/shop/till"]);
    // Who is no waypoint is told nothing, whatever it calls itself.
    assert!(node.hears().await.is_empty());

    // Comments, places and the order of objects are no change.
    plane
        .change(&objects(
            &("---\n# moved\n".to_owned() + &route("other", "cart", "/b") + &route("cart", "cart", "/c")),
        ))
        .await;
    assert_eq!(one.hears().await, ["HTTPRoute/shop/cart"]);
    plane.change(&objects(&route("other", "cart", "/b"))).await;
    assert_eq!(one.hears().await, ["-HTTPRoute/shop/cart"]);

    // A service that moves takes its routes along.
    let moved = objects(&route("other", "cart", "/b")).replace("use-waypoint: one", "use-waypoint: two");
    plane.change(&moved).await;
    assert_eq!(one.hears().await, ["-HTTPRoute/shop/other"]);
    assert_eq!(two.hears().await, ["HTTPRoute/shop/other"]);
    assert!(node.told.try_recv().is_err());
}

#[tokio::test]
async fn a_bad_object_stays_as_it_was_and_is_reported() {
    let good = objects(&route("cart", "cart", "/a"));
    let plane = Plane::start(&good).await;
    let mut one = Listener::new(&plane, token("shop", "one"));
    one.hears().await;
    plane
        .change(&(good.replace("path: {value: /a}", "path: {values: /a}") + &route("new", "cart", "/n")))
        .await;
    // The rest of the change counts.
    assert_eq!(one.hears().await, ["HTTPRoute/shop/new"]);
    let rejected = &plane.dump().await["rejected"][0];
    let field = |name: &str| rejected[name].as_str().unwrap().to_owned();
    assert_eq!(
        (field("kind"), field("namespace"), field("name"), field("file")),
        ("HTTPRoute".into(), "shop".into(), "cart".into(), "objects.yaml".into())
    );
    assert_eq!(
        field("reason"),
        "there is no field `spec.rules[0].matches[0].path.values`"
    );
    assert_eq!(rejected["staysAsItWas"], true);
    assert!(rejected["line"].as_u64().unwrap() > 1);
    let (_, page) = plane.ask("GET / HTTP/1.1\r\nhost: 127.0.0.1").await;
    assert!(
        page.contains("there is no field `spec.rules[0].matches[0].path.values`"),
        "{page}"
    );
    plane.process.says("what it said before is in force").await;

    // What is not written any more is not there any more.
    plane.change(&objects(&route("new", "cart", "/n"))).await;
    assert_eq!(one.hears().await, ["-HTTPRoute/shop/cart"]);
    assert_eq!(plane.dump().await["rejected"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_waypoint_gets_a_certificate_of_its_own_account_and_no_other() {
    let plane = Plane::start(&objects("")).await;
    let ask = async |identity: &str, is_node: bool| {
        let id: SpiffeId = format!("spiffe://cluster.local/ns/shop/sa/{identity}").parse().unwrap();
        let address = CaAddress::dangerous_plaintext("127.0.0.1", plane.addr.port()).unwrap();
        let token = plane.token(&token("shop", "one"));
        let config = match is_node {
            true => CaConfig::node_agent(address, token, "cluster.local".parse().unwrap()),
            false => CaConfig::workload(address, token, id.clone()),
        };
        let (ca, driver) = IstioCa::new(config, provider::aws_lc_rs());
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        let mut lease = ca.request(&id, Priority::RealTime).unwrap();
        let svid = soon("answer", lease.svid()).await;
        svid.map(|svid| svid.id().to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        ask("one", false).await.unwrap(),
        "spiffe://cluster.local/ns/shop/sa/one"
    );
    // By name it may ask for itself, and for nobody else.
    assert_eq!(ask("one", true).await.unwrap(), "spiffe://cluster.local/ns/shop/sa/one");
    assert!(ask("two", true).await.unwrap_err().contains("speaks for no node"));
    eventually("log", async || {
        let logged = plane.process.says("certificate refused").await;
        logged.contains("shop/one").then_some(())
    })
    .await;
}
