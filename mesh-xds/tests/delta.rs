//! Client against server, over streams that break, lose, repeat and reorder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_testkit::clock::ManualClock;
use mesh_xds::delta::{Client, ClientConfig, ClientId, Outcome, Published, Push, Refusal, Server, ServerConfig};
use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use proptest::prelude::*;

/// Types of resources.
const ALL: &str = "all";
const SOME: &str = "some";

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn published(name: &'static str, content: u8) -> Published {
    Published::new(name, content.to_string(), [content])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn at_quiescence_the_client_has_what_the_server_has(script in prop::collection::vec(any::<u8>(), 0..160)) {
        mesh_xds::fuzzing::exchange(&script, ManualClock::new().now());
    }
}

/// What the server sends a client on demand that asks for `names` and runs on `node`.
fn answers(resources: Vec<Published>, names: &[&str], node: Option<&str>) -> (BTreeSet<String>, Vec<String>) {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new());
    server.publish(SOME, resources);
    let id = server.connect().unwrap();
    let value = node.map(|node| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(node.into())),
    });
    let fields = value.map(|value| ("NODE_NAME".to_owned(), value)).into_iter().collect();
    let subscribe = ["*"].iter().chain(names).map(|name| (*name).to_owned()).collect();
    let request = DeltaDiscoveryRequest {
        node: Some(Node {
            metadata: Some(prost_types::Struct { fields }),
            ..Node::default()
        }),
        type_url: SOME.into(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    };
    server.receive(id, &request).unwrap();
    let response = server.next_response(id, now).unwrap();
    assert_eq!(server.next_response(id, now), None, "one response is under way");
    (
        response.resources.into_iter().map(|resource| resource.name).collect(),
        response.removed_resources,
    )
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_name_on_demand_is_answered_under_that_name() {
    let pod = || published("uid", 1).aliases(["/10.0.0.1"]);
    assert_eq!(
        answers(vec![pod()], &["/10.0.0.1"], None),
        (names(["/10.0.0.1"]), vec![])
    );
    assert_eq!(
        answers(vec![pod()], &["/10.0.0.9"], None),
        (names([]), vec!["/10.0.0.9".to_owned()])
    );
    assert_eq!(
        answers(vec![pod()], &[], None),
        (names([]), vec![]),
        "an empty answer is an answer"
    );
}

#[test]
fn what_runs_on_a_clients_node_comes_without_asking() {
    let resources = || vec![published("here", 1).node("n1"), published("there", 1).node("n2")];
    assert_eq!(answers(resources(), &[], Some("n1")).0, names(["here"]));
    assert_eq!(answers(resources(), &[], None).0, names([]));
}

#[test]
fn companions_of_companions_come_along() {
    let resources = vec![
        published("service", 1).companions(["pod", "waypoint"]),
        published("pod", 1),
        published("waypoint", 1).companions(["waypoint-pod", "service"]),
        published("waypoint-pod", 1),
        published("other", 1),
    ];
    assert_eq!(
        answers(resources, &["service"], None).0,
        names(["pod", "service", "waypoint", "waypoint-pod"])
    );
}

#[test]
fn the_refusal_says_name_and_reason() {
    let mut client = Client::<()>::new(ClientConfig::new(Node::default()).all(ALL));
    let now = ManualClock::new().now();
    client.connected();
    assert!(client.next_request(now).unwrap().node.is_some());
    let resource = |name: &str| Resource {
        name: name.into(),
        version: "1".into(),
        resource: Some(prost_types::Any::default()),
        ..Resource::default()
    };
    let response = DeltaDiscoveryResponse {
        type_url: ALL.into(),
        nonce: "7".into(),
        resources: vec![
            resource("good"),
            resource("bad"),
            resource("twice"),
            resource("twice"),
            resource(""),
        ],
        ..DeltaDiscoveryResponse::default()
    };
    let push = client.receive(response).unwrap();
    let offered: Vec<_> = push.resources().iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(offered, ["good", "bad"]);
    client.settle(
        push,
        &[Refusal {
            name: "bad".into(),
            reason: "port is 70000".into(),
        }],
    );
    let answer = client.next_request(now).unwrap();
    assert_eq!(answer.response_nonce, "7");
    let message = answer.error_detail.unwrap().message;
    assert!(
        message.contains("bad: port is 70000") && message.contains("twice: is there more than once"),
        "{message}"
    );

    client.disconnected(now, 0);
    client.connected();
    let again = client.next_request(now).unwrap();
    assert_eq!(
        again.initial_resource_versions.into_keys().collect::<Vec<_>>(),
        ["good"]
    );
}

#[test]
fn a_client_that_says_too_much_is_left() {
    let violation = |request: DeltaDiscoveryRequest| {
        let mut server = Server::new(ServerConfig::new());
        let id = server.connect().unwrap();
        let refused = server.receive(id, &request).unwrap_err();
        assert!(server.node(id).is_none() && server.standings(id).next().is_none());
        refused.to_string()
    };
    let named = |name: String| DeltaDiscoveryRequest {
        type_url: name,
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(
        violation(named("t".repeat(2049))),
        "the client asks for a name of 2049 bytes, more than 2048"
    );
    let described = |node: Node| DeltaDiscoveryRequest {
        node: Some(node),
        ..named(ALL.to_owned())
    };
    let node = Node {
        id: "n".repeat(1 << 16),
        ..Node::default()
    };
    assert_eq!(
        violation(described(node)),
        "the client describes its node in 65540 bytes, more than 65536"
    );
    let node = Node {
        client_features: vec![String::new(); 40_000],
        ..Node::default()
    };
    assert!(violation(described(node)).starts_with("the client describes its node in 80000 bytes"));
}

#[test]
fn who_knows_of_parts_is_synced_with_the_last_one() {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new().part_bytes(1));
    server.publish(ALL, NAMES.map(|name| published(name, 1)));
    let id = server.connect().unwrap();
    let mut client = Client::<()>::new(ClientConfig::new(Node::default()).all(ALL));
    client.connected();
    let mut parts = Vec::new();
    while let Some(request) = client.next_request(now) {
        server.receive(id, &request).unwrap();
        while let Some(response) = server.next_response(id, now) {
            let push = client.receive(response).unwrap();
            assert_eq!(push.resources().len(), 1);
            parts.push(push.is_part());
            client.settle(push, &[]);
            assert_eq!(client.is_synced(), parts.len() == NAMES.len());
        }
    }
    assert_eq!(parts, [true, true, true, true, false]);
}

/// A server that has all names, and says one of them in a part; its client knows of parts.
fn in_parts() -> (Server, ClientId, Client<()>) {
    let mut server = Server::new(ServerConfig::new().part_bytes(1));
    server.publish(ALL, NAMES.map(|name| published(name, 1)));
    let id = server.connect().unwrap();
    let mut client = Client::new(ClientConfig::new(Node::default()).all(ALL));
    client.connected();
    let request = client.next_request(ManualClock::new().now()).unwrap();
    server.receive(id, &request).unwrap();
    (server, id, client)
}

/// Takes what the server can say now, without an answer.
fn pushes(server: &mut Server, id: ClientId, client: &mut Client<()>) -> Vec<Push> {
    let now = ManualClock::new().now();
    std::iter::from_fn(|| server.next_response(id, now))
        .map(|response| client.receive(response).unwrap())
        .collect()
}

#[test]
fn a_part_is_made_while_the_one_before_it_is_applied() {
    let (mut server, id, mut client) = in_parts();
    let now = ManualClock::new().now();
    let mut way = pushes(&mut server, id, &mut client);
    let mut counts = Vec::new();
    while !way.is_empty() {
        counts.push(way.len());
        client.settle(way.remove(0), &[]);
        server.receive(id, &client.next_request(now).unwrap()).unwrap();
        way.extend(pushes(&mut server, id, &mut client));
    }
    assert_eq!(counts, [2, 2, 2, 2, 1]);
    assert!(client.is_synced());
}

#[test]
fn a_part_that_waits_for_another_is_not_late() {
    let (mut server, id, mut client) = in_parts();
    let (now, second) = (ManualClock::new().now(), Duration::from_secs(1));
    let mut way = pushes(&mut server, id, &mut client).into_iter();
    assert!(!server.is_stalled(id, now + 29 * second));
    assert!(server.is_stalled(id, now + 31 * second));
    client.settle(way.next().unwrap(), &[]);
    server.receive(id, &client.next_request(now).unwrap()).unwrap();
    assert!(!server.is_stalled(id, now + 59 * second));
    assert!(server.is_stalled(id, now + 61 * second));
}

#[test]
fn a_part_whose_answer_is_lost_ends_the_stream() {
    let (mut server, id, mut client) = in_parts();
    let (now, later) = (ManualClock::new().now(), Duration::from_secs(3600));
    for push in pushes(&mut server, id, &mut client) {
        client.settle(push, &[]);
    }
    let lost = client.next_request(now).unwrap();
    let answer = client.next_request(now).unwrap();
    assert_ne!(lost.response_nonce, answer.response_nonce);
    server.receive(id, &answer).unwrap();
    assert!(server.is_stalled(id, now + later));
    server.receive(id, &lost).unwrap();
    assert!(!server.is_stalled(id, now + later));
}

#[test]
fn a_part_is_followed_by_the_last_one_though_the_rest_is_gone() {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new().part_bytes(1));
    server.publish(AUTHORIZATION_TYPE_URL, ["a", "b", "c"].map(|name| published(name, 1)));
    server.publish(ADDRESS_TYPE_URL, [published("w", 1)]);
    let id = server.connect().unwrap();
    let config = ClientConfig::new(Node::default()).all(AUTHORIZATION_TYPE_URL);
    let mut client = Client::<()>::new(config.all(ADDRESS_TYPE_URL));
    client.connected();
    while let Some(request) = client.next_request(now) {
        server.receive(id, &request).unwrap();
    }
    let mut way = pushes(&mut server, id, &mut client);
    assert_eq!(way.len(), 2);
    server.update(AUTHORIZATION_TYPE_URL, [], ["c"]);
    client.settle(way.remove(0), &[]);
    server.receive(id, &client.next_request(now).unwrap()).unwrap();
    let last = pushes(&mut server, id, &mut client);
    // Addresses wait until the other part is answered, too.
    let types: Vec<_> = last.iter().map(|push| (push.type_url(), push.is_part())).collect();
    assert_eq!(types, [(AUTHORIZATION_TYPE_URL, false)]);
}

