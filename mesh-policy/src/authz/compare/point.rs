//! Values for the facts of a sample: inside a value of a policy, just outside, and none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    authz::compile::test::Test,
    facts::{Attribute, Claim, Claims, Known, Peer},
    matcher::{
        ip::Cidr,
        principal::{NamespacePattern, Part, RequestPrincipal},
        text::TextPattern,
    },
    normalize::{OwnedPath, PathNormalization},
    sample::{Found, Sample},
};

use super::name;

/// One fact of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Peer(Known<Peer>),
    SourceIp(Option<IpAddr>),
    RemoteIp(Option<IpAddr>),
    DestinationIp(Option<IpAddr>),
    Port(Option<u16>),
    Sni(Known<Box<[u8]>>),
    Metadata(Box<str>, Box<str>, Option<Found>),
    NoMetadata,
    Method(Box<[u8]>),
    Authority(Known<Box<[u8]>>),
    Path(Known<OwnedPath>),
    Header(Box<str>, Vec<Vec<u8>>),
    NoHeaders,
    Claim(Vec<Box<str>>, Option<Claim>),
    Token(Box<str>, Box<str>),
    NoToken(Known<Claims>),
    NoRequest,
}

impl Point {
    /// Puts the fact into a sample. A connection has no facts of a request.
    pub(super) fn apply(&self, sample: &mut Sample) {
        match self {
            Self::Peer(peer) => sample.peer = peer.clone(),
            Self::SourceIp(address) => sample.source_ip = *address,
            Self::RemoteIp(address) => sample.remote_ip = *address,
            Self::DestinationIp(address) => sample.destination_ip = *address,
            Self::Port(port) => sample.destination_port = *port,
            Self::Sni(name) => sample.sni = name.clone(),
            Self::Metadata(filter, key, found) => {
                let mut all = sample.metadata.clone().present().unwrap_or_default();
                match found {
                    Some(found) => all.insert((filter.clone(), key.clone()), found.clone()),
                    None => all.remove(&(filter.clone(), key.clone())),
                };
                sample.metadata = Known::Present(all);
            }
            Self::NoMetadata => sample.metadata = Known::Unavailable,
            Self::NoRequest => sample.request = None,
            _ => self.apply_to_request(sample),
        }
    }

    /// Whether it is that something is not known.
    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Self::Peer(known) => known.is_unavailable(),
            Self::SourceIp(known) | Self::RemoteIp(known) | Self::DestinationIp(known) => known.is_none(),
            Self::Port(known) => known.is_none(),
            Self::Sni(known) | Self::Authority(known) => known.is_unavailable(),
            Self::Path(known) => known.is_unavailable(),
            Self::NoToken(known) => known.is_unavailable(),
            Self::NoMetadata | Self::NoHeaders | Self::NoRequest => true,
            Self::Metadata(..) | Self::Method(_) | Self::Header(..) | Self::Claim(..) | Self::Token(..) => false,
        }
    }

    fn apply_to_request(&self, sample: &mut Sample) {
        let Some(request) = &mut sample.request else { return };
        match self {
            Self::Method(method) => request.method = method.clone(),
            Self::Authority(authority) => request.authority = authority.clone(),
            Self::Path(path) => request.path = path.clone(),
            Self::Header(name, lines) => {
                let mut all = request.headers.clone().present().unwrap_or_default();
                all.retain(|(line, _)| **line != **name);
                all.extend(lines.iter().map(|line| (name.to_string(), line.clone())));
                request.headers = Known::Present(all);
            }
            Self::NoHeaders => request.headers = Known::Unavailable,
            Self::Claim(path, claim) => {
                let claims = request.claims.clone().present().unwrap_or_default();
                request.claims = Known::Present(put(&claims, path, claim.as_ref()));
            }
            Self::Token(issuer, subject) => {
                let claims = request.claims.clone().present().unwrap_or_default();
                let claims = claims
                    .with("iss", Claim::text(issuer))
                    .with("sub", Claim::text(subject));
                request.claims = Known::Present(claims);
            }
            Self::NoToken(claims) => request.claims = claims.clone(),
            _ => {}
        }
    }
}

/// The claims with another one at the end of the path.
fn put(claims: &Claims, path: &[Box<str>], claim: Option<&Claim>) -> Claims {
    match path {
        [] => claims.clone(),
        [name] => claims.clone().with(name, claim.cloned().unwrap_or(Claim::Other)),
        [name, rest @ ..] => {
            let inner = match claims.get(name) {
                Some(Claim::Object(inner)) => inner.clone(),
                _ => Claims::default(),
            };
            claims.clone().with(name, Claim::Object(put(&inner, rest, claim)))
        }
    }
}

