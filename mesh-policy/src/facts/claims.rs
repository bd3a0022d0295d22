use std::collections::BTreeMap;

/// The claims of a verified token, by name.
///
/// Claims that are lists of words in one text, such as `scope`, are to be given as lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    claims: BTreeMap<Box<str>, Claim>,
}

/// A claim's value. Policies can only ask about text, and about text in lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// A text.
    Text(Box<str>),
    /// A list, of which the texts count.
    List(Vec<Claim>),
    /// An object, into which a condition's brackets lead.
    Object(Claims),
    /// A number, a truth value or null, which no condition matches.
    Other,
}

impl Claims {
    /// Adds a claim, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, claim: Claim) -> Self {
        self.claims.insert(name.into(), claim);
        self
    }

    /// All claims, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.claims.iter().map(|(name, claim)| (&**name, claim))
    }

    /// A claim by its name.
    pub fn get(&self, name: &str) -> Option<&Claim> {
        self.claims.get(name)
    }

    /// The text of a claim that is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Claim::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The claim that a path of names leads to.
    pub fn at(&self, path: &[Box<str>]) -> Option<&Claim> {
        let (first, rest) = path.split_first()?;
        let mut claim = self.get(first)?;
        for name in rest {
            let Claim::Object(inner) = claim else { return None };
            claim = inner.get(name)?;
        }
        Some(claim)
    }
}

impl Claim {
    /// A claim that is a text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// A claim that is a list of texts.
    pub fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// Whether the text, or one of the texts in the list, passes the test. Empty ones do not count,
    /// nor do lists within the list.
    pub(crate) fn any_text(&self, mut test: impl FnMut(&[u8]) -> bool) -> bool {
        match self {
            Self::Text(text) => !text.is_empty() && test(text.as_bytes()),
            Self::List(list) => list
                .iter()
                .any(|claim| matches!(claim, Self::Text(text) if !text.is_empty() && test(text.as_bytes()))),
            Self::Object(_) | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_and_texts_in_lists_count() {
        let any = |claim: Claim| claim.any_text(|_| true);
        assert!(any(Claim::text("a")));
        assert!(any(Claim::List(vec![Claim::Other, Claim::text("a")])));
        for silent in [
            Claim::Other,
            Claim::text(""),
            Claim::List(vec![]),
            Claim::List(vec![Claim::texts(["a"])]),
            Claim::Object(Claims::default().with("a", Claim::text("a"))),
        ] {
            assert!(!any(silent.clone()), "{silent:?}");
        }
    }

    #[test]
    fn a_dot_in_a_name_is_no_path() {
        let claims = Claims::default().with("a", Claim::Object(Claims::default().with("b", Claim::text("x"))));
        assert_eq!(claims.at(&["a".into(), "b".into()]), Some(&Claim::text("x")));
        assert_eq!(claims.at(&["a.b".into()]), None);
        assert_eq!(claims.at(&["a".into(), "b".into(), "c".into()]), None);
        assert_eq!(claims.at(&[]), None);
    }
}
