//! The state as a page for people.

use serde_json::Value;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content='width=device-width'><title>control plane</title><style>\
:root{color-scheme:light dark}body{font:14px/1.4 system-ui,sans-serif;margin:2em;max-width:120em}\
h2{margin:1.5em 0 .3em;text-transform:capitalize}nav a{margin-right:1em}\
.wide{overflow-x:auto}table{border-collapse:collapse}\
th,td{border:1px solid #8886;padding:.2em .6em;text-align:left;vertical-align:top}th{background:#8882}\
td{max-width:40em;overflow-wrap:break-word}.bad{color:#c22;font-weight:600}</style><h1>Control plane</h1>";

/// The columns of each table, by the names that they have as JSON.
const TABLES: [(&str, &[&str]); 7] = [
    (
        "workloads",
        &[
            "namespace",
            "name",
            "serviceAccount",
            "node",
            "addresses",
            "protocol",
            "nativeTunnel",
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
            "weightedWaypoints",
            "loadBalancing",
        ],
    ),
    ("policies", &["namespace", "name", "scope", "action", "dryRun", "rules"]),
    ("waypoints", &["namespace", "name", "told"]),
    (
        "traffic",
        &[
            "kind",
            "namespace",
            "name",
            "file",
            "line",
            "waypoints",
            "conditions",
            "parents",
        ],
    ),
    (
        "rejected",
        &[
            "kind",
            "namespace",
            "name",
            "file",
            "line",
            "reason",
            "staysAsItWas",
            "requestsFail",
        ],
    ),
    ("callers", &["account", "node", "waypoint", "expires"]),
];

/// What is in force, who has it, and what there is to know about it: a dump as a page.
pub(super) fn page(dump: &Value) -> String {
    let mut page = HEAD.to_owned();
    for (field, says) in [
        ("problem", "The directory is not taken"),
        ("rootsProblem", "The roots are not in their files"),
    ] {
        if let Some(problem) = dump.get(field).and_then(Value::as_str) {
            page += &format!("<p class=bad>{says}: {}</p>", escaped(problem));
        }
    }
    let links = ["nodes"].into_iter().chain(TABLES.map(|(name, _)| name));
    let links: String = links
        .chain(["notices"])
        .map(|name| format!("<a href='#{name}'>{name} ({})</a>", rows(dump, name).len()))
        .collect();
    page += &format!("<nav>{links}<a href='config_dump'>JSON</a></nav>");
    page += &nodes(rows(dump, "nodes"));
    for (name, columns) in TABLES {
        let cells = rows(dump, name)
            .iter()
            .map(|row| columns.iter().map(|column| cell(row.get(column))).collect());
        page += &table(name, columns, cells);
    }
    let notices = rows(dump, "notices").iter();
    let notices: String = notices
        .map(|notice| format!("<li>{}", escaped(&words(notice))))
        .collect();
    page + &format!("<h2 id=notices>notices</h2><ul>{notices}</ul>")
}

/// Who listens, one row for each type of resources.
fn nodes(nodes: &[Value]) -> String {
    let columns = ["node", "id", "type", "has", "last refusal"];
    let types = nodes.iter().flat_map(|node| {
        rows(node, "types").iter().map(move |standing| {
            let number = |field: &str| standing.get(field).and_then(Value::as_u64);
            let has = match (number("held"), number("latest")) {
                (None, _) => "<td class=bad>nothing yet".to_owned(),
                (Some(held), latest) if Some(held) == latest => format!("<td>everything, up to change {held}"),
                (Some(held), latest) => {
                    format!("<td class=bad>up to change {held} of {}", latest.unwrap_or_default())
                }
            };
            let refusal = cell(standing.get("refusal")).replacen("<td>", "<td class=bad>", 1);
            [
                cell(node.get("node")),
                cell(node.get("id")),
                cell(standing.get("type")),
                has,
                refusal,
            ]
            .concat()
        })
    });
    table("nodes", &columns, types)
}

fn table(name: &str, columns: &[&str], rows: impl Iterator<Item = String>) -> String {
    let heads: String = columns.iter().map(|column| format!("<th>{column}")).collect();
    let rows: String = rows.map(|cells| format!("<tr>{cells}")).collect();
    match rows.is_empty() {
        true => format!("<h2 id={name}>{name}</h2><p>none</p>"),
        false => format!("<h2 id={name}>{name}</h2><div class=wide><table><tr>{heads}{rows}</table></div>"),
    }
}

fn rows<'d>(dump: &'d Value, name: &str) -> &'d [Value] {
    dump.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn cell(value: Option<&Value>) -> String {
    format!("<td>{}", value.map(|value| escaped(&words(value))).unwrap_or_default())
}

/// A value without what only makes it JSON.
fn words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(|value| !value.is_array() && !value.is_object()) => {
            values.iter().map(words).collect::<Vec<_>>().join(", ")
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                Value::Object(_) => format!("{name} ({})", words(value)),
                value => format!("{name}: {}", words(value)),
            });
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_objects_and_nodes_say_is_no_markup() {
        let page = page(&json!({
            "problem": "a.yaml:1: `<script>` & co",
            "nodes": [{"node": "<b>", "types": [{"type": "t", "held": 1, "latest": 1, "refusal": "<i>"}]}],
        }));
        assert!(page.contains("`&lt;script&gt;` &amp; co"));
        assert!(page.contains("&lt;b&gt;") && page.contains("<td class=bad>&lt;i&gt;"));
        assert!(!page.contains("<script>") && !page.contains("<b>") && !page.contains("<i>"));
    }

    #[test]
    fn a_node_that_is_behind_is_marked() {
        let node = |held| json!({"nodes": [{"node": "a", "types": [{"type": "t", "held": held, "latest": 5}]}]});
        let has = |held: Value| page(&node(held));
        assert!(has(json!(5)).contains("<td>everything, up to change 5"));
        assert!(has(json!(4)).contains("<td class=bad>up to change 4 of 5"));
        assert!(has(Value::Null).contains("<td class=bad>nothing yet"));
    }
}
