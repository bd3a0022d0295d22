//! What waypoints are told, and what became of it. Not what it says: keys may be among that.

use serde_json::{Value, json};

use super::super::compile::{Condition, Mesh};
use super::filled;

/// The names of what each waypoint is told.
pub(super) fn waypoints(mesh: &Mesh) -> Value {
    let waypoints = mesh.programs.iter().map(|(key, program)| {
        let told: Vec<_> = program.keys().map(ToString::to_string).collect();
        filled([
            ("namespace", json!(key.namespace)),
            ("name", json!(key.name)),
            ("told", json!(told)),
        ])
    });
    waypoints.collect()
}

/// What became of each object, by the conditions of the Gateway API.
pub(super) fn statuses(mesh: &Mesh) -> Value {
    let statuses = mesh.statuses.iter().map(|status| {
        let parents = status
            .parents
            .iter()
            .map(|(parent, conditions)| json!({"parent": parent, "conditions": self::conditions(conditions)}));
        filled([
            ("kind", json!(status.name.kind)),
            ("namespace", json!(status.name.key.namespace)),
            ("name", json!(status.name.key.name)),
            ("file", json!(&*status.place.file)),
            ("line", json!(status.place.line)),
            ("waypoints", status.waypoints.iter().map(ToString::to_string).collect()),
            ("conditions", conditions(&status.conditions)),
            ("parents", parents.collect()),
        ])
    });
    statuses.collect()
}

/// What is not taken, and why.
pub(super) fn rejected(mesh: &Mesh) -> Value {
    let rejected = mesh.traffic.rejected.iter().map(|rejected| {
        filled([
            ("kind", json!(rejected.name.kind)),
            ("namespace", json!(rejected.name.key.namespace)),
            ("name", json!(rejected.name.key.name)),
            ("file", json!(&*rejected.place.file)),
            ("line", json!(rejected.place.line)),
            ("reason", json!(rejected.reason)),
            ("staysAsItWas", json!(rejected.is_kept)),
            ("requestsFail", json!(rejected.fails)),
        ])
    });
    rejected.collect()
}

fn conditions(conditions: &[Condition]) -> Value {
    let conditions = conditions.iter().map(|condition| {
        filled([
            ("type", json!(condition.kind)),
            ("status", json!(if condition.is_true { "True" } else { "False" })),
            ("reason", json!(condition.reason)),
            ("message", json!(condition.message)),
        ])
    });
    conditions.collect()
}
