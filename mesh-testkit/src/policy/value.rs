//! What a single value means.

use std::net::IpAddr;

use mesh_policy::{Attribute, Claim, Facts, Known, Peer, authz::Dialect, facts::PeerName};

use super::Mesh;

/// What follows for a request if a value matches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Admits,
    Stops,
}

/// Whether no plane can read a value.
pub(super) fn is_bad(attribute: &Attribute, value: &str) -> bool {
    match attribute {
        _ if value.is_empty() => true,
        Attribute::SourceIp | Attribute::RemoteIp | Attribute::DestinationIp => block(value).is_none(),
        Attribute::DestinationPort => !is_number(value) || value.parse::<u16>().is_err(),
        Attribute::Path if is_template(value) => {
            let rest = value.replace("{**}", "\0").replace("{*}", "\0");
            let after_rest = value.split_once("{**}").map_or("", |(_, after)| after);
            let touches = ["{*}{*}", "{*}{**}"].iter().any(|operators| value.contains(operators));
            touches
                || !value.starts_with('/')
                || !rest.bytes().all(|byte| byte == 0 || byte != b'*' && is_pchar(byte))
                || is_template(after_rest)
        }
        Attribute::ServiceAccount => {
            let parts: Vec<_> = value.split('/').collect();
            value.len() > 320 || value.contains('*') || parts.len() > 2 || parts.contains(&"")
        }
        _ => false,
    }
}

/// Whether it cannot be said what an attribute is.
pub(super) fn is_unknown(attribute: &Attribute, facts: &Facts<'_>) -> bool {
    match attribute.to_string().as_str() {
        "source.ip" => facts.source_ip().is_unavailable(),
        "remote.ip" => facts.remote_ip().is_unavailable(),
        "destination.ip" => facts.destination_ip().is_unavailable(),
        "destination.port" => facts.destination_port().is_unavailable(),
        "connection.sni" => facts.sni().is_unavailable(),
        "hosts" | "request.headers[host]" | "request.headers[:authority]" => facts.authority().is_unavailable(),
        "methods" | "request.headers[:method]" => facts.method().is_unavailable(),
        "paths" | "request.headers[:path]" => facts.path().is_unavailable(),
        name if name.starts_with("request.headers[") => facts.headers().is_unavailable(),
        name if name.starts_with("request.auth.") => facts.claims().is_unavailable(),
        name if name.starts_with("experimental.") => facts.metadata().is_unavailable(),
        name if name.starts_with("source.") => facts.peer().is_unavailable(),
        name => panic!("nobody knows {name}"),
    }
}

/// Whether a value of a policy matches.
#[derive(Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) mesh: &'q Mesh,
    /// The policy's.
    pub(super) namespace: &'q str,
    pub(super) attribute: &'q Attribute,
    pub(super) value: &'q str,
    pub(super) facts: &'q Facts<'q>,
}