/// Points in and around what a test of the attribute asks.
pub(super) fn around(attribute: &Attribute, test: &Test) -> Vec<Point> {
    match test {
        Test::Text { pattern, .. } | Test::Listed(pattern) => around_text(attribute, pattern, test),
        Test::Template(template, _) => [(b"x", &b"x"[..]), (b"x", b""), (b"x", b"x/y"), (b"[", b"[")]
            .into_iter()
            .flat_map(|(segment, rest)| paths(&template.fill(segment, rest)))
            .collect(),
        Test::Principal(pattern, _) => name::of_pattern(pattern).iter().map(|name| peer(name)).collect(),
        Test::Namespace(pattern, _) => {
            let namespaces = match pattern {
                NamespacePattern::Name(name) => vec![name.to_vec()],
                NamespacePattern::Text(pattern) => inside(pattern),
                NamespacePattern::Anywhere(glob) => name::of_glob(glob),
            };
            let names = namespaces.into_iter().flat_map(|namespace| {
                [namespace.clone(), [&*namespace, b"x"].concat()]
                    .map(|namespace| name::workload(name::DOMAIN, &namespace, b"default"))
            });
            names.map(|name| peer(&name)).collect()
        }
        Test::ServiceAccount { namespace, account, .. } => [&**account, b"other"]
            .into_iter()
            .map(|account| peer(&name::workload(name::DOMAIN, namespace, account)))
            .collect(),
        Test::TrustDomain(pattern, _) => {
            let domains = inside(pattern).into_iter();
            domains
                .map(|domain| peer(&name::workload(&domain, b"default", b"default")))
                .collect()
        }
        Test::RequestPrincipal(pattern) => around_token(pattern),
        Test::Ip(block) => around_block(attribute, block),
        Test::Port(port) => [*port, port.wrapping_add(1), port.wrapping_sub(1)]
            .map(|port| Point::Port(Some(port)))
            .to_vec(),
    }
}

/// What an attribute may be that no value says: not there, empty, unknown.
pub(super) fn without(attribute: &Attribute) -> Vec<Point> {
    let empty = || Known::Present(Box::default());
    match attribute {
        Attribute::Principal | Attribute::Namespace | Attribute::ServiceAccount | Attribute::TrustDomain => {
            vec![Point::Peer(Known::Absent), dns_peer(), Point::Peer(Known::Unavailable)]
        }
        Attribute::SourceIp => vec![Point::SourceIp(None)],
        Attribute::RemoteIp => vec![Point::RemoteIp(None)],
        Attribute::DestinationIp => vec![Point::DestinationIp(None)],
        Attribute::DestinationPort => vec![Point::Port(None)],
        Attribute::Sni => vec![Point::Sni(Known::Absent), Point::Sni(Known::Unavailable)],
        Attribute::Method => vec![Point::NoRequest],
        Attribute::Host => vec![
            Point::Authority(Known::Absent),
            Point::Authority(empty()),
            Point::Authority(Known::Unavailable),
        ],
        Attribute::Path => vec![Point::Path(Known::Absent), Point::Path(Known::Unavailable)],
        Attribute::Header(name) => match &**name {
            "host" | ":authority" => without(&Attribute::Host),
            ":path" => without(&Attribute::Path),
            _ => vec![
                Point::Header(name.clone(), Vec::new()),
                Point::Header(name.clone(), vec![Vec::new()]),
                Point::NoHeaders,
            ],
        },
        Attribute::RequestPrincipal | Attribute::Audiences | Attribute::Presenter | Attribute::Claim(_) => {
            let mut points = vec![Point::NoToken(Known::Absent), Point::NoToken(Known::Unavailable)];
            points.extend(claim_path(attribute).map(|path| Point::Claim(path, None)));
            points
        }
        Attribute::Metadata { filter, key } => {
            vec![Point::Metadata(filter.clone(), key.clone(), None), Point::NoMetadata]
        }
    }
}

fn around_text(attribute: &Attribute, pattern: &TextPattern, test: &Test) -> Vec<Point> {
    let texts = inside(pattern).into_iter().chain(outside(pattern));
    let known = |text: &[u8]| Known::Present(Box::from(text));
    let utf8 = |text: &[u8]| Box::<str>::from(String::from_utf8_lossy(text));
    let of_text = |text: Vec<u8>| match attribute {
        Attribute::Host => vec![Point::Authority(known(&text))],
        Attribute::Method => vec![Point::Method(text.into())],
        Attribute::Path => paths(&text),
        Attribute::Sni => vec![Point::Sni(known(&text))],
        Attribute::Header(name) => match &**name {
            "host" | ":authority" => vec![Point::Authority(known(&text))],
            ":path" => paths(&text),
            ":method" => vec![Point::Method(text.into())],
            _ => vec![Point::Header(name.clone(), vec![text])],
        },
        Attribute::Metadata { filter, key } => {
            let found = match test {
                Test::Listed(_) => Found::List(vec![utf8(&text)]),
                _ => Found::Text(utf8(&text)),
            };
            vec![Point::Metadata(filter.clone(), key.clone(), Some(found))]
        }
        _ => {
            let claim = Claim::text(&utf8(&text));
            claim_path(attribute)
                .map(|path| Point::Claim(path, Some(claim)))
                .into_iter()
                .collect()
        }
    };
    texts.flat_map(of_text).collect()
}

