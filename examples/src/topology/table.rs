//! The flows as a table of text.

use std::fmt;

use super::graph::Graph;

/// Characters of a name; of a longer one, the end is left out.
const NAME: usize = 14;

/// A graph whose flows are shown line by line, no wider than 80 columns.
pub(crate) struct Table<'g>(pub(crate) &'g Graph);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(graph) = self;
        writeln!(
            f,
            "{:<NAME$}    {:<NAME$}  {:<18}{:>7}{:>8}{:>12}",
            "from", "to", "path", "opened", "failed", "bytes"
        )?;
        for flow in &graph.flows {
            let [source, destination] = [&flow.source, &flow.destination].map(|id| shown(graph.name_of(id)));
            writeln!(
                f,
                "{source:<NAME$} -> {destination:<NAME$}  {:<18}{:>7}{:>8}{:>12}",
                flow.route.text(flow.is_encrypted),
                flow.connections,
                flow.failed,
                Bytes(flow.bytes).to_string()
            )?;
        }
        Ok(())
    }
}

/// A name that moves no cursor.
fn shown(name: &str) -> String {
    let printable = name.chars().map(|char| if char.is_control() { '?' } else { char });
    printable.take(NAME).collect()
}

/// A number of bytes, for people.
struct Bytes(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        match self.0 {
            bytes if bytes < KIB => write!(f, "{bytes} B"),
            bytes if bytes < KIB * KIB => write!(f, "{:.1} KiB", bytes / KIB),
            bytes => write!(f, "{:.1} MiB", bytes / KIB / KIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::tests::graph;
    use super::*;

    #[test]
    fn flows_are_lines() {
        let expected = "\
from              to              path               opened  failed       bytes
<img src=x one -> till            plaintext               1       0         0 B
cart           -> till            node proxy, mTLS        4       0         0 B
";
        assert_eq!(Table(&graph()).to_string(), expected);
    }
}
