//! Cases that a client can put on the wire, for evaluators that are other programs: nothing in them
//! is unavailable, and everything is what a certificate, a PROXY header, a handshake or a request
//! can say.

use std::net::IpAddr;

use mesh_policy::{Claim, Claims, ConnectionFacts, Facts, Known, Metadata, PathNormalization, Peer, RequestFacts};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};

/// Where the metadata is that conditions of generated policies ask for.
pub const FILTER: &str = "f";
/// Its key.
pub const KEY: &str = "k";

/// The certificates that peers have, all of them.
pub const CERTIFICATES: &[Certificate] = &[
    Certificate::new(&["spiffe://td1/ns/a/sa/x"], &[], None),
    Certificate::new(&["spiffe://cluster.local/ns/a/sa/x"], &[], None),
    Certificate::new(&["spiffe://old/ns/b/sa/y"], &[], None),
    Certificate::new(&["spiffe://td1/ns/axb/sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/aXb/sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/a/sa/x/ns/admin/sa/y"], &[], None),
    Certificate::new(&["spiffe://td1/k/v/ns/a/k/v/sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/a//sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/a/sa/xy"], &[], None),
    Certificate::new(&["spiffe://td1"], &[], None),
    Certificate::new(&["spiffe://new/ns/b/sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/a/sa/filler-3"], &[], None),
    Certificate::new(&["https://a/ns/a/sa/x"], &[], None),
    Certificate::new(&["spiffe://td1/ns/a/sa/x", "spiffe://old/ns/b/sa/y"], &[], None),
    Certificate::new(&[], &["a.example"], None),
    Certificate::new(&[], &[], Some("x/ns/a/b")),
    Certificate::new(&["spiffe://new/ns/b/sa/x"], &["b.example"], Some("x/ns/admin/b")),
];

/// The names in a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Certificate {
    /// Its URIs.
    pub uris: &'static [&'static str],
    /// Its DNS names.
    pub dns: &'static [&'static str],
    /// The organization in its subject, which has nothing else.
    pub organization: Option<&'static str>,
}

impl Certificate {
    const fn new(
        uris: &'static [&'static str],
        dns: &'static [&'static str],
        organization: Option<&'static str>,
    ) -> Self {
        Self {
            uris,
            dns,
            organization,
        }
    }

    /// The peer that shows it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let bytes = |names: &[&'static str]| names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>();
        let subject = self.organization.map(|name| format!("O={name}")).unwrap_or_default();
        Peer::from_certificate(&bytes(self.uris), &bytes(self.dns), subject.as_bytes()).unwrap()
    }
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The index of the certificate that the peer shows, if it shows one.
    pub certificate: Option<usize>,
    /// The server name that it asks for.
    pub sni: Option<&'static str>,
    /// Where it comes from, in 127.0.0.0/8.
    pub source: IpAddr,
    /// Where it came from at first.
    pub remote: IpAddr,
    /// Where it is for; of the same family.
    pub destination: IpAddr,
    /// The port there.
    pub port: u16,
    /// What a filter found out: a text.
    pub metadata: Option<&'static str>,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The authority.
    pub authority: &'static str,
    /// The target, not normalized.
    pub target: &'static str,
    /// The header lines, with names in lower case.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The claims of its token.
    pub claims: Option<Claims>,
}

/// The names that claims have; the last one's is an object.
pub const CLAIMS: [&str; 6] = ["iss", "sub", "aud", "azp", "g", "o"];

