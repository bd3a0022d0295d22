//! Header lines, as routes, limits and affinities read them: all of Envoy's meaning.
//!
//! A test is about all lines of a name as one value, with commas between them. What takes a single
//! value takes the first line.

use super::{
    field::FieldName,
    pattern::{Pattern, Run},
};
use crate::facts::{Facts, Headers, Known};

/// What a rule asks of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The header's name. `host` is the authority.
    pub name: FieldName,
    /// What its value has to be.
    pub test: HeaderTest,
}

/// What a header's value has to be. The values of several lines are one, with commas between them
/// (RFC 9110 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderTest {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// It fits.
    Is(Pattern),
    /// It does not fit; without one, as if it were empty.
    IsNot(Pattern),
}

impl HeaderMatch {
    pub(super) fn matches(&self, facts: &Facts<'_>) -> bool {
        if self.name.as_str() == "host" {
            let authority = facts.authority();
            return !authority.is_unavailable() && self.passes(|visit| authority.present().into_iter().for_each(visit));
        }
        match facts.headers() {
            Known::Unavailable => false,
            Known::Absent => self.passes(|_| {}),
            Known::Present(headers) => self.passes(|visit| each_line(headers, self.name.as_str(), visit)),
        }
    }

    fn passes(&self, visit_lines: impl FnOnce(&mut dyn FnMut(&[u8]))) -> bool {
        let mut run = match &self.test {
            HeaderTest::Is(pattern) | HeaderTest::IsNot(pattern) => pattern.start(),
            HeaderTest::Present | HeaderTest::Absent => Run::Failed,
        };
        let mut is_there = false;
        visit_lines(&mut |value| {
            if is_there {
                run = run.feed(b",");
            }
            run = run.feed(value);
            is_there = true;
        });
        match self.test {
            HeaderTest::Present => is_there,
            HeaderTest::Absent => !is_there,
            HeaderTest::Is(_) => is_there && run.is_match(),
            HeaderTest::IsNot(_) => !run.is_match(),
        }
    }
}

/// Visits the lines of a name, which is in lower case.
pub(super) fn each_line(headers: &dyn Headers, name: &str, visit: &mut dyn FnMut(&[u8])) {
    headers.any_line(name, &mut |line| {
        visit(line);
        false
    });
}

/// What is made of the first line of a name, which is in lower case.
pub(super) fn first_line<T>(headers: &dyn Headers, name: &str, make: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let (mut make, mut made) = (Some(make), None);
    headers.any_line(name, &mut |line| {
        made = make.take().map(|make| make(line));
        true
    });
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{ConnectionFacts, RequestFacts},
        traffic::regex::Regex,
    };

    #[test]
    fn lines_of_a_header_are_one_value() {
        let fits = |test: HeaderTest, lines: &[(&str, &str)]| {
            let name = FieldName::new("X-A").unwrap();
            let lines = lines.to_vec();
            let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &lines);
            HeaderMatch { name, test }.matches(&Facts::from(&facts))
        };
        let exact = |text: &str| Pattern::Exact(text.into());
        let two = [("x-a", "1"), ("b", "x"), ("X-A", "2")];
        assert!(fits(HeaderTest::Is(exact("1,2")), &two) && !fits(HeaderTest::Is(exact("1")), &two));
        assert!(fits(HeaderTest::Is(Pattern::Prefix("1,".into())), &two));
        assert!(fits(
            HeaderTest::Is(Pattern::Regex(Regex::new("1,[23]").unwrap())),
            &two
        ));
        assert!(fits(HeaderTest::Present, &two) && !fits(HeaderTest::Present, &[]));
        assert!(fits(HeaderTest::Absent, &[]) && !fits(HeaderTest::Absent, &two));
        assert!(!fits(HeaderTest::Is(exact("")), &[]) && fits(HeaderTest::Is(exact("")), &[("x-a", "")]));
        assert!(fits(HeaderTest::IsNot(exact("1")), &[]) && !fits(HeaderTest::IsNot(exact("")), &[]));
    }

    #[test]
    fn single_values_are_of_the_first_line() {
        let lines = [("a", "1"), ("B", "2"), ("b", "3")];
        assert_eq!(first_line(&lines, "b", <[u8]>::to_vec), Some(b"2".to_vec()));
        assert_eq!(first_line(&lines, "c", <[u8]>::to_vec), None);
    }
}
