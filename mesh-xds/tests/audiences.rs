//! Resources that are not for everybody.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::sync::Arc;

use mesh_testkit::clock::ManualClock;
use mesh_xds::delta::{ClientId, Published, Server, ServerConfig, Violation};
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL};

fn published(name: &'static str) -> Published {
    Published::new(name, "1", *b"content")
}

fn told(audience: &str, names: &[&'static str]) -> (Arc<str>, Vec<Published>) {
    (audience.into(), names.iter().map(|name| published(name)).collect())
}

fn ask(server: &mut Server, id: ClientId, type_url: &str, held: &[&str]) {
    let held = held.iter().map(|name| ((*name).to_owned(), "1".to_owned()));
    let request = DeltaDiscoveryRequest {
        type_url: type_url.into(),
        initial_resource_versions: held.collect(),
        ..DeltaDiscoveryRequest::default()
    };
    server.receive(id, &request).unwrap();
}

fn take(server: &mut Server, id: ClientId, response: &DeltaDiscoveryResponse) {
    let request = DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    };
    server.receive(id, &request).unwrap();
}

/// What a response brings, and with a `-` what it takes.
fn says(response: &DeltaDiscoveryResponse) -> String {
    let mut brought: Vec<_> = response
        .resources
        .iter()
        .map(|resource| resource.name.clone())
        .collect();
    brought.extend(response.removed_resources.iter().map(|name| format!("-{name}")));
    brought.sort();
    brought.join(" ")
}

/// All that a client is told until there is no more, each answered at once.
fn hear(server: &mut Server, id: ClientId) -> Vec<String> {
    let now = ManualClock::new().now();
    let mut heard = Vec::new();
    while let Some(response) = server.next_response(id, now) {
        take(server, id, &response);
        heard.push(says(&response));
    }
    heard
}

fn join(server: &mut Server, audience: Option<&str>, held: &[&str]) -> ClientId {
    let id = server.connect_as(audience.map(Into::into)).unwrap();
    ask(server, id, MANIFEST_TYPE_URL, held);
    id
}

#[test]
fn each_audience_hears_of_its_own_and_of_nothing_else() {
    let mut server = Server::new(ServerConfig::new());
    server.publish_to(
        MANIFEST_TYPE_URL,
        [told("one", &["a", "both"]), told("two", &["b", "both"])],
    );
    let [one, two] = ["one", "two"].map(|audience| join(&mut server, Some(audience), &[]));
    let [nobody, three] = [None, Some("three")].map(|audience| join(&mut server, audience, &[]));
    assert_eq!(hear(&mut server, one), ["a both"]);
    assert_eq!(hear(&mut server, two), ["b both"]);
    assert_eq!(
        (hear(&mut server, nobody), hear(&mut server, three)),
        (vec![String::new()], vec![String::new()])
    );

    server.publish_to(MANIFEST_TYPE_URL, [told("two", &["both", "c"]), told("three", &["b"])]);
    assert_eq!(hear(&mut server, one), ["-a -both"]);
    assert_eq!(hear(&mut server, two), ["-b c"]);
    assert_eq!(hear(&mut server, three), ["b"]);
    assert!(hear(&mut server, nobody).is_empty());
    for id in [one, two, three, nobody] {
        assert!(
            server
                .standings(id)
                .all(|standing| standing.held == Some(standing.latest))
        );
    }

    server.update_to(MANIFEST_TYPE_URL, [told("one", &["d"])]);
    assert_eq!(hear(&mut server, one), ["d"]);
    assert!(hear(&mut server, two).is_empty());
}

#[test]
fn who_asks_for_a_name_of_somebody_elses_hears_that_there_is_none() {
    let mut server = Server::new(ServerConfig::new());
    server.publish_to(MANIFEST_TYPE_URL, [told("one", &["a"])]);
    let id = server.connect_as(Some("two".into())).unwrap();
    let request = DeltaDiscoveryRequest {
        type_url: MANIFEST_TYPE_URL.into(),
        resource_names_subscribe: vec!["a".into()],
        ..DeltaDiscoveryRequest::default()
    };
    server.receive(id, &request).unwrap();
    assert_eq!(hear(&mut server, id), ["-a"]);
}

#[test]
fn who_comes_back_as_another_loses_what_it_had() {
    let mut server = Server::new(ServerConfig::new());
    server.publish_to(
        MANIFEST_TYPE_URL,
        [told("one", &["a", "both"]), told("two", &["b", "both"])],
    );
    let two = join(&mut server, Some("two"), &["a", "both"]);
    assert_eq!(hear(&mut server, two), ["b", "-a"]);
    server.publish_to(MANIFEST_TYPE_URL, []);
    assert_eq!(hear(&mut server, two), ["-b -both"]);
    server.disconnect(two);
    // Nobody is left to remember anything of.
    server.publish_to(MANIFEST_TYPE_URL, []);
    let two = join(&mut server, Some("two"), &["b"]);
    assert_eq!(hear(&mut server, two), ["", "-b"]);
}

