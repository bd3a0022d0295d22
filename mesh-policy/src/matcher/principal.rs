use crate::{
    facts::{Claims, Peer, PeerName},
    matcher::text::{Case, TextPattern},
};

/// Whose view of a peer's names counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reading {
    /// Any of its names will do, and namespace and account may stand anywhere in them.
    Envoy,
    /// The first URI of the form `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    Ztunnel,
    /// The only URI, of that form: what all planes agree on.
    Sole,
}

impl Reading {
    pub(crate) fn names(self, peer: &Peer) -> &[PeerName] {
        let one = match self {
            Self::Envoy => return peer.names(),
            Self::Ztunnel => peer.first_workload(),
            Self::Sole => peer.sole_workload(),
        };
        one.map(std::slice::from_ref).unwrap_or_default()
    }
}

/// A value of `principals`.
pub(crate) fn principal(pattern: &TextPattern, reading: Reading, peer: &Peer) -> bool {
    reading.names(peer).iter().any(|name| match pattern {
        TextPattern::Present => true,
        _ => name.principal().is_some_and(|text| pattern.matches(text, Case::Counts)),
    })
}

/// A value of `namespaces`: for Envoy a regular expression over the whole name, in which each star
/// stands for anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NamespacePattern {
    /// Without a star or a slash.
    Name(Box<[u8]>),
    /// To be found between `/ns/` and `/`, with stars.
    Anywhere(Box<[u8]>),
    /// Of a parsed namespace.
    Text(TextPattern),
}

impl NamespacePattern {
    pub(crate) fn parse(value: &[u8], reading: Reading) -> Self {
        if !value.contains(&b'*') && !value.contains(&b'/') {
            return Self::Name(value.into());
        }
        match reading {
            Reading::Envoy => Self::Anywhere([b"*/ns/", value, b"/*"].concat().into()),
            Reading::Ztunnel | Reading::Sole => Self::Text(TextPattern::parse(value)),
        }
    }

    /// Whether a peer that matches, under the same reading or a narrower one, matches the other.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(name), Self::Anywhere(glob)) => {
                // Behind the namespace stands a slash, before it its mark: both are in the glob.
                let inner = glob.strip_prefix(b"*/ns/").and_then(|glob| glob.strip_suffix(b"/*"));
                inner.is_some_and(|inner| !inner.contains(&b'/') && glob_matches(inner, name))
            }
            (Self::Name(name), Self::Text(pattern)) => pattern.matches(name, Case::Counts),
            (Self::Text(pattern), Self::Text(wider)) => pattern.implies(wider, Case::Counts),
            (Self::Text(pattern), Self::Anywhere(glob)) => {
                let value = match pattern {
                    TextPattern::Exact(text) => text.to_vec(),
                    TextPattern::Prefix(text) => [text, &b"*"[..]].concat(),
                    TextPattern::Suffix(text) => [b"*", &**text].concat(),
                    TextPattern::Present => b"*".to_vec(),
                };
                **glob == [b"*/ns/", &*value, b"/*"].concat()
            }
            _ => self == other,
        }
    }

    pub(crate) fn matches(&self, reading: Reading, peer: &Peer) -> bool {
        reading.names(peer).iter().any(|name| {
            let namespace = name.workload().map(|(namespace, _)| namespace);
            match (self, reading) {
                (Self::Name(value), Reading::Envoy) => name.mentions_namespace(value),
                (Self::Name(value), _) => namespace == Some(value),
                (Self::Anywhere(glob), _) => glob_matches(glob, name.text()),
                (Self::Text(pattern), _) => namespace.is_some_and(|text| pattern.matches(text, Case::Counts)),
            }
        })
    }
}

/// A value of `serviceAccounts`.
pub(crate) fn service_account(namespace: &[u8], account: &[u8], reading: Reading, peer: &Peer) -> bool {
    reading.names(peer).iter().any(|name| match reading {
        Reading::Envoy => name.mentions_account(namespace, account),
        Reading::Ztunnel | Reading::Sole => name.workload() == Some((namespace, account)),
    })
}

/// A value of `trustDomains`.
pub(crate) fn trust_domain(pattern: &TextPattern, reading: Reading, peer: &Peer) -> bool {
    reading.names(peer).iter().any(|name| match pattern {
        TextPattern::Present => name.principal().is_some(),
        _ => name
            .trust_domain()
            .is_some_and(|domain| pattern.matches(domain, Case::Counts)),
    })
}

/// A value of `requestPrincipals`: what it asks of issuer and subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestPrincipal {
    pub(crate) issuer: Part,
    pub(crate) subject: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Nothing, not even that it is there.
    Free,
    Text(TextPattern),
}