impl Question<'_> {
    /// In a plane's own way or, in the strict dialect, in all ways or in any.
    pub(super) fn matches(self, effect: Effect) -> bool {
        match self.mesh.dialect {
            Dialect::Strict => self.matches_strictly(effect),
            dialect => self.matches_on(dialect),
        }
    }

    fn matches_strictly(self, effect: Effect) -> bool {
        let Self {
            attribute,
            value,
            facts,
            ..
        } = self;
        let plane = |dialect| self.matches_on(dialect);
        match (attribute, effect) {
            (Attribute::Principal | Attribute::Namespace | Attribute::ServiceAccount, Effect::Stops) => {
                plane(Dialect::EnvoyHttp) || plane(Dialect::Ztunnel)
            }
            (Attribute::Principal | Attribute::Namespace | Attribute::ServiceAccount, Effect::Admits) => {
                has_one_uri(facts) && plane(Dialect::EnvoyHttp) && plane(Dialect::Ztunnel)
            }
            (Attribute::TrustDomain, Effect::Stops) => {
                plane(Dialect::EnvoyHttp) || trust_domain(facts, &[value.to_owned()])
            }
            (Attribute::TrustDomain, Effect::Admits) => {
                let workload = facts.peer().present().and_then(first_workload).is_some();
                let literal = trust_domain(facts, &[value.to_owned()]);
                has_one_uri(facts) && workload && plane(Dialect::EnvoyHttp) && literal
            }
            (Attribute::Path, Effect::Stops) if is_template(value) => {
                path(facts).is_some_and(|path| template(&tokens(value), path.as_bytes()))
            }
            (Attribute::Header(name), Effect::Admits) if value == "*" => {
                lines(facts, name).iter().any(|line| !line.is_empty())
            }
            (Attribute::Sni, _) => {
                let sni = facts.sni().present().map(text);
                sni.is_some_and(|sni| star(&value.to_lowercase(), &sni.to_lowercase()))
            }
            _ => plane(Dialect::EnvoyHttp),
        }
    }

    fn matches_on(self, dialect: Dialect) -> bool {
        let Self {
            attribute,
            value,
            facts,
            ..
        } = self;
        match attribute {
            _ if attribute.is_identity() => self.matches_identity(dialect),
            Attribute::RequestPrincipal => request_principal(value, facts),
            Attribute::SourceIp => in_block(value, facts.source_ip()),
            Attribute::RemoteIp => in_block(value, facts.remote_ip()),
            Attribute::DestinationIp => in_block(value, facts.destination_ip()),
            Attribute::DestinationPort => facts.destination_port().present() == value.parse().ok(),
            Attribute::Host => {
                let host = facts.authority().present().map(text);
                host.is_some_and(|host| value == "*" || star(&value.to_ascii_lowercase(), &host.to_ascii_lowercase()))
            }
            Attribute::Method => facts
                .method()
                .present()
                .is_some_and(|method| value == "*" || star(value, &text(method))),
            Attribute::Path if is_template(value) => {
                path(facts).is_some_and(|path| path.bytes().all(is_pchar) && template(&tokens(value), path.as_bytes()))
            }
            Attribute::Path => path(facts).is_some_and(|path| star(value, &path)),
            Attribute::Header(name) => lines(facts, name).iter().any(|line| value == "*" || star(value, line)),
            Attribute::Sni => {
                let sni = facts.sni().present().map(text);
                sni.is_some_and(|sni| star(value, &sni.to_lowercase()))
            }
            Attribute::Audiences => claim(facts, &["aud".into()]).iter().any(|text| star(value, text)),
            Attribute::Presenter => claim(facts, &["azp".into()]).iter().any(|text| star(value, text)),
            Attribute::Claim(names) => claim(facts, names).iter().any(|text| star(value, text)),
            Attribute::Metadata { filter, key } => match facts.metadata() {
                Known::Present(metadata) => match value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                    Some(element) => metadata.is_listed(filter, key, &mut |found| star(element, &text(found))),
                    None => metadata.is_text(filter, key, &mut |found| star(value, &text(found))),
                },
                _ => false,
            },
            other => panic!("no plane knows {other}"),
        }
    }

    fn matches_identity(self, dialect: Dialect) -> bool {
        let Self {
            mesh,
            namespace,
            attribute,
            value,
            facts,
        } = self;
        let ztunnel = dialect == Dialect::Ztunnel;
        let workload = || facts.peer().present().and_then(first_workload);
        let names = || -> Vec<String> {
            let names = facts.peer().present().map(Peer::names).unwrap_or_default();
            names.iter().map(|name| text(name.text())).collect()
        };
        match attribute {
            Attribute::Principal if ztunnel => workload()
                .is_some_and(|(domain, space, account)| star(value, &format!("{domain}/ns/{space}/sa/{account}"))),
            Attribute::Principal if value == "*" => !names().is_empty(),
            Attribute::Principal => {
                let values = expand(mesh, value);
                let fits = |name: &String| {
                    let after = name.strip_prefix("spiffe://");
                    after.is_some_and(|after| {
                        values
                            .iter()
                            .any(|value| value == "*" && !after.is_empty() || star(value, after))
                    })
                };
                names().iter().any(fits)
            }
            Attribute::Namespace if ztunnel => workload().is_some_and(|(_, space, _)| star(value, &space)),
            Attribute::Namespace => names()
                .iter()
                .any(|name| glob(format!("*/ns/{value}/*").as_bytes(), name.as_bytes())),
            Attribute::ServiceAccount => {
                let (space, account) = value.split_once('/').unwrap_or((namespace, value));
                if ztunnel {
                    workload().is_some_and(|(_, own, name)| own == space && name == account)
                } else {
                    names().iter().any(|name| has_account(name, space, account))
                }
            }
            Attribute::TrustDomain => {
                let known: Vec<_> = mesh.trust_domains.names().map(str::to_owned).collect();
                let values = if known.contains(&value.to_owned()) {
                    known
                } else {
                    vec![value.to_owned()]
                };
                trust_domain(facts, &values)
            }
            other => panic!("{other} is no part of an identity"),
        }
    }
}