/// A request of a client that asks for `names` and forgets `forgotten`, and answers `nonce`.
fn asks(names: &[&str], forgotten: &[&str], nonce: &str) -> DeltaDiscoveryRequest {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryRequest {
        type_url: SOME.into(),
        resource_names_subscribe: owned(names),
        resource_names_unsubscribe: owned(forgotten),
        response_nonce: nonce.into(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// What the server says next: resources and removals.
fn said(server: &mut Server, id: ClientId) -> Option<(String, Vec<String>, Vec<String>)> {
    let response = server.next_response(id, ManualClock::new().now())?;
    let resources = response.resources.into_iter().map(|resource| resource.name).collect();
    Some((response.nonce, resources, response.removed_resources))
}

#[test]
fn removals_are_sent_in_parts() {
    let mut server = Server::new(ServerConfig::new().max_response_bytes(1));
    server.publish(SOME, NAMES[..2].iter().map(|name| published(name, 1)));
    let id = server.connect().unwrap();
    let mut request = asks(&["x", "y"], &[], "");
    request.resource_names_subscribe.insert(0, "*".into());
    request.initial_resource_versions = NAMES.map(|name| (name.to_owned(), "1".to_owned())).into();
    server.receive(id, &request).unwrap();
    let mut gone = Vec::new();
    while let Some((nonce, resources, removed)) = said(&mut server, id) {
        assert!(resources.is_empty(), "{resources:?}");
        assert_eq!(removed.len(), 1, "{removed:?}");
        gone.extend(removed);
        server.receive(id, &asks(&[], &[], &nonce)).unwrap();
    }
    gone.sort_unstable();
    assert_eq!(gone, ["c", "d", "e", "x", "y"]);
}

#[test]
fn who_wants_everything_again_gets_all_of_it() {
    let mut server = Server::new(ServerConfig::new());
    server.publish(SOME, [published("a", 1), published("b", 1)]);
    let id = server.connect().unwrap();
    server.receive(id, &asks(&["*"], &[], "")).unwrap();
    let (nonce, resources, _) = said(&mut server, id).unwrap();
    assert_eq!(resources, ["a", "b"]);
    server.receive(id, &asks(&[], &["*"], &nonce)).unwrap();
    server.receive(id, &asks(&["*"], &[], "")).unwrap();
    assert_eq!(said(&mut server, id).unwrap().1, ["a", "b"]);
}

#[test]
fn what_came_along_stays_with_who_then_wants_everything() {
    let mut server = Server::new(ServerConfig::new());
    server.publish(SOME, [published("service", 1).companions(["pod"]), published("pod", 1)]);
    let id = server.connect().unwrap();
    server.receive(id, &asks(&["service"], &["*"], "")).unwrap();
    let (nonce, resources, _) = said(&mut server, id).unwrap();
    assert_eq!(resources.len(), 2);
    server.receive(id, &asks(&["*"], &[], &nonce)).unwrap();
    assert_eq!(said(&mut server, id).unwrap().2, Vec::<String>::new());
}

#[test]
fn who_knows_nothing_of_parts_gets_all_at_once() {
    let resources = || NAMES.map(|name| published(name, 1)).to_vec();
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new().part_bytes(1));
    server.publish(ALL, resources());
    let id = server.connect().unwrap();
    let request = DeltaDiscoveryRequest {
        type_url: ALL.into(),
        ..DeltaDiscoveryRequest::default()
    };
    server.receive(id, &request).unwrap();
    let response = server.next_response(id, now).unwrap();
    assert_eq!(response.resources.len(), NAMES.len());
}

#[test]
fn policies_come_before_addresses_and_go_after_them() {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new());
    server.publish(AUTHORIZATION_TYPE_URL, [published("p", 1)]);
    server.publish(ADDRESS_TYPE_URL, [published("w", 1)]);
    let id = server.connect().unwrap();
    let request = |type_url: &str, nonce: &str| DeltaDiscoveryRequest {
        type_url: type_url.into(),
        response_nonce: nonce.into(),
        ..DeltaDiscoveryRequest::default()
    };
    let mut order = Vec::new();
    let mut exchange = |server: &mut Server| {
        while let Some(response) = server.next_response(id, now) {
            assert_eq!(server.next_response(id, now), None, "the other type waits");
            order.push((response.type_url.clone(), response.removed_resources.len()));
            server
                .receive(id, &request(&response.type_url, &response.nonce))
                .unwrap();
        }
    };
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        server.receive(id, &request(type_url, "")).unwrap();
    }
    exchange(&mut server);
    server.update(ADDRESS_TYPE_URL, [], ["w"]);
    server.update(AUTHORIZATION_TYPE_URL, [], ["p"]);
    exchange(&mut server);
    let (policies, addresses) = (AUTHORIZATION_TYPE_URL.to_owned(), ADDRESS_TYPE_URL.to_owned());
    let first = [(policies.clone(), 0), (addresses.clone(), 0)];
    assert_eq!(order, [first, [(addresses, 1), (policies, 1)]].concat());
}

