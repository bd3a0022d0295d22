//! Policies and requests that meet: values are drawn from small vocabularies, so that most fields
//! match now and then and few always do.

use std::net::IpAddr;

use mesh_policy::{
    Attribute, Claim, Claims, ConnectionFacts, Facts, Known, Metadata, PathNormalization, Peer, RequestFacts,
    authz::{
        Action, AuthorizationPolicy, Dialect, PolicyName, TargetRef, TrustDomains,
        model::{Condition, Constraint, Operation, OperationField, Rule, Source, SourceField},
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select, subsequence},
};

use super::Mesh;

const PRINCIPALS: &[&str] = &[
    "*",
    "td1/*",
    "cluster.local/ns/a/sa/x",
    "td1/ns/a/sa/x",
    "old/ns/b/sa/y",
    "*/sa/x",
    "*d1/ns/a/sa/x",
    "td1/ns/a/*",
    "td*/ns/a/sa/x",
    "spiffe://td1/ns/a/sa/x",
    "*/ns/a/sa/x",
];
const NAMESPACES: &[&str] = &["a", "b", "a*", "*b", "*", "a*b", "*a*", "a.b", "admin"];
const ACCOUNTS: &[&str] = &["a/x", "b/y", "x", "a/y", "admin/y"];
const DOMAINS: &[&str] = &["td1", "*", "td*", "*d1", "cluster.local", "old"];
const BLOCKS: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
    "0.0.0.0/0",
    "127.1.0.0/16",
    "127.1.2.3",
    "::/0",
    "fd00::/8",
    "192.168.0.0/30",
];
const BAD_BLOCKS: &[&str] = &["10.0.0.0/33", "nowhere"];
const REQUEST_PRINCIPALS: &[&str] = &[
    "*",
    "i/s",
    "https://i/x/s",
    "i/*",
    "i/s*",
    "*/s",
    "*x/s",
    "i",
    "i*",
    "*s",
];
const HOSTS: &[&str] = &["*", "a.example", "A.Example:80", "*.example", "a.*", "*:80"];
const PORTS: &[&str] = &["80", "443", "8080"];
const METHODS: &[&str] = &["GET", "POST", "*", "get", "P*"];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/*",
    "*.json",
    "*",
    "/a/{*}",
    "/{*}/b",
    "/a/{**}",
    "/{**}/b",
    "/a*b",
    "/a/{*}/c/{**}",
    "/A",
];
const TEXTS: &[&str] = &["v", "w", "*", "v*", "*w", "vw"];
const KEYS: &[&str] = &[
    "request.headers[x-h]",
    "request.headers[x-h]",
    "request.headers[host]",
    "request.headers[:method]",
    "request.headers[:path]",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[g]",
    "request.auth.claims[o][g]",
    "experimental.envoy.filters.f[k]",
    "connection.sni",
    "source.ip",
    "remote.ip",
    "destination.ip",
    "destination.port",
    "source.principal",
    "source.namespace",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
];

/// The dialects, all of them.
pub const DIALECTS: [Dialect; 4] = [Dialect::Strict, Dialect::Ztunnel, Dialect::EnvoyTcp, Dialect::EnvoyHttp];

/// Meshes for a dialect: with and without aliases, named `cluster.local` and otherwise.
pub fn meshes(dialect: Dialect) -> impl Strategy<Value = Mesh> {
    let domains = [
        TrustDomains::default(),
        TrustDomains::new("td1"),
        TrustDomains::new("td1").alias("old"),
        TrustDomains::new("new").alias("td1").alias("cluster.local"),
    ];
    select(domains.to_vec()).prop_map(move |trust_domains| Mesh { dialect, trust_domains })
}

/// Policies with names of their own, valid and, unless the dialect refuses those, invalid ones.
pub fn policies(dialect: Dialect) -> impl Strategy<Value = Vec<AuthorizationPolicy>> {
    vec(policy(dialect), 0..6).prop_map(|policies| {
        let mut names = std::collections::BTreeSet::new();
        policies
            .into_iter()
            .filter(|policy| names.insert(policy.name().clone()))
            .collect()
    })
}

/// One policy.
pub fn policy(dialect: Dialect) -> impl Strategy<Value = AuthorizationPolicy> {
    let strict = dialect == Dialect::Strict;
    let action = prop_oneof![
        4 => Just(Action::Allow),
        4 => Just(Action::Deny),
        1 => Just(Action::Audit),
        1 => select(vec!["p", "q"]).prop_map(|name| Action::Custom { provider: name.into() }),
    ];
    let name = (select(vec!["a", "b", "root"]), select(vec!["one", "two", "ten"]));
    let rules = prop_oneof![6 => vec(rule(strict), 0..4), 1 => vec(rule(strict), 11..13)];
    (name, action, any::<Index>(), rules, any::<Index>()).prop_map(move |((space, name), action, dry, rules, refs)| {
        let is_custom = matches!(action, Action::Custom { .. });
        let tried = matches!(action, Action::Allow | Action::Deny) && dry.index(5) == 0;
        let needs_rule = strict && !matches!(action, Action::Allow | Action::Audit) && rules.is_empty();
        let mut policy = AuthorizationPolicy::new(PolicyName::new(space, name), action).dry_run(tried);
        if refs.index(8) == 0 {
            policy = policy.target_refs([TargetRef::service("s")]);
        }
        let rules: Vec<_> = match strict && is_custom {
            true => rules.iter().map(for_custom).collect(),
            false => rules,
        };
        if needs_rule {
            let get = Operation::new().any_of(OperationField::Methods, ["GET"]);
            return policy.rule(Rule::new().to(get)).rule(Rule::new());
        }
        rules.into_iter().fold(policy, AuthorizationPolicy::rule)
    })
}

/// The rule without entries that ask what a CUSTOM policy may not ask.
fn for_custom(rule: &Rule) -> Rule {
    let may = |constraint: &Constraint| {
        !matches!(
            constraint.attribute(),
            Attribute::Principal
                | Attribute::Namespace
                | Attribute::ServiceAccount
                | Attribute::RequestPrincipal
                | Attribute::Audiences
                | Attribute::Presenter
                | Attribute::Claim(_)
        )
    };
    let sources = rule.sources().iter().filter(|source| source.fields().iter().all(may));
    let left = sources.cloned().fold(Rule::new(), Rule::from);
    let left = rule.operations().iter().cloned().fold(left, Rule::to);
    let conditions = rule.conditions().iter().filter(|condition| may(condition.constraint()));
    conditions.cloned().fold(left, Rule::when)
}

fn rule(strict: bool) -> impl Strategy<Value = Rule> {
    let from = vec(source(strict), 0..3);
    let to = vec(operation(strict), 0..3);
    let when = prop_oneof![2 => Just(Vec::new()), 1 => vec(condition(strict), 1..3)];
    (from, to, when).prop_map(|(from, to, when)| {
        let rule = from.into_iter().fold(Rule::new(), Rule::from);
        let rule = to.into_iter().fold(rule, Rule::to);
        when.into_iter().fold(rule, Rule::when)
    })
}

fn source(strict: bool) -> impl Strategy<Value = Source> {
    let identity = select(SourceField::ALL.to_vec());
    let fields = vec(
        (identity, any::<bool>(), any::<Index>(), any::<Index>(), any::<Index>()),
        usize::from(strict)..3,
    );
    fields.prop_map(move |fields| {
        let mut source = Source::new();
        let has_identity = |source: &Source, wanted: &[SourceField]| {
            source
                .fields()
                .iter()
                .any(|field| wanted.iter().any(|wanted| wanted.attribute() == *field.attribute()))
        };
        for (field, negated, count, first, bad) in fields {
            let values = match field {
                SourceField::Principals => PRINCIPALS,
                SourceField::RequestPrincipals => REQUEST_PRINCIPALS,
                SourceField::Namespaces => NAMESPACES,
                SourceField::ServiceAccounts => ACCOUNTS,
                SourceField::TrustDomains => DOMAINS,
                SourceField::IpBlocks | SourceField::RemoteIpBlocks if !strict && bad.index(8) == 0 => BAD_BLOCKS,
                SourceField::IpBlocks | SourceField::RemoteIpBlocks => BLOCKS,
            };
            let clash = match field {
                SourceField::ServiceAccounts => {
                    has_identity(&source, &[SourceField::Principals, SourceField::Namespaces])
                }
                SourceField::Principals | SourceField::Namespaces => {
                    has_identity(&source, &[SourceField::ServiceAccounts])
                }
                _ => false,
            };
            if strict && clash {
                continue;
            }
            let mut values = pick(values, &count, &first);
            if strict && field == SourceField::ServiceAccounts {
                // Both fields together may have 16 of them, as Istio's resource definition has it.
                values.truncate(8);
            }
            source = if negated {
                source.none_of(field, values)
            } else {
                source.any_of(field, values)
            };
        }
        source
    })
}

fn operation(strict: bool) -> impl Strategy<Value = Operation> {
    let field = select(OperationField::ALL.to_vec());
    let fields = vec(
        (field, any::<bool>(), any::<Index>(), any::<Index>(), any::<Index>()),
        usize::from(strict)..3,
    );
    fields.prop_map(move |fields| {
        fields
            .into_iter()
            .fold(Operation::new(), |operation, (field, negated, count, first, bad)| {
                let values = match field {
                    OperationField::Hosts => HOSTS,
                    OperationField::Ports if !strict && bad.index(8) == 0 => &["65536", "http"],
                    OperationField::Ports => PORTS,
                    OperationField::Methods => METHODS,
                    OperationField::Paths => PATHS,
                };
                let values = pick(values, &count, &first);
                if negated {
                    operation.none_of(field, values)
                } else {
                    operation.any_of(field, values)
                }
            })
    })
}

fn condition(strict: bool) -> impl Strategy<Value = Condition> {
    let key = select(KEYS.to_vec());
    (key, any::<[Index; 2]>(), option::of(any::<[Index; 2]>())).prop_map(move |(key, any, none)| {
        let values: &[&str] = match key {
            "source.ip" | "remote.ip" | "destination.ip" => BLOCKS,
            "destination.port" => PORTS,
            "source.principal" => PRINCIPALS,
            "source.namespace" => NAMESPACES,
            "source.serviceAccount" => ACCOUNTS,
            "source.trustDomain" => DOMAINS,
            "request.auth.principal" => REQUEST_PRINCIPALS,
            "connection.sni" => &["a.example", "*.example", "*", "A.example"],
            "request.headers[host]" => HOSTS,
            "request.headers[:method]" => METHODS,
            "request.headers[:path]" => &["/a?q=1", "/a*", "*"],
            "experimental.envoy.filters.f[k]" => &["v", "[v]", "[w*]", "*"],
            _ => TEXTS,
        };
        let condition = Condition::new(key.parse().unwrap());
        let [count, first] = any;
        // A condition without values is one that the webhook refuses.
        let any_of = pick(values, &count, &first)
            .into_iter()
            .skip(usize::from(!strict && count.index(9) == 0) * 9);
        let condition = condition.any_of(any_of);
        match none {
            Some([count, first]) => condition.none_of(pick(values, &count, &first)),
            None => condition,
        }
    })
}

/// One to three values from somewhere in a vocabulary; now and then so many that an index is made.
fn pick(values: &[&'static str], count: &Index, first: &Index) -> Vec<String> {
    let count = count.index(12);
    let first = first.index(values.len());
    let picked = values
        .iter()
        .cycle()
        .skip(first)
        .take(1 + count % 3)
        .map(|value| (*value).to_owned());
    let fill = |at: usize| match values.first() {
        Some(&"10.0.0.0/8") => format!("172.16.{at}.0/24"),
        Some(&"80") => (9000 + at).to_string(),
        Some(&"/") => format!("/filler/{at}"),
        Some(&"a/x") => format!("filler/{at}"),
        _ => format!("filler-{at}"),
    };
    let valid = !values.iter().any(|value| ["10.0.0.0/33", "65536"].contains(value));
    let fillers = if count == 11 && valid { 20 } else { 0 };
    picked.chain((0..fillers).map(fill)).collect()
}

/// A request, or only a connection, with everything that facts borrow.
#[derive(Clone, Debug)]
pub struct Case {
    peer: Known<Peer>,
    addresses: [Option<IpAddr>; 3],
    port: Option<u16>,
    sni: Known<&'static str>,
    metadata: Known<Value>,
    request: Option<RequestCase>,
}

#[derive(Clone, Debug)]
struct RequestCase {
    method: &'static str,
    authority: Known<&'static str>,
    path: Known<&'static str>,
    headers: Known<Vec<(&'static str, &'static str)>>,
    claims: Known<Claims>,
}

/// Metadata of one key.
#[derive(Clone, Debug)]
enum Value {
    Text(&'static str),
    List(Vec<&'static str>),
}

impl Metadata for Value {
    fn is_text(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        matches!(self, Self::Text(text) if filter == "f" && key == "k" && test(text.as_bytes()))
    }

    fn is_listed(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        matches!(self, Self::List(list) if filter == "f" && key == "k" && list.iter().any(|text| test(text.as_bytes())))
    }
}

impl Case {
    /// Hands the facts to a function.
    pub fn with<T>(&self, function: impl FnOnce(Facts<'_>) -> T) -> T {
        let mut connection = ConnectionFacts::new()
            .peer(self.peer.as_ref())
            .sni(self.sni.map(str::as_bytes))
            .metadata(self.metadata.as_ref().map(|value| value as &dyn Metadata));
        let [source, remote, destination] = self.addresses;
        connection = source.map_or(connection, |address| connection.source_ip(address));
        connection = remote.map_or(connection, |address| connection.remote_ip(address));
        connection = destination.map_or(connection, |address| connection.destination_ip(address));
        connection = self.port.map_or(connection, |port| connection.destination_port(port));
        let Some(request) = &self.request else {
            return function(Facts::from(&connection));
        };
        let mut buffer = Vec::new();
        let path = request
            .path
            .map(|path| PathNormalization::Base.normalize(path.as_bytes(), &mut buffer).unwrap());
        let facts = match &request.headers {
            Known::Present(lines) => RequestFacts::new(connection, request.method.as_bytes(), lines),
            _ => RequestFacts::without_headers(connection, request.method.as_bytes()),
        };
        let facts = facts
            .authority(request.authority.map(str::as_bytes))
            .path(path)
            .claims(request.claims.as_ref());
        function(Facts::from(&facts))
    }
}

/// Connections and requests.
pub fn cases() -> impl Strategy<Value = Case> {
    let address = || {
        let addresses = [
            "10.1.2.3",
            "10.1.9.9",
            "10.2.0.1",
            "192.168.0.3",
            "fd00::1",
            "::1",
            "::ffff:10.1.2.3",
            "172.16.3.1",
        ];
        option::weighted(
            0.93,
            select(addresses.to_vec()).prop_map(|address| address.parse().unwrap()),
        )
    };
    let addresses = (address(), address(), address()).prop_map(|(one, two, three)| [one, two, three]);
    let port = option::weighted(0.93, select(vec![80, 443, 8080, 9003, 1]));
    let sni = known(option::of(select(vec!["a.example", "A.EXAMPLE", "b.example", "x"])));
    let metadata = prop_oneof![
        select(vec!["v", "w", ""]).prop_map(Value::Text),
        subsequence(vec!["v", "w", "wx"], 0..3).prop_map(Value::List),
    ];
    let request = prop_oneof![1 => Just(None), 3 => request().prop_map(Some)];
    (
        known(option::weighted(0.8, peer())),
        addresses,
        port,
        sni,
        known(option::of(metadata)),
        request,
    )
        .prop_map(|(peer, addresses, port, sni, metadata, request)| Case {
            peer,
            addresses,
            port,
            sni,
            metadata,
            request,
        })
}

fn request() -> impl Strategy<Value = RequestCase> {
    let method = select(vec!["GET", "POST", "get", "PUT", ""]);
    let authority = known(option::weighted(
        0.9,
        select(vec!["a.example", "A.EXAMPLE:80", "b.example", "", "a.example:80"]),
    ));
    let paths = [
        "/",
        "/a",
        "/a/b",
        "/a/b/c/d",
        "/x.json",
        "/a?q=1",
        "/a/[",
        "/A",
        "/a*b",
        "/x/../a/b",
        "/a//b",
        "/\u{e9}/b",
        "/filler/7",
    ];
    let headers = vec(
        (
            select(vec!["x-h", "X-H", "x_h"]),
            select(vec!["v", "w", "", "vw", "v,w"]),
        ),
        0..3,
    );
    (
        method,
        authority,
        known(option::weighted(0.9, select(paths.to_vec()))),
        known(headers.prop_map(Some)),
        known(option::of(claims())),
    )
        .prop_map(|(method, authority, path, headers, claims)| RequestCase {
            method,
            authority,
            path,
            headers,
            claims,
        })
}

fn peer() -> impl Strategy<Value = Peer> {
    let uris = [
        "spiffe://td1/ns/a/sa/x",
        "spiffe://cluster.local/ns/a/sa/x",
        "spiffe://old/ns/b/sa/y",
        "spiffe://td1/ns/axb/sa/x",
        "spiffe://td1/ns/a/sa/x/ns/admin/sa/y",
        "spiffe://td1/k/v/ns/a/k/v/sa/x",
        "spiffe://td1",
        "spiffe://td1/ns/a//sa/x",
        "https://a/ns/a/sa/x",
        "spiffe://new/ns/b/sa/x",
        "spiffe://td1/ns/aXb/sa/x",
        "spiffe://td1/ns/a/sa/filler-3",
    ];
    let uris = prop_oneof![6 => select(uris.to_vec()).prop_map(|uri| vec![uri]), 1 => subsequence(uris.to_vec(), 0..3)];
    let dns = subsequence(vec!["a.example", "b.example"], 0..2);
    (uris, dns, select(vec!["", "CN=a", "O=x/ns/a/b"])).prop_map(|(uris, dns, subject)| {
        let bytes = |names: &[&'static str]| names.iter().map(|name| name.as_bytes()).collect::<Vec<_>>();
        Peer::from_certificate(&bytes(&uris), &bytes(&dns), subject.as_bytes()).unwrap()
    })
}

fn claims() -> impl Strategy<Value = Claims> {
    let claim = prop_oneof![
        4 => select(vec!["v", "w", "vw", ""]).prop_map(Claim::text),
        2 => subsequence(vec!["v", "w", ""], 0..3).prop_map(Claim::texts),
        1 => Just(Claim::Other),
        1 => Just(Claim::List(vec![Claim::texts(["v"])])),
    ];
    let issuer = option::weighted(0.9, select(vec!["i", "https://i/x", "ix", ""]));
    let subject = option::weighted(0.8, select(vec!["s", "xs", "sp", ""]));
    (issuer, subject, vec(option::of(claim), 4)).prop_map(|(issuer, subject, others)| {
        let mut claims = Claims::default();
        claims = issuer.map_or(claims.clone(), |issuer| claims.with("iss", Claim::text(issuer)));
        claims = subject.map_or(claims.clone(), |subject| claims.with("sub", Claim::text(subject)));
        for (name, claim) in ["aud", "azp", "g", "o"].into_iter().zip(others) {
            let Some(claim) = claim else { continue };
            let claim = if name == "o" {
                Claim::Object(Claims::default().with("g", claim))
            } else {
                claim
            };
            claims = claims.with(name, claim);
        }
        claims
    })
}

/// Now and then unavailable.
fn known<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = Option<T>>) -> impl Strategy<Value = Known<T>> {
    (value, any::<Index>()).prop_map(|(value, luck)| match luck.index(14) {
        0 => Known::Unavailable,
        _ => value.into(),
    })
}
