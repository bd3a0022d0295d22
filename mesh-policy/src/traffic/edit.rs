use super::field::{FieldName, FieldValue};

/// What becomes of the headers of a message. What is removed is removed first, then lines are set,
/// then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderEdits {
    /// All lines of these names go.
    pub remove: Vec<FieldName>,
    /// All lines of these names go, and one with the value takes their place.
    pub set: Vec<(FieldName, FieldValue)>,
    /// One line more of each.
    pub add: Vec<(FieldName, FieldValue)>,
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Changes the headers of a message.
    pub fn apply(&self, headers: &mut impl EditHeaders) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.remove(name);
            headers.add(name, value);
        }
        for (name, value) in &self.add {
            headers.add(name, value);
        }
    }
}

/// The headers of a message, as a rule changes them. Implemented for a list of names and values; an
/// HTTP library's map takes a few lines.
pub trait EditHeaders {
    /// Removes all lines of a name, in whatever case.
    fn remove(&mut self, name: &FieldName);

    /// Adds a line.
    fn add(&mut self, name: &FieldName, value: &FieldValue);
}

impl EditHeaders for Vec<(String, String)> {
    fn remove(&mut self, name: &FieldName) {
        self.retain(|(line, _)| !line.eq_ignore_ascii_case(name.as_str()));
    }

    fn add(&mut self, name: &FieldName, value: &FieldValue) {
        self.push((name.as_str().to_owned(), value.as_str().to_owned()));
    }
}