#[test]
fn a_name_is_asked_for_again_when_the_resource_that_had_it_is_gone() {
    let now = ManualClock::new().now();
    let mut client = Client::new(ClientConfig::new(Node::default()).on_demand(SOME));
    client.connected();
    client.demand(SOME, "/10.0.0.1", now, "first").unwrap();
    assert!(client.next_request(now).is_some());
    // Istio's servers send a resource under its own name.
    let resource = Resource {
        name: "uid".into(),
        aliases: vec!["/10.0.0.1".into()],
        resource: Some(prost_types::Any::default()),
        ..Resource::default()
    };
    let response = |resources, removed_resources, nonce: &str| DeltaDiscoveryResponse {
        type_url: SOME.into(),
        resources,
        removed_resources,
        nonce: nonce.into(),
        ..DeltaDiscoveryResponse::default()
    };
    let push = client.receive(response(vec![resource], Vec::new(), "1")).unwrap();
    client.settle(push, &[]);
    assert_eq!(client.next_answer(now).unwrap().outcome, Outcome::Present);
    assert!(client.next_request(now).unwrap().resource_names_subscribe.is_empty());
    let push = client.receive(response(Vec::new(), vec!["uid".into()], "2")).unwrap();
    client.settle(push, &[]);
    assert_eq!(
        client.next_request(now).unwrap().resource_names_subscribe,
        ["/10.0.0.1"]
    );
    client
        .demand(SOME, "/10.0.0.1", now + Duration::from_secs(1), "second")
        .unwrap();
    assert_eq!(client.next_answer(now), None, "it is not known to be there");
}

