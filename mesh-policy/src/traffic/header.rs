//! Header lines, as routes, limits and affinities read them: all of Envoy's meaning.
//!
//! A test is about all lines of a name as one value, with commas between them. What takes a single
//! value takes the first line. `host` is the authority, with or without a line.

use super::{
    field::FieldName,
    pattern::{Pattern, Run},
};
use crate::facts::Facts;

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
        let mut is_known = false;
        let passes = self.passes(|visit| is_known = each_line(facts, self.name.as_str(), visit));
        is_known && passes
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

/// Visits the lines of a header, whose name is in lower case; whether they are known.
pub(super) fn each_line(facts: &Facts<'_>, name: &str, visit: &mut dyn FnMut(&[u8])) -> bool {
    any_line(facts, name, &mut |line| {
        visit(line);
        false
    })
}

/// What is made of the first line of a header, whose name is in lower case.
pub(super) fn first_line<T>(facts: &Facts<'_>, name: &str, make: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let (mut make, mut made) = (Some(make), None);
    any_line(facts, name, &mut |line| {
        made = make.take().map(|make| make(line));
        true
    });
    made
}

/// Visits the lines of a header until one is what was looked for; whether they are known. `host` is
/// the authority: HTTP/2 has no line for it, and a client must not choose by its version whether it
/// is limited.
fn any_line(facts: &Facts<'_>, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    if name == "host" {
        let authority = facts.authority();
        if let Some(authority) = authority.present() {
            visit(authority);
        }
        return !authority.is_unavailable();
    }
    let headers = facts.headers();
    if let Some(headers) = headers.present() {
        headers.any_line(name, visit);
    }
    !headers.is_unavailable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{ConnectionFacts, Known, RequestFacts},
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
        let facts = RequestFacts::new(ConnectionFacts::new(), b"GET", &lines);
        let first = |name| first_line(&Facts::from(&facts), name, <[u8]>::to_vec);
        assert_eq!(first("b"), Some(b"2".to_vec()));
        assert_eq!(first("c"), None);
    }

    #[test]
    fn host_is_the_authority_whether_there_is_a_line_or_not() {
        let (none, line) = (vec![], vec![("host", "line")]);
        for lines in [none, line] {
            let request = RequestFacts::new(ConnectionFacts::new(), b"GET", &lines);
            let of = |request: &RequestFacts<'_>| first_line(&Facts::from(request), "host", <[u8]>::to_vec);
            let test = |test, request: &RequestFacts<'_>| {
                let name = FieldName::new("Host").unwrap();
                HeaderMatch { name, test }.matches(&Facts::from(request))
            };
            let known = request.authority(Known::Present(b"shop"));
            assert_eq!(of(&known), Some(b"shop".to_vec()));
            assert!(test(HeaderTest::Is(Pattern::Exact("shop".into())), &known));
            let absent = request.authority(Known::Absent);
            assert!(of(&absent).is_none() && test(HeaderTest::Absent, &absent));
            let unknown = request.authority(Known::Unavailable);
            assert!(of(&unknown).is_none() && !test(HeaderTest::Absent, &unknown));
        }
    }
}