/// A pattern with one outer star at most; a star alone asks for something.
fn star(value: &str, text: &str) -> bool {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", _, _) => !text.is_empty(),
        (_, Some(suffix), _) => text.ends_with(suffix),
        (_, None, Some(prefix)) => text.starts_with(prefix),
        (value, None, None) => text == value,
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        [byte, rest @ ..] => text.first() == Some(byte) && glob(rest, &text[1..]),
    }
}

fn first_workload(peer: &Peer) -> Option<(String, String, String)> {
    peer.uris().iter().find_map(|name| workload(&text(name.text())))
}

fn workload(name: &str) -> Option<(String, String, String)> {
    let parts: Vec<_> = name.strip_prefix("spiffe://")?.split('/').map(str::to_owned).collect();
    match &parts[..] {
        [domain, ns, space, sa, account] if ns == "ns" && sa == "sa" && !parts.iter().any(String::is_empty) => {
            Some((domain.clone(), space.clone(), account.clone()))
        }
        _ => None,
    }
}

fn has_one_uri(facts: &Facts<'_>) -> bool {
    facts
        .peer()
        .present()
        .map(Peer::uris)
        .is_some_and(|names: &[PeerName]| names.len() == 1)
}

fn has_account(name: &str, space: &str, account: &str) -> bool {
    let Some(rest) = name.strip_prefix("spiffe://") else {
        return false;
    };
    let mark = format!("/ns/{space}/");
    (1..rest.len()).filter(|at| rest[*at..].starts_with(&mark)).any(|at| {
        let behind = &rest[at + mark.len()..];
        let starts = (0..=behind.len()).filter(|at| *at == 0 || (*at >= 2 && behind.as_bytes()[at - 1] == b'/'));
        let mut tails = starts.filter_map(|at| behind[at..].strip_prefix(&format!("sa/{account}")));
        tails.any(|tail| tail.is_empty() || (tail.starts_with('/') && tail.len() > 1))
    })
}

fn trust_domain(facts: &Facts<'_>, values: &[String]) -> bool {
    let names = facts.peer().present().map(Peer::names).unwrap_or_default();
    names.iter().any(|name| {
        let name = text(name.text());
        let Some(rest) = name.strip_prefix("spiffe://") else {
            return false;
        };
        values.iter().any(|value| match rest.split_once('/') {
            _ if value == "*" => true,
            Some((domain, _)) => star(value, domain),
            None => false,
        })
    })
}

/// What Istio does with a principal's trust domain: of five parts whose first is no star alone, the
/// first is replaced by each name of the mesh if it is one of them, as a pattern or literally, or
/// the pointer `cluster.local`. A pattern that ends as a name does stays in its place.
fn expand(mesh: &Mesh, value: &str) -> Vec<String> {
    let parts: Vec<_> = value.split('/').collect();
    let own: Vec<_> = mesh.trust_domains.names().collect();
    let covers = |pattern: &str, name: &str| pattern.starts_with('*') && name.ends_with(&pattern[1..]);
    let begins = |pattern: &str, name: &str| pattern.ends_with('*') && name.starts_with(&pattern[..pattern.len() - 1]);
    // Either of the two may be a pattern.
    let same = |name: &str| {
        let one_way = |pattern: &str, name: &str| covers(pattern, name) || begins(pattern, name);
        name == parts[0] || one_way(parts[0], name) || one_way(name, parts[0])
    };
    if parts.len() != 5 || parts[0] == "*" || !(parts[0] == "cluster.local" || own.iter().any(|name| same(name))) {
        return vec![value.to_owned()];
    }
    let replace = |name: &&str| {
        if covers(parts[0], name) {
            value.to_owned()
        } else {
            format!("{name}/{}", parts[1..].join("/"))
        }
    };
    own.iter().map(replace).collect()
}

