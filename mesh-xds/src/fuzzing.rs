//! Entries for fuzzers to what peers' bytes reach first.

mod exchange;

use std::ops::ControlFlow;
use std::time::Instant;

use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost::Message;

use crate::delta::{Client, ClientConfig, Published, Server, ServerConfig};
use crate::resolve::{Query, Target, resolve};
use crate::store::{Snapshot, Store};
use exchange::Exchange;

/// A client and a server: each byte is something that happens to one of them, or to what is between
/// them. In the end the client has what the server has.
pub fn exchange(data: &[u8], now: Instant) {
    let mut exchange = Exchange::new(now);
    for byte in data {
        exchange.step(*byte);
    }
    exchange.finish();
}

/// A client hears a response, and applies it.
pub fn response(data: &[u8], now: Instant) {
    let Ok(response) = DeltaDiscoveryResponse::decode(data) else {
        return;
    };
    let config = ClientConfig::new(Node::default())
        .all(ADDRESS_TYPE_URL)
        .on_demand(AUTHORIZATION_TYPE_URL);
    let mut client = Client::<()>::new(config);
    let mut store = Store::new();
    client.connected();
    if let Some(push) = client.receive(response) {
        let refusals = store.apply(&push);
        for refusal in &refusals {
            assert!(!refusal.reason.contains('\n'), "{}", refusal.reason);
        }
        client.settle(push, &refusals);
    }
    while client.next_request(now).is_some() {}
    ask_everywhere(&store.snapshot());
}

/// From every workload to everything that has an address or a hostname.
fn ask_everywhere(mesh: &Snapshot) {
    let mut addresses = Vec::new();
    let mut hostnames = Vec::new();
    mesh.visit_services(|service| {
        addresses.extend(service.addresses.iter().map(|place| place.address));
        addresses.extend(service.blocks.iter().map(|(place, _)| place.address));
        hostnames.push(&*service.hostname);
        ControlFlow::<()>::Continue(())
    });
    mesh.visit_workloads(|workload| {
        addresses.extend(workload.addresses.iter());
        hostnames.extend(workload.hostname.as_deref());
        ControlFlow::<()>::Continue(())
    });
    mesh.visit_workloads(|source| {
        let of_address = addresses.iter().map(|address| Target::Address(*address));
        let of_hostname = hostnames.iter().map(|hostname| Target::Hostname(hostname));
        for target in of_address.chain(of_hostname).take(64) {
            if let Err(error) = resolve(mesh, &Query::new(source, target, 80, 7)) {
                assert!(!error.to_string().is_empty(), "{error:?}");
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

/// A resource of a control plane, and the mesh that is left when it is gone.
pub fn resource(data: &[u8], now: Instant) {
    for type_url in [ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL] {
        let resource = mesh_xds_types::discovery::Resource {
            name: "name".to_owned(),
            resource: Some(prost_types::Any {
                type_url: type_url.to_owned(),
                value: data.to_vec(),
            }),
            ..mesh_xds_types::discovery::Resource::default()
        };
        let message = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            resources: vec![resource],
            removed_resources: vec!["name".to_owned()],
            ..DeltaDiscoveryResponse::default()
        };
        response(&message.encode_to_vec(), now);
    }
}

/// A server hears a request, twice, and answers.
pub fn request(data: &[u8], now: Instant) {
    let Ok(request) = DeltaDiscoveryRequest::decode(data) else {
        return;
    };
    let mut server = Server::new(ServerConfig::new().max_response_bytes(1).part_bytes(1));
    server.publish(
        &request.type_url,
        [Published::new("a", "1", [1]).aliases(["b"]).companions(["c"])],
    );
    let Ok(id) = server.connect() else {
        return;
    };
    for _ in 0..2 {
        let _heard = server.receive(id, &request);
        while server.next_response(id, now).is_some() {}
    }
}

/// A mesh in a file.
#[cfg(feature = "local")]
pub fn local(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _mesh = crate::local::read("file", text);
    }
}
