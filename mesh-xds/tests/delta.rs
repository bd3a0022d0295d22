//! Client against server, over streams that break, lose, repeat and reorder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mesh_testkit::clock::ManualClock;
use mesh_xds::delta::{Client, ClientConfig, ClientId, Outcome, Published, Refusal, Server, ServerConfig};
use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use proptest::prelude::*;

/// A type that the client wants all of, and one that it wants names of.
const ALL: &str = "all";
const SOME: &str = "some";

/// Content that the client cannot use.
const BAD: u8 = 0;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Publish { of: &'static str, name: usize, content: u8 },
    Remove { of: &'static str, name: usize },
    Demand { name: usize },
    Release { name: usize },
    ToServer,
    ToClient,
    RepeatResponse { late: usize },
    ReorderResponses,
    RepeatRequest,
    LoseRequest,
    LoseResponse,
    Cut,
    RestartServer,
    Wait { millis: u64 },
}

/// Both sides, the streams between them, and what is true.
struct World {
    clock: ManualClock,
    server: Server,
    client: Client<&'static str>,
    /// The server's name for the stream, while there is one.
    stream: Option<ClientId>,
    requests: VecDeque<DeltaDiscoveryRequest>,
    responses: VecDeque<DeltaDiscoveryResponse>,
    /// By type and name.
    truth: BTreeMap<(&'static str, &'static str), u8>,
    /// What the client's program has, by type and name.
    state: BTreeMap<(String, String), u8>,
    demanded: BTreeSet<&'static str>,
}

impl World {
    fn new() -> Self {
        let node = Node {
            id: "node".into(),
            ..Node::default()
        };
        let config = ClientConfig::new(node).all(ALL).on_demand(SOME);
        Self {
            clock: ManualClock::new(),
            server: small_server(),
            client: Client::new(config),
            stream: None,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            truth: BTreeMap::new(),
            state: BTreeMap::new(),
            demanded: BTreeSet::new(),
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { of, name, content } => {
                self.truth.insert((of, NAMES[name]), content);
                self.server.update(of, [published(NAMES[name], content)], []);
            }
            Step::Remove { of, name } => {
                self.truth.remove(&(of, NAMES[name]));
                self.server.update(of, [], [NAMES[name]]);
            }
            Step::Demand { name } => {
                self.demanded.insert(NAMES[name]);
                self.client
                    .demand(SOME, NAMES[name], self.now() + Duration::from_secs(5), NAMES[name])
                    .unwrap();
            }
            Step::Release { name } => {
                self.demanded.remove(NAMES[name]);
                if self.client.release(SOME, NAMES[name]) {
                    self.state.remove(&(SOME.to_owned(), NAMES[name].to_owned()));
                }
            }
            Step::ToServer => self.deliver_request(),
            Step::ToClient => self.deliver_response(),
            Step::RepeatResponse { late } => {
                if let Some(response) = self.responses.front().cloned() {
                    let place = self.responses.len().min(late + 1);
                    self.responses.insert(place, response);
                }
            }
            Step::ReorderResponses => self.responses.make_contiguous().reverse(),
            Step::RepeatRequest => self.requests.extend(self.requests.back().cloned()),
            Step::LoseRequest => drop(self.requests.pop_front()),
            Step::LoseResponse => drop(self.responses.pop_front()),
            Step::Cut => self.cut(),
            Step::RestartServer => {
                self.cut();
                self.server = small_server();
                for of in [ALL, SOME] {
                    let of_type = self.truth.iter().filter(|((other, _), _)| *other == of);
                    self.server
                        .publish(of, of_type.map(|((_, name), content)| published(name, *content)));
                }
            }
            Step::Wait { millis } => self.clock.advance(Duration::from_millis(millis)),
        }
        self.drive();
    }

    /// What the drivers on both sides do after each event.
    fn drive(&mut self) {
        let now = self.now();
        if self.client.is_stalled(now) || self.stream.is_some_and(|id| self.server.is_stalled(id, now)) {
            self.cut();
        }
        if self.client.connect_at(now).is_some_and(|at| at <= now) {
            self.stream = Some(self.server.connect().unwrap());
            self.client.connected();
        }
        while let Some(request) = self.client.next_request(now) {
            self.requests.push_back(request);
        }
        while let Some(answer) = self.client.next_answer(now) {
            let known = self.state.contains_key(&(SOME.to_owned(), answer.waiter.to_owned()));
            match answer.outcome {
                Outcome::Present => assert!(known, "{} was announced", answer.waiter),
                Outcome::Absent => assert!(!known, "{} was said not to be", answer.waiter),
                _ => {}
            }
        }
        if let Some(id) = self.stream {
            while let Some(response) = self.server.next_response(id, now) {
                self.responses.push_back(response);
            }
        }
    }

    fn deliver_request(&mut self) {
        if let (Some(id), Some(request)) = (self.stream, self.requests.pop_front()) {
            self.server.receive(id, &request).unwrap();
        }
    }

    fn deliver_response(&mut self) {
        let Some(push) = self
            .responses
            .pop_front()
            .and_then(|response| self.client.receive(response))
        else {
            return;
        };
        let mut refusals = Vec::new();
        for resource in push.resources() {
            let content = resource.resource.as_ref().unwrap().value[0];
            if content == BAD {
                refusals.push(Refusal {
                    name: resource.name.clone(),
                    reason: "bad".into(),
                });
            } else {
                self.state
                    .insert((push.type_url().to_owned(), resource.name.clone()), content);
            }
        }
        for name in push.removed() {
            self.state.remove(&(push.type_url().to_owned(), name.clone()));
        }
        self.client.settle(push, &refusals);
    }

    fn cut(&mut self) {
        if let Some(id) = self.stream.take() {
            self.server.disconnect(id);
            self.client.disconnected(self.now(), 7);
            self.requests.clear();
            self.responses.clear();
        }
    }

    /// Lets everything arrive, and those who lost something find out.
    fn settle(&mut self) {
        for _ in 0..4 {
            for _ in 0..200 {
                self.step(&Step::ToServer);
                self.step(&Step::ToClient);
            }
            self.step(&Step::Wait { millis: 40_000 });
        }
        for _ in 0..200 {
            self.step(&Step::ToServer);
            self.step(&Step::ToClient);
        }
    }

    /// The client has what is true, as far as it wants and can use it.
    fn check(&self) {
        for (&(of, name), &content) in &self.truth {
            let wanted = of == ALL || self.demanded.contains(name);
            if wanted && content != BAD {
                let has = self.state.get(&(of.to_owned(), name.to_owned()));
                assert_eq!(has, Some(&content), "{of} {name}");
            }
        }
        for ((of, name), content) in &self.state {
            if of == ALL || self.demanded.contains(name.as_str()) {
                let of = if of == ALL { ALL } else { SOME };
                let is = self.truth.get(&(of, name.as_str())).copied();
                assert!(
                    is == Some(*content) || is == Some(BAD),
                    "{of} {name}: {content}, but is {is:?}"
                );
            }
        }
        assert!(self.client.is_synced());
    }
}

fn small_server() -> Server {
    // Room for one resource, so that everything takes several responses.
    Server::new(ServerConfig::new().max_response_bytes(1).part_bytes(1))
}

fn published(name: &'static str, content: u8) -> Published {
    Published::new(name, content.to_string(), [content])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = || prop::sample::select(vec![ALL, SOME]);
    let name = || 0..NAMES.len();
    let step = prop_oneof![
        4 => (of(), name(), 0..4_u8).prop_map(|(of, name, content)| Step::Publish { of, name, content }),
        2 => (of(), name()).prop_map(|(of, name)| Step::Remove { of, name }),
        3 => name().prop_map(|name| Step::Demand { name }),
        1 => name().prop_map(|name| Step::Release { name }),
        8 => Just(Step::ToServer),
        8 => Just(Step::ToClient),
        2 => (0..3_usize).prop_map(|late| Step::RepeatResponse { late }),
        2 => Just(Step::ReorderResponses),
        1 => Just(Step::RepeatRequest),
        1 => Just(Step::LoseRequest),
        1 => Just(Step::LoseResponse),
        1 => Just(Step::Cut),
        1 => Just(Step::RestartServer),
        2 => (0..20_000_u64).prop_map(|millis| Step::Wait { millis }),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn at_quiescence_the_client_has_what_the_server_has(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        world.check();
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
fn a_client_refuses_by_name_and_keeps_the_rest() {
    let mut world = World::new();
    for (name, content) in [(0, 1), (1, BAD), (2, 3)] {
        world.step(&Step::Publish { of: ALL, name, content });
    }
    world.settle();
    let held: BTreeSet<_> = world.state.keys().map(|(_, name)| name.as_str()).collect();
    assert_eq!(held, ["a", "c"].into());
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
