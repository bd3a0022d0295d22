use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    authz::JwtRule,
    facts::{Facts, Headers, Known},
};

/// Where a token is in a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The header of this name, which is in lower case.
    Header(Box<str>),
    /// The parameter of this name in the query.
    Parameter(Box<str>),
    /// The cookie of this name.
    Cookie(Box<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Parameter(name) => write!(f, "parameter `{}`", name.escape_debug()),
            Self::Cookie(name) => write!(f, "cookie `{}`", name.escape_debug()),
        }
    }
}

/// The places where a rule looks for tokens.
pub(super) struct Places {
    /// Names and what stands before the token, by both together, which is Envoy's order, and by the
    /// name, since two may be the same together.
    headers: BTreeMap<(String, Box<str>), Box<str>>,
    parameters: BTreeSet<Box<str>>,
    cookies: BTreeSet<Box<str>>,
}

/// A token that has been found.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) token: Vec<u8>,
}

/// Why it cannot be said which token a request has.
pub(super) enum PlaceFault {
    Repeated(Place),
    Unavailable(Place),
}

impl Places {
    pub(super) fn of(rule: &JwtRule) -> Self {
        let mut places = Self {
            headers: BTreeMap::new(),
            parameters: rule.from_params.iter().map(|name| name.as_str().into()).collect(),
            cookies: rule.from_cookies.iter().map(|name| name.as_str().into()).collect(),
        };
        for header in &rule.from_headers {
            places.add_header(&header.name, &header.prefix);
        }
        if places.headers.is_empty() && places.parameters.is_empty() && places.cookies.is_empty() {
            places.add_header("authorization", "Bearer ");
            places.parameters.insert("access_token".into());
        }
        places
    }

    fn add_header(&mut self, name: &str, prefix: &str) {
        let name = name.to_ascii_lowercase();
        let key = (format!("{name}{prefix}"), name.into());
        self.headers.insert(key, prefix.into());
    }

    /// Whether tokens are read from the header of this name.
    pub(super) fn has_header(&self, name: &str) -> bool {
        self.headers.keys().any(|(_, header)| **header == *name) || name == "cookie" && !self.cookies.is_empty()
    }

    /// All tokens, in Envoy's order: headers, parameters, cookies, each by name.
    pub(super) fn find(&self, request: &Facts<'_>) -> Result<Vec<Found>, PlaceFault> {
        let headers = self.headers.iter().map(|((_, name), prefix)| {
            let tokens = request
                .headers()
                .map(|headers| in_header(headers, name, prefix.as_bytes()));
            only(Place::Header(name.clone()), tokens)
        });
        let parameters = self.parameters.iter().map(|name| {
            let tokens = request.path().map(|path| in_query(path.target(), name.as_bytes()));
            only(Place::Parameter(name.clone()), tokens)
        });
        let cookies = self.cookies.iter().map(|name| {
            let tokens = request.headers().map(|headers| in_cookies(headers, name.as_bytes()));
            only(Place::Cookie(name.clone()), tokens)
        });
        headers
            .chain(parameters)
            .chain(cookies)
            .filter_map(Result::transpose)
            .collect()
    }
}

/// A target without the parameters of these names.
pub(super) fn without_parameters(target: &[u8], names: &[&str]) -> Vec<u8> {
    let Some(start) = target.iter().position(|byte| *byte == b'?') else {
        return target.to_vec();
    };
    let (path, query) = target.split_at(start);
    let kept: Vec<_> = query
        .strip_prefix(b"?")
        .unwrap_or_default()
        .split(|byte| *byte == b'&')
        .filter(|pair| !names.iter().any(|name| split_pair(pair).0 == name.as_bytes()))
        .collect();
    if kept.is_empty() {
        return path.to_vec();
    }
    [path, b"?", &kept.join(&b'&')].concat()
}

/// The one token of a place. Of several it could not be said which of them others will believe.
fn only(place: Place, tokens: Known<Vec<Vec<u8>>>) -> Result<Option<Found>, PlaceFault> {
    let mut tokens = match tokens {
        Known::Present(tokens) => tokens,
        Known::Absent => return Ok(None),
        Known::Unavailable => return Err(PlaceFault::Unavailable(place)),
    };
    let token = tokens.pop();
    if !tokens.is_empty() {
        return Err(PlaceFault::Repeated(place));
    }
    Ok(token.map(|token| Found { place, token }))
}

