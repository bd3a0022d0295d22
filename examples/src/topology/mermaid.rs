//! The graph as Mermaid's flowchart.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::flow::Route;
use super::graph::{Graph, Kind};

/// A graph that is shown as a flowchart.
pub(crate) struct Mermaid<'g>(pub(crate) &'g Graph);

impl fmt::Display for Mermaid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(graph) = self;
        writeln!(f, "flowchart LR")?;
        let mut numbers = BTreeMap::new();
        for (number, node) in graph.nodes.iter().enumerate() {
            numbers.insert(&*node.id, number);
            let (open, close) = match node.kind {
                Kind::Workload => ("[", "]"),
                Kind::Service => ("([", "])"),
                Kind::Waypoint => ("{{", "}}"),
                Kind::Stranger => (">", "]"),
            };
            writeln!(f, "  n{number}{open}\"{}\"{close}", Escaped(&node.name))?;
        }
        let mut styles = Vec::new();
        for link in &graph.links {
            let ends = numbers.get(&*link.from).zip(numbers.get(&*link.to));
            let Some((from, to)) = ends else { continue };
            match link.route {
                Some(route) => writeln!(f, "  n{from} -- \"{}\" --> n{to}", route.text(link.is_encrypted))?,
                None => writeln!(f, "  n{from} -.- n{to}")?,
            }
            styles.push(link.route);
        }
        for route in Route::ALL {
            let of_route = styles.iter().enumerate().filter(|(_, own)| **own == Some(route));
            let numbers: Vec<String> = of_route.map(|(number, _)| number.to_string()).collect();
            if !numbers.is_empty() {
                let (colour, _) = route.colour();
                writeln!(f, "  linkStyle {} stroke:{colour},color:{colour}", numbers.join(","))?;
            }
        }
        Ok(())
    }
}

/// A label within quotes: whatever could be more than text is written by its number.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                char if char.is_alphanumeric() || " -./".contains(char) => f.write_char(char)?,
                char => write!(f, "#{};", u32::from(char))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn a_graph_is_a_flowchart_and_names_are_text() {
        let expected = "\
flowchart LR
  n0>\"#60;img src#61;x onerror#61;alert#40;1#41;#62;#34;#93;#59;#35;quot#59;#124;end\"]
  n1[\"cart\"]
  n2[\"till\"]
  n3([\"idle.shop.svc\"])
  n4([\"till.shop.svc\"])
  n3 -.- n2
  n4 -- \"node proxy, mTLS\" --> n2
  n4 -- \"plaintext\" --> n2
  n0 -- \"plaintext\" --> n4
  n1 -- \"node proxy, mTLS\" --> n4
  linkStyle 1,4 stroke:#15803d,color:#15803d
  linkStyle 2,3 stroke:#b45309,color:#b45309
";
        assert_eq!(Mermaid(&graph()).to_string(), expected);
    }
}
