//! Names of peers that fit patterns.

use crate::matcher::text::TextPattern;

/// The trust domain of peers of which none is asked.
pub(super) const DOMAIN: &[u8] = b"cluster.local";

/// What a name has where nothing is asked, from the trust domain on.
const PARTS: [&[u8]; 5] = [DOMAIN, b"ns", b"default", b"sa", b"default"];

/// The SPIFFE ID of a workload.
pub(super) fn workload(domain: &[u8], namespace: &[u8], account: &[u8]) -> Vec<u8> {
    [b"spiffe://", domain, b"/ns/", namespace, b"/sa/", account].concat()
}

/// SPIFFE IDs that match a value of `principals`, or nearly.
pub(super) fn of_pattern(pattern: &TextPattern) -> Vec<Vec<u8>> {
    let principals = match pattern {
        TextPattern::Present => vec![PARTS.join(&b'/')],
        TextPattern::Exact(text) => vec![text.to_vec(), [text, &b"x"[..]].concat()],
        TextPattern::Prefix(text) => vec![complete(text), [text, &b"x"[..]].concat()],
        TextPattern::Suffix(text) => vec![precede(text), [b"x", &**text].concat()],
    };
    let name = |principal: Vec<u8>| [b"spiffe://", &*principal].concat();
    principals.into_iter().map(name).collect()
}

/// What a glob over names asks of the namespace, its stars filled in two ways.
pub(super) fn of_glob(glob: &[u8]) -> Vec<Vec<u8>> {
    let inner = glob.strip_prefix(b"*/ns/").and_then(|glob| glob.strip_suffix(b"/*"));
    let fill = |with: &[u8]| {
        let pieces: Vec<_> = inner.unwrap_or_default().split(|byte| *byte == b'*').collect();
        pieces.join(with)
    };
    vec![fill(b"x"), fill(b""), fill(b"-")]
}

/// A beginning with what is missing of a workload's name.
fn complete(prefix: &[u8]) -> Vec<u8> {
    let given: Vec<_> = prefix.split(|byte| *byte == b'/').collect();
    let mut name = prefix.to_vec();
    if let (Some(last), Some(part)) = (given.last(), PARTS.get(given.len() - 1)) {
        match part.strip_prefix(*last) {
            Some(rest) => name.extend_from_slice(rest),
            None if last.is_empty() => name.extend_from_slice(part),
            None => {}
        }
    }
    for part in PARTS.iter().skip(given.len()) {
        name.push(b'/');
        name.extend_from_slice(part);
    }
    name
}

/// An end with what is missing of a workload's name before it.
fn precede(suffix: &[u8]) -> Vec<u8> {
    let given: Vec<_> = suffix.split(|byte| *byte == b'/').collect();
    let Some(missing) = PARTS.len().checked_sub(given.len()) else {
        return suffix.to_vec();
    };
    let mut name = Vec::new();
    for part in PARTS.iter().take(missing) {
        name.extend_from_slice(part);
        name.push(b'/');
    }
    if let (Some(first), Some(part)) = (given.first(), PARTS.get(missing)) {
        match part.strip_suffix(*first) {
            Some(rest) => name.extend_from_slice(rest),
            None if first.is_empty() => name.extend_from_slice(part),
            None => {}
        }
    }
    name.extend_from_slice(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_names_of_workloads() {
        for (value, name) in [
            ("td/ns/a/*", "spiffe://td/ns/a/sa/default"),
            ("td/*", "spiffe://td/ns/default/sa/default"),
            ("td/ns/a*", "spiffe://td/ns/a/sa/default"),
            ("*/sa/x", "spiffe://cluster.local/ns/default/sa/x"),
            ("*/ns/a/sa/x", "spiffe://cluster.local/ns/a/sa/x"),
            ("*-web", "spiffe://cluster.local/ns/default/sa/-web"),
            ("td/ns/a/sa/x", "spiffe://td/ns/a/sa/x"),
            ("*", "spiffe://cluster.local/ns/default/sa/default"),
        ] {
            let names = of_pattern(&TextPattern::parse(value.as_bytes()));
            assert_eq!(String::from_utf8_lossy(&names[0]), name, "{value}");
        }
    }
}
