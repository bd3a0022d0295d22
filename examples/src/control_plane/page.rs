//! The state as a page for people.

use serde_json::Value;

use super::dump;
use super::state::State;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>control plane</title>\
<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}\
td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;vertical-align:top}.problem{color:#b00}</style>\
<h1>Control plane</h1>";

/// The columns of each table, by the names that they have as JSON.
const TABLES: [(&str, &[&str]); 4] = [
    (
        "workloads",
        &[
            "namespace",
            "name",
            "serviceAccount",
            "node",
            "addresses",
            "protocol",
            "status",
            "waypoint",
            "policies",
            "services",
        ],
    ),
    (
        "services",
        &[
            "namespace",
            "hostname",
            "addresses",
            "ports",
            "waypoint",
            "loadBalancing",
        ],
    ),
    ("policies", &["namespace", "name", "scope", "action", "dryRun", "rules"]),
    ("callers", &["account", "node"]),
];

/// What is in force, for how many nodes, and what there is to know about it.
pub(super) fn page(state: &State, clients: usize) -> String {
    let dump = dump::dump(&state.mesh);
    let problem = state.problem.as_deref().map(|problem| {
        let problem = escaped(problem);
        format!("<p class=problem>The directory is not taken: {problem}</p>")
    });
    let tables = TABLES.map(|(name, columns)| {
        let rows = dump.get(name).and_then(Value::as_array);
        table(name, columns, rows.map_or(&[], Vec::as_slice))
    });
    let notices = state.mesh.notices.iter();
    let notices: String = notices
        .map(|notice| format!("<li>{}", escaped(&notice.to_string())))
        .collect();
    format!(
        "{HEAD}{}<p>{clients} connected</p>{}<h2>notices</h2><ul>{notices}</ul>",
        problem.unwrap_or_default(),
        tables.concat()
    )
}

fn table(name: &str, columns: &[&str], rows: &[Value]) -> String {
    let cell = |row: &Value, column: &str| match row.get(column) {
        None => "<td>".to_owned(),
        Some(Value::String(text)) => format!("<td>{}", escaped(text)),
        Some(value) => format!("<td>{}", escaped(&value.to_string())),
    };
    let heads: String = columns.iter().map(|column| format!("<th>{column}")).collect();
    let row = |row: &Value| -> String { columns.iter().map(|column| cell(row, column)).collect() };
    let rows_of_cells: String = rows.iter().map(|found| format!("<tr>{}", row(found))).collect();
    format!(
        "<h2>{name} ({})</h2><table><tr>{heads}{rows_of_cells}</table>",
        rows.len()
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::compile::Mesh;
    use super::*;

    #[test]
    fn what_objects_say_is_no_markup() {
        let state = State {
            mesh: Mesh::default().into(),
            problem: Some("a.yaml:1: `<script>` & co".to_owned()),
        };
        let page = page(&state, 3);
        assert!(page.contains("`&lt;script&gt;` &amp; co") && page.contains("3 connected"));
    }
}