/// What is published of a type before addresses, and taken back after them, reaches and leaves a
/// client so.
fn comes_first_and_goes_last(guard: &str, publish: impl Fn(&mut Server, &[&'static str])) {
    let now = ManualClock::new().now();
    let mut server = Server::new(ServerConfig::new());
    server.publish(ADDRESS_TYPE_URL, []);
    let one = server.connect_as(Some("one".into())).unwrap();
    let plain = server.connect().unwrap();
    ask(&mut server, one, guard, &[]);
    for id in [one, plain] {
        ask(&mut server, id, ADDRESS_TYPE_URL, &[]);
        hear(&mut server, id);
    }

    publish(&mut server, &["guard"]);
    server.publish(ADDRESS_TYPE_URL, [published("service")]);
    // Who asks for nothing else waits for nothing.
    assert_eq!(hear(&mut server, plain), ["service"]);
    let first = server.next_response(one, now).unwrap();
    assert_eq!(says(&first), "guard");
    assert!(server.next_response(one, now).is_none());
    take(&mut server, one, &first);
    assert_eq!(hear(&mut server, one), ["service"]);

    server.publish(ADDRESS_TYPE_URL, []);
    publish(&mut server, &[]);
    let first = server.next_response(one, now).unwrap();
    assert_eq!(says(&first), "-service");
    assert!(server.next_response(one, now).is_none());
    take(&mut server, one, &first);
    assert_eq!(hear(&mut server, one), ["-guard"]);
}

#[test]
fn policies_and_manifests_come_before_addresses_and_go_after_them() {
    for guard in [AUTHORIZATION_TYPE_URL, MANIFEST_TYPE_URL] {
        comes_first_and_goes_last(guard, |server, names| {
            server.publish_to(guard, [told("one", names)]);
        });
        comes_first_and_goes_last(guard, |server, names| {
            server.publish(guard, names.iter().map(|name| published(name)));
        });
    }
}

#[test]
fn what_was_forgotten_with_an_audience_keeps_nobody_waiting() {
    let mut server = Server::new(ServerConfig::new());
    for _ in 0..2 {
        server.publish_to(MANIFEST_TYPE_URL, [told("one", &["a", "b"])]);
        server.publish(ADDRESS_TYPE_URL, [published("service")]);
        // Nobody of the audience is there, so nothing of it stays.
        server.publish_to(MANIFEST_TYPE_URL, []);
        let id = join(&mut server, Some("one"), &[]);
        ask(&mut server, id, ADDRESS_TYPE_URL, &[]);
        assert_eq!(hear(&mut server, id), ["", "service"]);
        server.disconnect(id);
    }
    let id = join(&mut server, Some("one"), &[]);
    ask(&mut server, id, ADDRESS_TYPE_URL, &[]);
    hear(&mut server, id);
    server.update_to(MANIFEST_TYPE_URL, [told("one", &["a"])]);
    server.publish(ADDRESS_TYPE_URL, []);
    assert_eq!(hear(&mut server, id), ["a", "-service"]);
    server.publish_to(MANIFEST_TYPE_URL, []);
    assert_eq!(hear(&mut server, id), ["-a"]);
}

#[test]
fn who_was_told_for_its_audience_begins_anew_where_all_are_told_the_same() {
    let mut server = Server::new(ServerConfig::new());
    server.publish_to(MANIFEST_TYPE_URL, [told("one", &["a", "b"])]);
    let (one, other) = (join(&mut server, Some("one"), &[]), server.connect().unwrap());
    ask(&mut server, other, ADDRESS_TYPE_URL, &[]);
    hear(&mut server, one);
    server.publish(MANIFEST_TYPE_URL, [published("c")]);
    assert!(!server.is_connected(one) && server.is_connected(other));
    let one = join(&mut server, Some("one"), &["a", "b"]);
    assert_eq!(hear(&mut server, one), ["c", "-a -b"]);

    server.update_to(MANIFEST_TYPE_URL, [told("one", &["d"])]);
    assert!(!server.is_connected(one));
    let one = join(&mut server, Some("one"), &["c"]);
    assert_eq!(hear(&mut server, one), ["d", "-c"]);
    assert!(server.is_connected(other));
}

#[test]
fn what_is_said_twice_of_an_audience_is_added_up() {
    let mut server = Server::new(ServerConfig::new());
    server.publish_to(MANIFEST_TYPE_URL, [told("one", &["a"]), told("one", &["b"])]);
    let one = join(&mut server, Some("one"), &[]);
    assert_eq!(hear(&mut server, one), ["a b"]);
}

#[test]
fn a_client_may_have_so_much_that_nobody_knows_in_all_types() {
    let mut server = Server::new(ServerConfig::new());
    let id = server.connect().unwrap();
    let mut begin = |type_url: &str, count: u32| {
        let request = DeltaDiscoveryRequest {
            type_url: type_url.into(),
            initial_resource_versions: (0..count).map(|name| (name.to_string(), "1".into())).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        server.receive(id, &request).map(drop)
    };
    assert_eq!(begin("a", 600_000), Ok(()));
    assert_eq!(begin("b", 400_001), Err(Violation::TooManyUnknown(1_000_001)));
    assert_eq!(begin("b", 400_000), Ok(()));
}