impl RequestPrincipal {
    /// A value is split at its last slash, because issuers are URLs. Without one, it is an issuer
    /// and an empty subject, or an issuer's beginning, or a subject's end.
    pub(crate) fn parse(value: &str) -> Self {
        let whole = TextPattern::parse(value.as_bytes());
        let (issuer, subject) = match (value.rsplit_once('/'), whole) {
            (None, TextPattern::Present) => (Part::Text(TextPattern::Present), Part::Text(TextPattern::Present)),
            (None, TextPattern::Prefix(prefix)) => (Part::Text(TextPattern::Prefix(prefix)), Part::Free),
            (None, TextPattern::Suffix(suffix)) => (Part::Free, Part::Text(TextPattern::Suffix(suffix))),
            (None, exact) => (Part::Text(exact), Part::Text(TextPattern::Exact(Box::default()))),
            (Some((issuer, subject)), _) if value.starts_with('*') => (
                Part::Text(TextPattern::parse(issuer.as_bytes())),
                Part::Text(TextPattern::Exact(subject.as_bytes().into())),
            ),
            (Some((issuer, subject)), _) => (
                Part::Text(TextPattern::Exact(issuer.as_bytes().into())),
                Part::Text(TextPattern::parse(subject.as_bytes())),
            ),
        };
        Self { issuer, subject }
    }

    pub(crate) fn matches(&self, claims: &Claims) -> bool {
        self.issuer.matches(claims.text("iss")) && self.subject.matches(claims.text("sub"))
    }
}

impl Part {
    fn matches(&self, claim: Option<&str>) -> bool {
        match (self, claim) {
            (Self::Free, _) => true,
            (Self::Text(pattern), Some(text)) => pattern.matches(text.as_bytes(), Case::Counts),
            (Self::Text(_), None) => false,
        }
    }
}

/// Whether the whole text fits a pattern in which a star stands for any bytes. Linear in the text
/// for each star.
pub(crate) fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let mut pieces = glob.split(|byte| *byte == b'*');
    let Some(mut rest) = pieces.next().and_then(|head| text.strip_prefix(head)) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match find(rest, piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.is_empty()
}

fn find(text: &[u8], piece: &[u8]) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    text.windows(piece.len()).position(|window| window == piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Claim;

    fn certificate(uris: &[&str], dns: &[&str], subject: &str) -> Peer {
        let bytes = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let (uris, dns) = (bytes(uris), bytes(dns));
        let uris: Vec<&[u8]> = uris.iter().map(Vec::as_slice).collect();
        let dns: Vec<&[u8]> = dns.iter().map(Vec::as_slice).collect();
        Peer::from_certificate(&uris, &dns, subject.as_bytes()).unwrap()
    }

    #[test]
    fn presence_means_a_different_peer_to_each_plane() {
        let dns_only = certificate(&[], &["a.example"], "CN=a");
        assert!(principal(&TextPattern::Present, Reading::Envoy, &dns_only));
        assert!(!principal(&TextPattern::Present, Reading::Ztunnel, &dns_only));
        assert!(!principal(&TextPattern::parse(b"*/sa/x"), Reading::Envoy, &dns_only));
    }

    #[test]
    fn a_value_with_the_scheme_never_matches() {
        let peer = certificate(&["spiffe://td/ns/a/sa/b"], &[], "");
        assert!(principal(&TextPattern::parse(b"td/ns/a/sa/b"), Reading::Envoy, &peer));
        assert!(!principal(
            &TextPattern::parse(b"spiffe://td/ns/a/sa/b"),
            Reading::Envoy,
            &peer
        ));
    }

    #[test]
    fn stars_in_a_namespace_are_envoys() {
        let peer = certificate(&["spiffe://td/ns/axb/sa/b"], &[], "");
        for (value, envoy, ztunnel) in [
            ("a*b", true, false),
            ("a*", true, true),
            ("*b", true, true),
            ("*", true, true),
        ] {
            let matches = |reading| NamespacePattern::parse(value.as_bytes(), reading).matches(reading, &peer);
            assert_eq!(
                (matches(Reading::Envoy), matches(Reading::Ztunnel)),
                (envoy, ztunnel),
                "{value}"
            );
        }
        let dotted = NamespacePattern::parse(b"a.b", Reading::Envoy);
        assert!(!dotted.matches(Reading::Envoy, &peer), "a dot is no wildcard");
    }

    #[test]
    fn request_principals_come_in_eight_shapes() {
        let token = |issuer: &str, subject: Option<&str>| {
            let claims = Claims::default().with("iss", Claim::text(issuer));
            subject.map_or(claims.clone(), |subject| claims.with("sub", Claim::text(subject)))
        };
        for (value, issuer, subject, expected) in [
            ("*", "i", Some("s"), true),
            ("*", "i", None, false),
            ("*", "i", Some(""), false),
            ("https://i/x/s", "https://i/x", Some("s"), true),
            ("https://i/x/s", "https://i", Some("x/s"), false),
            ("i/*", "i", Some("s"), true),
            ("i/*", "i", Some(""), false),
            ("i/p*", "i", Some("ps"), true),
            ("*/s", "i", Some("s"), true),
            ("*/s", "", Some("s"), false),
            ("*x/s", "ix", Some("s"), true),
            ("*x/s", "iy", Some("s"), false),
            ("i", "i", Some(""), true),
            ("i", "i", Some("s"), false),
            ("i", "i", None, false),
            ("i*", "ix", None, true),
            ("*s", "any", Some("xs"), true),
        ] {
            let matches = RequestPrincipal::parse(value).matches(&token(issuer, subject));
            assert_eq!(matches, expected, "{value} {issuer} {subject:?}");
        }
    }

    #[test]
    fn globs_are_whole() {
        for (glob, text, expected) in [
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("**x*", "yxz", true),
            ("ab", "ab", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(
                glob_matches(glob.as_bytes(), text.as_bytes()),
                expected,
                "{glob} {text}"
            );
        }
    }
}