impl Connection {
    /// Hands the facts about the connection, or about a request on it, to a function.
    pub fn with<T>(&self, request: Option<&Request>, function: impl FnOnce(Facts<'_>) -> T) -> T {
        let peer = self.certificate.map(|index| CERTIFICATES[index].peer());
        let metadata = self.metadata.map(Text);
        let connection = ConnectionFacts::new()
            .peer(Known::from(peer.as_ref()))
            .sni(self.sni.map(str::as_bytes).into())
            .source_ip(self.source)
            .remote_ip(self.remote)
            .destination_ip(self.destination)
            .destination_port(self.port)
            .metadata(Known::from(metadata.as_ref().map(|text| text as &dyn Metadata)));
        let Some(request) = request else {
            return function(Facts::from(&connection));
        };
        let mut buffer = Vec::new();
        let path = PathNormalization::Base.normalize(request.target.as_bytes(), &mut buffer);
        let facts = RequestFacts::new(connection, request.method.as_bytes(), &request.headers)
            .authority(Known::Present(request.authority.as_bytes()))
            .path(Known::Present(path.unwrap()))
            .claims(request.claims.as_ref().into());
        function(Facts::from(&facts))
    }
}

/// A text under the one filter and key.
struct Text(&'static str);

impl Metadata for Text {
    fn is_text(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        filter == FILTER && key == KEY && test(self.0.as_bytes())
    }

    fn is_listed(&self, _: &str, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

/// Connections, with a TLS handshake or without.
pub fn connections(is_tls: bool) -> impl Strategy<Value = Connection> {
    let certificate = option::weighted(0.85, 0..CERTIFICATES.len());
    let sni = option::weighted(0.8, select(vec!["a.example", "b.example", "other.test"]));
    let addresses = |texts: &[&'static str]| {
        let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        select(addresses)
    };
    let source = addresses(&["127.0.0.1", "127.1.2.3", "127.1.9.9", "127.200.0.1"]);
    let v4 = || addresses(&["10.1.2.3", "10.1.9.9", "10.2.0.1", "192.168.0.3", "172.16.3.1"]);
    let v6 = || addresses(&["fd00::1", "2001:db8::1", "fe80::1"]);
    let ends = prop_oneof![4 => (v4(), v4()), 1 => (v6(), v6())];
    let port = select(vec![80, 443, 8080, 9003, 1]);
    let metadata = option::of(select(vec!["v", "w", "vx"]));
    (certificate, sni, source, ends, port, metadata).prop_map(
        move |(certificate, sni, source, (remote, destination), port, metadata)| Connection {
            certificate: certificate.filter(|_| is_tls),
            sni: sni.filter(|_| is_tls),
            source,
            remote,
            destination,
            port,
            metadata,
        },
    )
}

/// Requests.
pub fn requests() -> impl Strategy<Value = Request> {
    let method = select(vec!["GET", "GET", "POST", "get", "PUT"]);
    let authority = select(vec!["a.example", "A.EXAMPLE:80", "b.example", "a.example:80", "A.x"]);
    let target = select(vec![
        "/",
        "/a",
        "/a/b",
        "/a/b/c/d",
        "/a/b/c/",
        "/x.json",
        "/a?q=1",
        "/a/[",
        "/A",
        "/a*b",
        "/x/../a/b",
        "/a/%2e%2e/a",
        "/a%2fb",
        "/%61/b",
        "/a/..;/b",
        "/a//b",
        "/a\\b",
        "/b?x=/a/b",
        "/filler/7",
    ]);
    let line = (Just("x-h"), select(vec!["v", "w", "", "vw", "v,w"]));
    let headers = vec(line, 0..3);
    (method, authority, target, headers, option::weighted(0.7, claims())).prop_map(
        |(method, authority, target, headers, claims)| Request {
            method,
            authority,
            target,
            headers,
            claims,
        },
    )
}

fn claims() -> impl Strategy<Value = Claims> {
    let claim = || {
        prop_oneof![
            4 => select(vec!["v", "w", "vw", ""]).prop_map(Claim::text),
            2 => subsequence(vec!["v", "w", ""], 0..3).prop_map(Claim::texts),
            1 => Just(Claim::Other),
            1 => Just(Claim::List(vec![Claim::texts(["v"]), Claim::Other])),
        ]
    };
    let issuer = option::weighted(0.9, select(vec!["i", "https://i/x", "ix", ""]));
    let subject = option::weighted(0.8, select(vec!["s", "xs", "sp", ""]));
    // Tokens with other audiences than texts are refused before any policy.
    let audience = prop_oneof![
        select(vec!["v", "w", "vw"]).prop_map(Claim::text),
        subsequence(vec!["v", "w"], 1..3).prop_map(Claim::texts),
    ];
    let nested = option::of(claim()).prop_map(|claim| {
        let object = claim.map_or_else(Claims::default, |claim| Claims::default().with("g", claim));
        Claim::Object(object)
    });
    let values = (
        issuer.prop_map(|text| text.map(Claim::text)),
        subject.prop_map(|text| text.map(Claim::text)),
        option::of(audience),
        option::of(claim()),
        option::of(claim()),
        option::of(nested),
    );
    values.prop_map(|(issuer, subject, audience, presenter, group, object)| {
        let values = [issuer, subject, audience, presenter, group, object];
        CLAIMS
            .into_iter()
            .zip(values)
            .fold(Claims::default(), |claims, (name, claim)| match claim {
                Some(claim) => claims.with(name, claim),
                None => claims,
            })
    })
}
