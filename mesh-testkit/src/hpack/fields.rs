use std::fmt;

/// Decoded fields, in the order in which they stood in the block.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Fields {
    list: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Fields {
    pub(super) fn push(&mut self, name: Vec<u8>, value: Vec<u8>) {
        self.list.push((name, value));
    }

    /// The value of the only field of this name, if there is one.
    ///
    /// # Panics
    ///
    /// When there are several, or the value is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.iter().filter(|(n, _)| *n == name.as_bytes());
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "`{name}` stands more than once in {self:?}");
        Some(std::str::from_utf8(value).unwrap_or_else(|_| panic!("`{name}` is not UTF-8 in {self:?}")))
    }

    /// The status of a response.
    ///
    /// # Panics
    ///
    /// When there is no `:status`, or it is not a number.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> u16 {
        let status = self
            .get(":status")
            .unwrap_or_else(|| panic!("no `:status` in {self:?}"));
        status
            .parse()
            .unwrap_or_else(|_| panic!("the status is not a number in {self:?}"))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |raw: &[u8]| raw.escape_ascii().to_string();
        f.debug_list()
            .entries(
                self.iter()
                    .map(|(name, value)| format!("{}: {}", text(name), text(value))),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in list {
            fields.push(name.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        fields
    }

    #[test]
    fn finds_by_name() {
        let fields = fields(&[(":status", "200"), ("baggage", "a=b")]);
        assert_eq!(fields.status(), 200);
        assert_eq!(fields.get("baggage"), Some("a=b"));
        assert_eq!(fields.get("forwarded"), None);
        assert_eq!(format!("{fields:?}"), r#"[":status: 200", "baggage: a=b"]"#);
    }

    #[test]
    #[should_panic(expected = "`a` stands more than once")]
    fn refuses_to_choose_between_two() {
        assert_eq!(fields(&[("a", "1"), ("a", "2")]).get("a"), None);
    }
}
