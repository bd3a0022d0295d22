//! The graph in Graphviz's language.

use std::fmt::{self, Write};

use super::graph::{Graph, Kind};

/// A graph that is shown as a digraph.
pub(super) struct Dot<'g>(pub(super) &'g Graph);

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(graph) = self;
        writeln!(f, "digraph mesh {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];")?;
        for node in &graph.nodes {
            let shape = match node.kind {
                Kind::Workload => "box",
                Kind::Service => "ellipse",
                Kind::Waypoint => "hexagon",
                Kind::Stranger => "note",
            };
            let (id, label) = (Quoted(&node.id), Quoted(&node.name));
            writeln!(f, "  {id} [label={label},shape={shape}];")?;
        }
        for link in &graph.links {
            let (from, to) = (Quoted(&link.from), Quoted(&link.to));
            match link.route {
                Some(route) => {
                    let (colour, style) = route.colour();
                    let text = route.text(link.is_encrypted);
                    writeln!(
                        f,
                        "  {from} -> {to} [label=\"{text}\",color=\"{colour}\",fontcolor=\"{colour}\",style={style}];"
                    )?;
                }
                None => writeln!(f, "  {from} -> {to} [color=\"#9ca3af\",style=dotted,arrowhead=none];")?,
            }
        }
        writeln!(f, "}}")
    }
}

/// A string of the language. There, a backslash within one can also mean a field of the node.
struct Quoted<'t>(&'t str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                char if char.is_control() => f.write_char(' ')?,
                char => f.write_char(char)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn a_graph_is_a_digraph_and_names_are_text() {
        let dot = Dot(&graph()).to_string();
        let hostile = "\"workload/shop/<img src=x onerror=alert(1)>\\\"];#quot;|end\"";
        for line in [
            "  \"workload/shop/cart\" [label=\"cart\",shape=box];".to_owned(),
            format!(
                "  {hostile} -> \"service/till.shop.svc\" \
                 [label=\"plaintext\",color=\"#b45309\",fontcolor=\"#b45309\",style=dashed];"
            ),
        ] {
            assert!(dot.lines().any(|found| found == line), "{line}\n{dot}");
        }
    }
}
