use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

/// The names of what a client has, with versions.
///
/// There may be a great many, so each pair is one text.
#[derive(Debug, Default)]
pub(super) struct Held {
    pairs: HashSet<Pair>,
}

/// A name with the version behind it. Alike are those with the same name.
#[derive(Debug)]
struct Pair {
    text: Box<str>,
    /// Bytes of the name.
    name: usize,
}

impl Held {
    /// Has a name in a version from now on.
    pub(super) fn insert(&mut self, name: &str, version: &str) {
        self.pairs.replace(Pair {
            text: [name, version].concat().into(),
            name: name.len(),
        });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.pairs.remove(name);
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.pairs.contains(name)
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Each name with its version.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(Pair::parts)
    }
}

impl Pair {
    fn parts(&self) -> (&str, &str) {
        // A text is always longer than its name.
        self.text.split_at_checked(self.name).unwrap_or((&self.text, ""))
    }
}

impl Borrow<str> for Pair {
    fn borrow(&self) -> &str {
        self.parts().0
    }
}

impl Hash for Pair {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().0.hash(state);
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.parts().0 == other.parts().0
    }
}

impl Eq for Pair {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_version_that_it_was_given_last() {
        let mut held = Held::default();
        held.insert("a", "1");
        held.insert("a1", "");
        held.insert("a", "22");
        let mut pairs: Vec<_> = held.iter().collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [("a", "22"), ("a1", "")]);
        held.remove("a");
        assert!(!held.contains("a") && held.contains("a1") && held.len() == 1);
    }
}
