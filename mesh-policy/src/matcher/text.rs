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
}
