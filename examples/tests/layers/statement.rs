//! The statements of `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};

/// Who may depend on whom, of the block `crates`.
pub(crate) struct Borders(pub(crate) BTreeMap<String, Border>);

pub(crate) struct Border {
    pub(crate) may_use: BTreeSet<String>,
    pub(crate) never: BTreeSet<String>,
}

impl Borders {
    pub(crate) fn parse(architecture: &str) -> Self {
        let lines = block(architecture, "crates").expect("ARCHITECTURE.md has a `crates` block");
        Self(
            lines
                .iter()
                .map(|line| {
                    let (allowed, never) = line.split_once("never").unwrap_or((line, ""));
                    let (name, may_use) = allowed.split_once(':').expect("`NAME: CRATES`");
                    (
                        name.to_owned(),
                        Border {
                            may_use: words(may_use),
                            never: words(never),
                        },
                    )
                })
                .collect(),
        )
    }
}

/// The modules of one crate, of its block `ranks`: a line for each rank, the highest first.
pub(crate) struct Ranks {
    /// Grows downwards, so a module may use what has a greater number.
    pub(crate) rank: BTreeMap<String, usize>,
    pub(crate) io: BTreeSet<String>,
}

impl Ranks {
    pub(crate) fn parse(architecture: &str, name: &str) -> Option<Self> {
        let mut ranks = Self {
            rank: BTreeMap::new(),
            io: BTreeSet::new(),
        };
        for (rank, line) in block(architecture, &format!("ranks {name}"))?.iter().enumerate() {
            if let Some(io) = line.strip_prefix("io:") {
                ranks.io.extend(words(io));
                continue;
            }
            for module in words(line) {
                assert!(
                    ranks.rank.insert(module.clone(), rank).is_none(),
                    "{name}: `{module}` has two ranks"
                );
            }
        }
        for module in &ranks.io {
            assert!(
                ranks.rank.contains_key(module),
                "{name}: the io module `{module}` has no rank"
            );
        }
        Some(ranks)
    }

    /// The names of the modules within `module`.
    pub(crate) fn children(&self, module: &str) -> BTreeSet<String> {
        self.rank
            .keys()
            .filter_map(|other| other.strip_prefix(module)?.strip_prefix('/'))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect()
    }

    /// The deepest module that `path` passes through.
    pub(crate) fn module_of(&self, path: &[String]) -> Option<&str> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.rank.get_key_value(&path[..length].join("/")))
            .map(|(module, _)| module.as_str())
    }
}

/// The lines of the fenced block whose info string is `info`, without comments.
fn block<'a>(markdown: &'a str, info: &str) -> Option<Vec<&'a str>> {
    let fence = format!("```{info}");
    let mut lines = markdown.lines().skip_while(|line| *line != fence);
    lines.next()?;
    Some(
        lines
            .take_while(|line| *line != "```")
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .filter(|line| !line.is_empty())
            .collect(),
    )
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

mod tests {
    use super::*;

    #[test]
    fn names_the_deepest_module_on_a_path() {
        let ranks = Ranks::parse("```ranks x\n# top\npool\npool/key # lower\nwire\nio: pool\n```", "x").unwrap();
        let module_of = |path: &str| {
            let path: Vec<String> = path.split("::").map(str::to_owned).collect();
            ranks.module_of(&path).map(str::to_owned)
        };
        assert_eq!(module_of("pool::key::Key").as_deref(), Some("pool/key"));
        assert_eq!(module_of("pool::Pool").as_deref(), Some("pool"));
        assert_eq!(module_of("Pool"), None);
        assert!(ranks.rank["pool/key"] > ranks.rank["pool"]);
    }
}