fn request_principal(value: &str, facts: &Facts<'_>) -> bool {
    let text = |name: &str| {
        facts
            .claims()
            .present()
            .and_then(|claims| claims.text(name))
            .map(str::to_owned)
    };
    let (issuer, subject) = (text("iss"), text("sub"));
    let fits = |pattern: &str, claim: &Option<String>| claim.as_ref().is_some_and(|claim| star(pattern, claim));
    let equal = |value: &str, claim: &Option<String>| claim.as_deref() == Some(value);
    match value.rsplit_once('/') {
        None if value == "*" => fits("*", &issuer) && fits("*", &subject),
        None if value.starts_with('*') => fits(value, &subject),
        None if value.ends_with('*') => fits(value, &issuer),
        None => equal(value, &issuer) && equal("", &subject),
        Some((before, after)) if value.starts_with('*') => fits(before, &issuer) && equal(after, &subject),
        Some((before, after)) => equal(before, &issuer) && fits(after, &subject),
    }
}

fn in_block(value: &str, address: Known<IpAddr>) -> bool {
    let (Some(address), Some((first, bits))) = (address.present(), block(value)) else {
        return false;
    };
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    match (first, address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (0..bits).all(|at| bit(&one.octets(), at) == bit(&other.octets(), at)),
        (IpAddr::V6(one), IpAddr::V6(other)) => (0..bits).all(|at| bit(&one.octets(), at) == bit(&other.octets(), at)),
        _ => false,
    }
}

fn block(value: &str) -> Option<(IpAddr, usize)> {
    let (address, bits) = value
        .split_once('/')
        .map_or((value, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|_| is_number(bits)))?;
    (bits <= most).then_some((address, bits))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What Envoy's templates know of a path, which a slash is part of.
fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~%!$&'()+,;:@=*".contains(&byte)
}

fn is_template(value: &str) -> bool {
    value.contains("{*}") || value.contains("{**}")
}

fn tokens(value: &str) -> Vec<char> {
    value.replace("{**}", "\u{2}").replace("{*}", "\u{1}").chars().collect()
}

fn template(tokens: &[char], path: &[u8]) -> bool {
    match tokens {
        [] => path.is_empty(),
        ['\u{1}', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (1..=end).any(|at| template(rest, &path[at..]))
        }
        ['\u{2}', rest @ ..] => (0..=path.len()).any(|at| template(rest, &path[at..])),
        [token, rest @ ..] => path.first().map(|byte| char::from(*byte)) == Some(*token) && template(rest, &path[1..]),
    }
}

fn path(facts: &Facts<'_>) -> Option<String> {
    facts.path().present().map(|path| text(path.path()))
}

fn lines(facts: &Facts<'_>, name: &str) -> Vec<String> {
    let one = |value: Known<&[u8]>| value.present().map(text).into_iter().collect();
    match name {
        "host" | ":authority" => one(facts.authority()),
        ":method" => one(facts.method()),
        ":path" => facts
            .path()
            .present()
            .map(|path| text(path.target()))
            .into_iter()
            .collect(),
        _ => {
            let mut lines = Vec::new();
            if let Known::Present(headers) = facts.headers() {
                headers.any_line(name, &mut |line| {
                    lines.push(text(line));
                    false
                });
            }
            lines
        }
    }
}

fn claim(facts: &Facts<'_>, path: &[Box<str>]) -> Vec<String> {
    let texts = match facts.claims().present().and_then(|claims| claims.at(path)) {
        Some(Claim::Text(text)) => vec![text.to_string()],
        Some(Claim::List(list)) => list
            .iter()
            .filter_map(|claim| match claim {
                Claim::Text(text) => Some(text.to_string()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

/// One character for each byte, so that nothing is lost.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
