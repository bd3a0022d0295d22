use super::regex::{Regex, RegexRun};

/// What text is compared with: whole, its beginning, or by a regular expression. The case of letters
/// counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pattern {
    /// The text is this.
    Exact(Box<str>),
    /// The text begins with this, byte by byte.
    Prefix(Box<str>),
    /// All of the text matches.
    Regex(Regex),
}

impl Pattern {
    /// Whether text fits.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(value) => text == value.as_bytes(),
            Self::Prefix(value) => text.starts_with(value.as_bytes()),
            Self::Regex(regex) => regex.matches(text),
        }
    }

    /// Begins with a text that comes in parts.
    pub(super) fn start(&self) -> Run<'_> {
        match self {
            Self::Exact(value) => Run::Exact(value.as_bytes()),
            Self::Prefix(value) => Run::Prefix(value.as_bytes()),
            Self::Regex(regex) => regex.start().map_or(Run::Failed, Run::Regex),
        }
    }

    /// The regular expression, if it is one.
    pub(super) fn expression(&self) -> Option<&Regex> {
        match self {
            Self::Exact(_) | Self::Prefix(_) => None,
            Self::Regex(regex) => Some(regex),
        }
    }

    /// As many characters as were written.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Exact(value) | Self::Prefix(value) => value.chars().count(),
            Self::Regex(regex) => regex.as_str().chars().count(),
        }
    }
}

/// A pattern that has seen a part of a text.
#[derive(Clone, Copy)]
pub(super) enum Run<'p> {
    /// What has yet to come, and nothing behind it.
    Exact(&'p [u8]),
    /// What has yet to come.
    Prefix(&'p [u8]),
    Regex(RegexRun<'p>),
    Failed,
}

impl Run<'_> {
    pub(super) fn feed(self, part: &[u8]) -> Self {
        match self {
            Self::Exact(rest) => rest.strip_prefix(part).map_or(Self::Failed, Self::Exact),
            Self::Prefix(rest) if part.starts_with(rest) => Self::Prefix(&[]),
            Self::Prefix(rest) => rest.strip_prefix(part).map_or(Self::Failed, Self::Prefix),
            Self::Regex(run) => run.feed(part).map_or(Self::Failed, Self::Regex),
            Self::Failed => Self::Failed,
        }
    }

    pub(super) fn is_match(self) -> bool {
        match self {
            Self::Exact(rest) | Self::Prefix(rest) => rest.is_empty(),
            Self::Regex(run) => run.is_match(),
            Self::Failed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            "[ab]{0,4}".prop_map(|text| Pattern::Exact(text.into())),
            "[ab]{0,4}".prop_map(|text| Pattern::Prefix(text.into())),
            "[ab.*]{1,4}".prop_filter_map("an expression", |text| Regex::new(&text).ok().map(Pattern::Regex)),
        ]
    }

    proptest! {
        #[test]
        fn parts_match_as_the_whole_does(pattern in patterns(), parts in prop::collection::vec("[ab]{0,3}", 0..4)) {
            let in_parts = parts.iter().fold(pattern.start(), |run, part| run.feed(part.as_bytes()));
            prop_assert_eq!(in_parts.is_match(), pattern.matches(parts.concat().as_bytes()));
        }
    }
}