#[test]
fn what_came_under_another_name_is_sent_again_when_it_is_as_before() {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new().max_response_bytes(1));
    let service = |content, alias: &'static str| published("s", content).aliases([alias]);
    server.publish(SOME, [service(1, "/1"), published("z", 1)]);
    let id = server.connect().unwrap();
    let mut request = DeltaDiscoveryRequest {
        type_url: SOME.into(),
        resource_names_subscribe: ["*", "/1", "/2", "z"].map(str::to_owned).to_vec(),
        resource_names_unsubscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    };
    let mut exchange = |server: &mut Server| -> Option<Vec<(String, String)>> {
        server.receive(id, &request).unwrap();
        let response = server.next_response(id, now)?;
        request = DeltaDiscoveryRequest {
            type_url: SOME.into(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        Some(
            response
                .resources
                .into_iter()
                .map(|sent| (sent.name, sent.version))
                .collect(),
        )
    };
    let sent = |name: &str, version: &str| Some(vec![(name.to_owned(), version.to_owned())]);
    assert_eq!(exchange(&mut server), sent("/1", "1"));
    assert_eq!(exchange(&mut server), sent("z", "1"));
    // Its address is another, and then is what it was before the client has heard all of that.
    server.update(SOME, [service(2, "/2"), published("z", 2)], []);
    assert_eq!(exchange(&mut server), sent("/2", "2"));
    server.update(SOME, [service(1, "/1")], []);
    assert_eq!(exchange(&mut server), sent("/1", "1"));
    assert_eq!(exchange(&mut server), sent("z", "2"));
    assert_eq!(exchange(&mut server), Some(vec![]), "`/2` is gone");
    assert_eq!(exchange(&mut server), None);
}

#[test]
fn a_wait_ends_at_its_deadline_and_a_server_that_never_answers_is_left() {
    let clock = ManualClock::new();
    let mut client = Client::new(ClientConfig::new(Node::default()).on_demand(SOME));
    client.connected();
    let now = clock.now();
    let id = client.demand(SOME, "a", now + Duration::from_secs(2), "first").unwrap();
    client
        .demand(SOME, "a", now + Duration::from_secs(1), "second")
        .unwrap();
    assert!(client.next_request(now).is_some());
    assert_eq!(client.next_answer(now), None);
    clock.advance(Duration::from_secs(1));
    assert_eq!(client.next_answer(clock.now()).unwrap().waiter, "second");
    assert_eq!(client.abandon(id), Some("first"));
    clock.advance(Duration::from_secs(30));
    assert!(client.is_stalled(clock.now()));
}

proptest! {
    #[test]
    fn arbitrary_messages_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let now = ManualClock::new().now();
        mesh_xds::fuzzing::response(&bytes, now);
        mesh_xds::fuzzing::resource(&bytes, now);
        mesh_xds::fuzzing::request(&bytes, now);
    }
}
