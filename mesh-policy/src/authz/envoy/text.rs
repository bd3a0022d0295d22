//! Matchers of text, whose messages are flatter than what they say: alternatives beside a switch.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatString", into = "FlatString")]
pub(super) struct StringMatcher {
    pub(super) pattern: StringPattern,
    pub(super) ignore_case: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StringPattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// RE2, of the whole text.
    Regex(String),
}

impl StringMatcher {
    /// A value with one outer star, where `*` is any text but the empty one.
    pub(super) fn of(value: &str) -> Self {
        Self::of_prefixed("", value)
    }

    /// The same of a text that also begins with `prefix`, but for `*`, which asks for no prefix.
    pub(super) fn of_prefixed(prefix: &str, value: &str) -> Self {
        let pattern = if value == "*" {
            StringPattern::Regex(".+".to_owned())
        } else if let Some(end) = value.strip_prefix('*') {
            if prefix.is_empty() {
                StringPattern::Suffix(end.to_owned())
            } else {
                StringPattern::Regex(format!("{}.*{}", quote(prefix), quote(end)))
            }
        } else if let Some(start) = value.strip_suffix('*') {
            StringPattern::Prefix(format!("{prefix}{start}"))
        } else {
            StringPattern::Exact(format!("{prefix}{value}"))
        };
        pattern.into()
    }

    pub(super) fn regex(regex: String) -> Self {
        StringPattern::Regex(regex).into()
    }

    pub(super) fn prefix(text: String) -> Self {
        StringPattern::Prefix(text).into()
    }
}

impl From<StringPattern> for StringMatcher {
    fn from(pattern: StringPattern) -> Self {
        Self {
            pattern,
            ignore_case: false,
        }
    }
}

/// Text as a regular expression that matches it and nothing else.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FlatHeader", into = "FlatHeader")]
pub(super) struct HeaderMatcher {
    pub(super) name: String,
    /// None for a header that only has to be there.
    pub(super) value: Option<StringMatcher>,
}

impl HeaderMatcher {
    pub(super) fn of(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: (value != "*").then(|| StringMatcher::of(value)),
        }
    }

    pub(super) fn ignoring_case(mut self) -> Self {
        if let Some(value) = &mut self.value {
            value.ignore_case = true;
        }
        self
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FlatString {
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suffix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safe_regex: Option<Regex>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ignore_case: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Regex {
    regex: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FlatHeader {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    present_match: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_match: Option<StringMatcher>,
}

/// A message in which not exactly one of several alternatives is set.
#[derive(Debug, Error)]
#[error("a `{message}` asks for one thing")]
struct NotOne {
    message: &'static str,
}

impl From<StringMatcher> for FlatString {
    fn from(matcher: StringMatcher) -> Self {
        let mut flat = Self {
            ignore_case: matcher.ignore_case,
            ..Self::default()
        };
        match matcher.pattern {
            StringPattern::Exact(text) => flat.exact = Some(text),
            StringPattern::Prefix(text) => flat.prefix = Some(text),
            StringPattern::Suffix(text) => flat.suffix = Some(text),
            StringPattern::Regex(regex) => flat.safe_regex = Some(Regex { regex }),
        }
        flat
    }
}

impl TryFrom<FlatString> for StringMatcher {
    type Error = NotOne;

    fn try_from(flat: FlatString) -> Result<Self, NotOne> {
        let FlatString {
            exact,
            prefix,
            suffix,
            safe_regex,
            ignore_case,
        } = flat;
        let pattern = match (exact, prefix, suffix, safe_regex) {
            (Some(text), None, None, None) => StringPattern::Exact(text),
            (None, Some(text), None, None) => StringPattern::Prefix(text),
            (None, None, Some(text), None) => StringPattern::Suffix(text),
            (None, None, None, Some(Regex { regex })) => StringPattern::Regex(regex),
            _ => {
                return Err(NotOne {
                    message: "StringMatcher",
                });
            }
        };
        Ok(Self { pattern, ignore_case })
    }
}

impl From<HeaderMatcher> for FlatHeader {
    fn from(matcher: HeaderMatcher) -> Self {
        Self {
            name: matcher.name,
            present_match: matcher.value.is_none(),
            string_match: matcher.value,
        }
    }
}

impl TryFrom<FlatHeader> for HeaderMatcher {
    type Error = NotOne;

    fn try_from(flat: FlatHeader) -> Result<Self, NotOne> {
        if flat.present_match == flat.string_match.is_some() {
            return Err(NotOne {
                message: "HeaderMatcher",
            });
        }
        Ok(Self {
            name: flat.name,
            value: flat.string_match,
        })
    }
}