fn claim_path(attribute: &Attribute) -> Option<Vec<Box<str>>> {
    match attribute {
        Attribute::Audiences => Some(vec!["aud".into()]),
        Attribute::Presenter => Some(vec!["azp".into()]),
        Attribute::Claim(path) => Some(path.to_vec()),
        _ => None,
    }
}

fn around_token(pattern: &RequestPrincipal) -> Vec<Point> {
    let texts = |part: &Part| match part {
        Part::Free => vec![b"x".to_vec()],
        Part::Text(pattern) => inside(pattern),
    };
    let (issuers, subjects) = (texts(&pattern.issuer), texts(&pattern.subject));
    let text = |text: &[u8]| Box::<str>::from(String::from_utf8_lossy(text));
    let mut points = Vec::new();
    for issuer in &issuers {
        for subject in subjects.iter().map(Vec::as_slice).chain([&b"other"[..]]) {
            points.push(Point::Token(text(issuer), text(subject)));
        }
    }
    points.extend(
        subjects
            .first()
            .map(|subject| Point::Token("other".into(), text(subject))),
    );
    points
}

fn around_block(attribute: &Attribute, block: &Cidr) -> Vec<Point> {
    let point = |address: IpAddr| match attribute {
        Attribute::SourceIp => Point::SourceIp(Some(address)),
        Attribute::RemoteIp => Point::RemoteIp(Some(address)),
        _ => Point::DestinationIp(Some(address)),
    };
    let neighbours: [IpAddr; 3] = match (block.first(), block.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => [
            Ipv4Addr::from_bits(first.to_bits().wrapping_sub(1)).into(),
            Ipv4Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
            Ipv6Addr::LOCALHOST.into(),
        ],
        (IpAddr::V6(first), IpAddr::V6(last)) => [
            Ipv6Addr::from_bits(first.to_bits().wrapping_sub(1)).into(),
            Ipv6Addr::from_bits(last.to_bits().wrapping_add(1)).into(),
            Ipv4Addr::LOCALHOST.into(),
        ],
        _ => [block.first(); 3],
    };
    [block.first(), block.last()]
        .into_iter()
        .chain(neighbours)
        .map(point)
        .collect()
}

/// Texts that a pattern matches.
fn inside(pattern: &TextPattern) -> Vec<Vec<u8>> {
    match pattern {
        TextPattern::Exact(text) => vec![text.to_vec()],
        TextPattern::Prefix(text) => [&b"x"[..], b"", b"y/y"].map(|rest| [text, rest].concat()).to_vec(),
        TextPattern::Suffix(text) => [&b"x"[..], b"", b"/x", b"/y/y"]
            .map(|start| [start, text].concat())
            .to_vec(),
        TextPattern::Present => vec![b"x".to_vec(), b"/x".to_vec()],
    }
}

/// Texts that it does not match, but nearly.
fn outside(pattern: &TextPattern) -> Vec<Vec<u8>> {
    let near = |text: &[u8]| {
        let shorter = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
        let later = text.get(1..).unwrap_or_default();
        let mut near = vec![
            [text, b"x"].concat(),
            [text, b"/"].concat(),
            [text, b":8080"].concat(),
            [b"x", text].concat(),
            shorter.to_vec(),
            later.to_vec(),
        ];
        let (upper, lower) = (text.to_ascii_uppercase(), text.to_ascii_lowercase());
        near.extend([upper, lower].into_iter().filter(|other| other != text));
        near
    };
    match pattern {
        TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text) => near(text),
        TextPattern::Present => Vec::new(),
    }
}

fn paths(path: &[u8]) -> Vec<Point> {
    let mut buffer = Vec::new();
    let path = PathNormalization::Base.normalize(path, &mut buffer);
    path.ok()
        .map(|path| Point::Path(Known::Present(path.to_owned())))
        .into_iter()
        .collect()
}

/// A peer of one name, which is a URI.
pub(super) fn peer(name: &[u8]) -> Point {
    let peer = Peer::from_certificate(&[name], &[], b"");
    Point::Peer(peer.map_or(Known::Absent, Known::Present))
}

/// A peer that is authenticated and has no SPIFFE ID.
fn dns_peer() -> Point {
    let peer = Peer::from_certificate(&[], &[b"client.example"], b"");
    Point::Peer(peer.map_or(Known::Absent, Known::Present))
}
