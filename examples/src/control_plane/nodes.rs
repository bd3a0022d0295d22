//! The nodes that listen, for people and for tests.

use mesh_xds::delta::Standing;
use mesh_xds::server::Connected;
use mesh_xds_types::core::Node;
use prost_types::value::Kind;
use serde_json::{Value, json};

/// Characters that are shown of what a node calls itself.
const MAX_NAME: usize = 300;

/// Who is connected, and how far each is with each type.
pub(super) fn nodes(connected: &[Connected]) -> Value {
    connected.iter().map(node).collect()
}

fn node(connected: &Connected) -> Value {
    let node = connected.node.as_ref();
    let standings = &connected.standings;
    json!({
        "id": node.map(|node| node.id.chars().take(MAX_NAME).collect::<String>()),
        "node": node.and_then(name).map(|name| name.chars().take(MAX_NAME).collect::<String>()),
        // Of what was published up to now.
        "isCurrent": !standings.is_empty() && standings.iter().all(|standing| standing.held == Some(standing.latest)),
        "types": standings.iter().map(standing).collect::<Value>(),
    })
}

fn standing(standing: &Standing) -> Value {
    json!({
        "type": standing.type_url.trim_start_matches("type.googleapis.com/"),
        "held": standing.held,
        "latest": standing.latest,
        "refusal": standing.refusal,
    })
}

/// What the node calls itself.
fn name(node: &Node) -> Option<&str> {
    match &node.metadata.as_ref()?.fields.get("NODE_NAME")?.kind {
        Some(Kind::StringValue(name)) => Some(name),
        _ => None,
    }
}
