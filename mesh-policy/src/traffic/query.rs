//! Parameters of the query, as routes, limits and affinities read them: all of Envoy's meaning.
//!
//! Names and values are compared as they are written, without a look at escapes. Of several parameters
//! of a name the first counts. One without `=` has an empty value.

use super::pattern::Pattern;
use crate::normalize::NormalizedPath;

/// What a rule asks of a parameter of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: Box<str>,
    /// What its value has to be; if nothing, it has to be there.
    pub value: Option<Pattern>,
}

impl QueryMatch {
    pub(super) fn matches(&self, query: Option<&[u8]>) -> bool {
        let value = first_value(query.unwrap_or_default(), self.name.as_bytes());
        value.is_some_and(|value| self.value.as_ref().is_none_or(|pattern| pattern.matches(value)))
    }
}

/// What follows a path and `?`, if there is one.
pub(super) fn query<'p>(path: &NormalizedPath<'p>) -> Option<&'p [u8]> {
    path.target().get(path.path().len() + 1..)
}

/// The first value of a parameter.
pub(super) fn first_value<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    let mut parameters = query.split(|byte| *byte == b'&');
    parameters.find_map(|parameter| match parameter.strip_prefix(name)? {
        [] => Some(&[][..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_parameter_counts() {
        let fits = |name: &str, value: Option<&str>, query: &str| {
            let value = value.map(|value| Pattern::Exact(value.into()));
            QueryMatch {
                name: name.into(),
                value,
            }
            .matches(Some(query.as_bytes()))
        };
        assert!(fits("a", Some("1"), "b=2&a=1&a=3") && !fits("a", Some("3"), "b=2&a=1&a=3"));
        assert!(
            fits("a", None, "a") && fits("a", Some(""), "a=&b") && !fits("a", None, "ab=1") && !fits("a", None, "")
        );
        assert!(fits("a", Some("b=c"), "a=b=c"));
    }
}