/// What follows the prefix in the line that has it. If there are others, they count as tokens, too:
/// which of several lines a reader takes is anybody's guess. Like Envoy, this takes the prefix wherever it stands, so that
/// nothing that Envoy sees as a token goes by unseen.
fn in_header(headers: &dyn Headers, name: &str, prefix: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, mut has_token) = (Vec::new(), false);
    headers.any_line(name, &mut |line| {
        let start = if prefix.is_empty() {
            Some(0)
        } else {
            line.windows(prefix.len()).position(|window| window == prefix)
        };
        let rest = start.and_then(|start| line.get(start + prefix.len()..));
        has_token |= rest.is_some();
        let token = rest.unwrap_or_default();
        lines.push(if prefix.is_empty() { token } else { trim(token) }.to_vec());
        false
    });
    if has_token { lines } else { Vec::new() }
}

fn in_query(target: &[u8], name: &[u8]) -> Vec<Vec<u8>> {
    let Some(start) = target.iter().position(|byte| *byte == b'?') else {
        return Vec::new();
    };
    let query = target.get(start + 1..).unwrap_or_default();
    let pairs = query.split(|byte| *byte == b'&').map(split_pair);
    pairs
        .filter(|(key, _)| key == name)
        .map(|(_, value)| decode(value))
        .collect()
}

/// A parameter's name, decoded, and its value as it stands there.
fn split_pair(pair: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    (decode(name), parts.next().unwrap_or_default())
}

/// Percent-decoding (RFC 3986 §2.1); what is no encoded byte stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        let byte = text.get(at).copied()?;
        char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// RFC 6265 §4.1.1, with the quotes that a value may have.
fn in_cookies(headers: &dyn Headers, name: &[u8]) -> Vec<Vec<u8>> {
    let mut tokens = Vec::new();
    headers.any_line("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let key = trim(parts.next().unwrap_or_default());
            let Some(value) = parts.next().map(trim) else { continue };
            if key == name {
                let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
                tokens.push(unquoted.unwrap_or(value).to_vec());
            }
        }
        false
    });
    tokens
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_decoded_name() {
        let found = |target: &str| in_query(target.as_bytes(), b"access_token");
        assert_eq!(found("/a?access_token=x.y.z"), [b"x.y.z"]);
        assert_eq!(found("/a?b=c&access%5Ftoken=x%2ey%2Ez&d"), [b"x.y.z"]);
        assert_eq!(found("/a?access_token=a&access_token=b").len(), 2);
        assert_eq!(found("/a?access_token"), [b""]);
        assert_eq!(found("/access_token=a"), [b""; 0]);
        assert_eq!(found("/a?Access_token=a&xaccess_token=b"), [b""; 0]);
        assert_eq!(found("/a?access_token=%zz%4"), [b"%zz%4"]);
    }

    #[test]
    fn parameters_are_removed_and_others_stay_as_they_are() {
        let without = |target: &str| String::from_utf8(without_parameters(target.as_bytes(), &["t", "u"])).unwrap();
        assert_eq!(without("/a?t=1"), "/a");
        assert_eq!(without("/a?x=%41&%74=1&&y&u"), "/a?x=%41&&y");
        assert_eq!(without("/a?"), "/a?");
        assert_eq!(without("/t=1"), "/t=1");
    }

    #[test]
    fn cookies_are_found_in_every_line() {
        let headers = [("cookie", "a=1; t=\"x\""), ("Cookie", "tt=2;t = y"), ("cookie", "t")];
        assert_eq!(in_cookies(&headers.to_vec(), b"t"), [b"x", b"y"]);
    }

    #[test]
    fn a_prefix_counts_wherever_it_stands_and_in_its_case() {
        let found = |line: &str| in_header(&vec![("a", line)], "a", b"Bearer ");
        assert_eq!(found("Bearer x"), [b"x"]);
        assert_eq!(found("Basic y, Bearer  x "), [b"x"]);
        assert_eq!(found("bearer x"), [b""; 0]);
        assert_eq!(found("Bearer"), [b""; 0]);
        assert_eq!(in_header(&vec![("a", "x")], "a", b""), [b"x"]);
    }
}
