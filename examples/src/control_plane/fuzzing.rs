//! The way from a file to a node, for fuzzers.

use std::time::Instant;

use mesh_xds::delta::{Client, ClientConfig, Server, ServerConfig};
use mesh_xds::store::Store;
use mesh_xds_types::core::Node;
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};

use super::compile::{Mesh, Settings, compile};
use super::objects::{Name, Objects};
use super::{dump, publish};

/// Reads a file of Kubernetes objects and compiles it, always to the same; and a node takes
/// everything that comes of it. Tells whether anything did.
///
/// # Panics
///
/// What is promised here does not hold.
pub fn objects(text: &str, now: Instant) -> bool {
    let mesh = match compiled(text) {
        Ok(mesh) => mesh,
        Err(error) => {
            assert!(!error.contains('\n'), "{error}");
            return false;
        }
    };
    assert_eq!(Ok(dump::dump(&mesh)), compiled(text).map(|again| dump::dump(&again)));
    for (name, told) in &mesh.traffic.told {
        check_told(name, &told.text);
    }
    let mut store = Store::new();
    let refused = deliver(&mesh, &mut store, now);
    assert!(refused.is_empty(), "a node refuses {refused:?}");
    let snapshot = store.snapshot();
    for uid in mesh.workloads.keys() {
        assert!(snapshot.workload(uid).is_some(), "{uid}");
    }
    for name in mesh.policies.keys() {
        assert!(snapshot.policy(name).is_some(), "{name}");
    }
    true
}

/// What a file comes to, or what a person is told.
fn compiled(text: &str) -> Result<Mesh, String> {
    let trust_domain = "cluster.local".parse().map_err(|_| "trust domain")?;
    let settings = Settings::of_mesh(trust_domain);
    let mut objects = Objects::default();
    objects.add("fuzz.yaml", text).map_err(|error| error.to_string())?;
    compile(&objects, &settings).map_err(|error| error.to_string())
}

/// Checks that a waypoint reads what it is told as it was read here, and would be told it again.
fn check_told(name: &Name, text: &str) {
    let mut objects = Objects::default();
    let added = objects.add("told.json", text);
    assert!(added.is_ok(), "{name}: {added:?}");
    let again = objects.traffic.told.get(name).map(|told| &*told.text);
    assert_eq!(again, Some(text), "{name}: {:?}", objects.traffic.rejected);
}

/// Has a node hear of a mesh; answers with what it refuses.
fn deliver(mesh: &Mesh, store: &mut Store, now: Instant) -> Vec<String> {
    let mut server = Server::new(ServerConfig::new());
    server.publish(AUTHORIZATION_TYPE_URL, publish::policies(mesh));
    server.publish(ADDRESS_TYPE_URL, publish::addresses(mesh));
    let config = ClientConfig::new(Node::default())
        .all(AUTHORIZATION_TYPE_URL)
        .all(ADDRESS_TYPE_URL);
    let mut client = Client::<()>::new(config);
    client.connected();
    let mut refused = Vec::new();
    let Ok(id) = server.connect() else { return refused };
    while let Some(request) = client.next_request(now) {
        if let Err(violation) = server.receive(id, &request) {
            refused.push(violation.to_string());
        }
        while let Some(push) = server
            .next_response(id, now)
            .and_then(|response| client.receive(response))
        {
            let refusals = store.apply(&push);
            refused.extend(
                refusals
                    .iter()
                    .map(|refusal| format!("{}: {}", refusal.name, refusal.reason)),
            );
            client.settle(push, &refusals);
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The objects that the tests of the program compile.
    fn texts() -> Vec<String> {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control_plane/golden");
        let cases = fs::read_dir(cases).unwrap();
        cases
            .map(|case| fs::read_to_string(case.unwrap().path().join("objects.yaml")).unwrap())
            .collect()
    }

    fn taken(text: &str) -> bool {
        objects(text, tokio::time::Instant::now().into_std())
    }

    #[test]
    fn nodes_take_what_good_directories_come_to() {
        let good = texts().iter().filter(|text| taken(text)).count();
        assert!(good > 10, "{good}");
    }

    #[test]
    fn a_line_or_value_that_is_missing_or_changed_never_panics() {
        let mut read = 0;
        for text in texts() {
            let lines: Vec<&str> = text.lines().collect();
            // Each is compiled: of a long text some are enough, of all texts together each kind is.
            for at in (0..lines.len()).step_by(lines.len() / 16 + 1) {
                for value in ["", "- 0", "a: {b: [c]}", "name: -1"] {
                    let mut changed = lines.clone();
                    changed[at] = value;
                    read += usize::from(taken(&changed.join("\n")));
                }
            }
            let signs: Vec<_> = text.match_indices(|sign: char| ",:{}[]".contains(sign)).collect();
            for (at, _) in signs.iter().copied().step_by(signs.len() / 32 + 1) {
                let (before, after) = text.split_at(at);
                taken(before);
                let changed: String = before.chars().chain(after.chars().skip(1)).collect();
                taken(&changed);
            }
        }
        assert!(read > 10, "{read}");
    }
}
