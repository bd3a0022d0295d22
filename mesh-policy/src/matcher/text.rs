/// A value of a policy that stands for text: `abc`, `abc*`, `*abc` or `*`.
///
/// One star is special, at the beginning or else at the end. All others are themselves: `*a*` asks
/// for an ending `a*`, and `a*b` for exactly that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TextPattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    /// Whether an empty text will do is for the attribute to say.
    Present,
}

/// Whether the case of ASCII letters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Case {
    Counts,
    Ignored,
}

impl TextPattern {
    pub(crate) fn parse(value: &[u8]) -> Self {
        match value {
            b"*" => Self::Present,
            [b'*', rest @ ..] => Self::Suffix(rest.into()),
            [rest @ .., b'*'] => Self::Prefix(rest.into()),
            _ => Self::Exact(value.into()),
        }
    }

    /// Whether text fits, where presence asks for at least one byte.
    pub(crate) fn matches(&self, text: &[u8], case: Case) -> bool {
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(value) => case.equal(text, value),
            Self::Prefix(value) => text.get(..value.len()).is_some_and(|head| case.equal(head, value)),
            Self::Suffix(value) => text
                .len()
                .checked_sub(value.len())
                .and_then(|at| text.get(at..))
                .is_some_and(|tail| case.equal(tail, value)),
        }
    }

    /// Whether all text that fits this pattern fits the other. Where presence is all that is asked,
    /// an empty text is not looked at.
    pub(crate) fn implies(&self, other: &Self, case: Case) -> bool {
        match (self, other) {
            (Self::Present, Self::Present) => true,
            (Self::Present, _) => false,
            (Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text), Self::Present) => !text.is_empty(),
            (Self::Exact(text), _) => other.matches(text, case),
            (Self::Prefix(text), Self::Prefix(_)) | (Self::Suffix(text), Self::Suffix(_)) => other.matches(text, case),
            (Self::Prefix(_) | Self::Suffix(_), _) => false,
        }
    }

    /// Whether no text fits both patterns.
    pub(crate) fn excludes(&self, other: &Self, case: Case) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => !pattern.matches(text, case),
            (Self::Prefix(one), Self::Prefix(two)) | (Self::Suffix(one), Self::Suffix(two)) => {
                !self.matches(two, case) && !other.matches(one, case)
            }
            _ => false,
        }
    }
}

impl Case {
    /// The byte as it is compared.
    pub(crate) fn fold(self, byte: u8) -> u8 {
        match self {
            Self::Counts => byte,
            Self::Ignored => byte.to_ascii_lowercase(),
        }
    }

    pub(crate) fn equal(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Counts => one == other,
            Self::Ignored => one.eq_ignore_ascii_case(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(value: &str, text: &str) -> bool {
        TextPattern::parse(value.as_bytes()).matches(text.as_bytes(), Case::Counts)
    }

    #[test]
    fn only_one_outer_star_is_special() {
        assert!(matches("abc", "abc") && !matches("abc", "abcd") && !matches("abc", "ABC"));
        assert!(matches("abc*", "abc") && matches("abc*", "abcd") && !matches("abc*", "ab"));
        assert!(matches("*abc", "xabc") && matches("*abc", "abc") && !matches("*abc", "bc"));
        assert!(matches("*a*", "xa*") && !matches("*a*", "xay"));
        assert!(matches("a*b", "a*b") && !matches("a*b", "axb"));
        assert!(matches("*", "x") && !matches("*", ""));
    }

    #[test]
    fn folds_ascii_letters_on_request() {
        let pattern = TextPattern::parse(b"*.Example.com");
        assert!(pattern.matches(b"a.EXAMPLE.com", Case::Ignored));
        assert!(!pattern.matches(b"a.EXAMPLE.com", Case::Counts));
    }

    #[test]
    fn patterns_imply_and_exclude_one_another() {
        let pattern = |value: &str| TextPattern::parse(value.as_bytes());
        for (one, other, implies, excludes) in [
            ("a", "a", true, false),
            ("a", "b", false, true),
            ("a", "a*", true, false),
            ("ab*", "a*", true, false),
            ("a*", "ab*", false, false),
            ("a*", "b*", false, true),
            ("*a", "*ba", false, false),
            ("*ba", "*a", true, false),
            ("*a", "*b", false, true),
            ("a*", "*b", false, false),
            ("a*", "*", true, false),
            ("*", "a*", false, false),
            ("*", "*", true, false),
            ("ba", "a*", false, true),
        ] {
            let (one, other) = (pattern(one), pattern(other));
            assert_eq!(one.implies(&other, Case::Counts), implies, "{one:?} {other:?}");
            assert_eq!(one.excludes(&other, Case::Counts), excludes, "{one:?} {other:?}");
            assert_eq!(other.excludes(&one, Case::Counts), excludes, "{one:?} {other:?}");
        }
    }
}
