use crate::{
    facts::{Attribute, Facts, Known},
    matcher::{
        header::EmptyLine,
        ip::Cidr,
        path::{Charset, PathTemplate},
        principal::{self, NamespacePattern, Reading, RequestPrincipal},
        text::{Case, TextPattern},
    },
};

/// A value of a policy, read: what it asks of its attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Text {
        pattern: TextPattern,
        case: Case,
        empty: EmptyLine,
    },
    Principal(TextPattern, Reading),
    Namespace(NamespacePattern, Reading),
    ServiceAccount {
        namespace: Box<[u8]>,
        account: Box<[u8]>,
        reading: Reading,
    },
    TrustDomain(TextPattern, Reading),
    RequestPrincipal(RequestPrincipal),
    Ip(Cidr),
    Port(u16),
    Template(PathTemplate, Charset),
    /// A text in a list of metadata.
    Listed(TextPattern),
}

impl Test {
    /// Whether the attribute, which is not unavailable, is there and passes.
    pub(crate) fn passes(&self, attribute: &Attribute, facts: &Facts<'_>) -> bool {
        let peer = || facts.peer().present();
        match self {
            Self::Text { pattern, case, empty } => {
                let fits = |text: &[u8]| match pattern {
                    TextPattern::Present => empty.is_presence(text),
                    _ => pattern.matches(text, *case),
                };
                any_text(attribute, facts, fits)
            }
            Self::Principal(pattern, reading) => {
                peer().is_some_and(|peer| principal::principal(pattern, *reading, peer))
            }
            Self::Namespace(pattern, reading) => peer().is_some_and(|peer| pattern.matches(*reading, peer)),
            Self::ServiceAccount {
                namespace,
                account,
                reading,
            } => peer().is_some_and(|peer| principal::service_account(namespace, account, *reading, peer)),
            Self::TrustDomain(pattern, reading) => {
                peer().is_some_and(|peer| principal::trust_domain(pattern, *reading, peer))
            }
            Self::RequestPrincipal(pattern) => facts.claims().present().is_some_and(|claims| pattern.matches(claims)),
            Self::Ip(block) => {
                let address = match attribute {
                    Attribute::SourceIp => facts.source_ip(),
                    Attribute::RemoteIp => facts.remote_ip(),
                    _ => facts.destination_ip(),
                };
                address.present().is_some_and(|address| block.contains(address))
            }
            Self::Port(port) => facts.destination_port() == Known::Present(*port),
            Self::Template(template, charset) => any_text(attribute, facts, |path| template.matches(path, *charset)),
            Self::Listed(pattern) => match (attribute, facts.metadata()) {
                (Attribute::Metadata { filter, key }, Known::Present(metadata)) => {
                    metadata.is_listed(filter, key, &mut |text| pattern.matches(text, Case::Counts))
                }
                _ => false,
            },
        }
    }
}

impl Test {
    /// Whether whatever passes this test passes the other, of the same attribute. `false` is no
    /// proof of the contrary.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Text { pattern, case, empty },
                Self::Text {
                    pattern: wider,
                    case: wider_case,
                    empty: wider_empty,
                },
            ) => {
                let presence = (pattern, wider) == (&TextPattern::Present, &TextPattern::Present);
                // Only a prefix or suffix that is no more than its star fits empty text.
                let admits_empty = presence && *empty == EmptyLine::Counts;
                case == wider_case
                    && pattern.implies(wider, *case)
                    && (!admits_empty || *wider_empty == EmptyLine::Counts)
            }
            (Self::Principal(pattern, reading), Self::Principal(wider, wider_reading))
            | (Self::TrustDomain(pattern, reading), Self::TrustDomain(wider, wider_reading)) => {
                reading >= wider_reading && pattern.implies(wider, Case::Counts)
            }
            (Self::Namespace(one, reading), Self::Namespace(other, wider)) => reading >= wider && one.implies(other),
            (
                Self::ServiceAccount {
                    namespace,
                    account,
                    reading,
                },
                Self::ServiceAccount {
                    namespace: other_namespace,
                    account: other_account,
                    reading: wider,
                },
            ) => reading >= wider && (namespace, account) == (other_namespace, other_account),
            (Self::Ip(block), Self::Ip(wider)) => block.implies(wider),
            (Self::Template(one, charset), Self::Template(other, wider)) => one == other && charset <= wider,
            (Self::Text { pattern, case, .. }, Self::Template(template, charset)) => {
                matches!(pattern, TextPattern::Exact(path) if *case == Case::Counts && template.matches(path, *charset))
            }
            (Self::Listed(pattern), Self::Listed(wider)) => pattern.implies(wider, Case::Counts),
            _ => self == other,
        }
    }

    /// Whether no one value passes both tests. `false` is no proof of the contrary.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text { pattern, case, .. }, Self::Text { pattern: other, .. }) => pattern.excludes(other, *case),
            (Self::Text { pattern, .. }, Self::Template(template, charset))
            | (Self::Template(template, charset), Self::Text { pattern, .. }) => {
                matches!(pattern, TextPattern::Exact(path) if !template.matches(path, *charset))
            }
            (Self::Ip(block), Self::Ip(other)) => block.excludes(other),
            (Self::Port(port), Self::Port(other)) => port != other,
            _ => false,
        }
    }
}

/// Whether one of the texts that an attribute has passes a test.
pub(super) fn any_text(attribute: &Attribute, facts: &Facts<'_>, mut test: impl FnMut(&[u8]) -> bool) -> bool {
    let one = match attribute {
        Attribute::Host => facts.authority(),
        Attribute::Method => facts.method(),
        Attribute::Sni => facts.sni(),
        Attribute::Path => return facts.path().present().is_some_and(|path| test(path.path())),
        Attribute::Header(name) => match &**name {
            ":authority" | "host" => facts.authority(),
            ":method" => facts.method(),
            ":path" => return facts.path().present().is_some_and(|path| test(path.target())),
            name => {
                let headers = facts.headers().present();
                return headers.is_some_and(|headers| headers.any_line(name, &mut test));
            }
        },
        Attribute::Audiences | Attribute::Presenter | Attribute::Claim(_) => {
            let claim = facts.claims().present().and_then(|claims| match attribute {
                Attribute::Audiences => claims.get("aud"),
                Attribute::Presenter => claims.get("azp"),
                Attribute::Claim(path) => claims.at(path),
                _ => None,
            });
            return claim.is_some_and(|claim| claim.any_text(test));
        }
        Attribute::Metadata { filter, key } => {
            let metadata = facts.metadata().present();
            return metadata.is_some_and(|metadata| metadata.is_text(filter, key, &mut test));
        }
        _ => return false,
    };
    one.present().is_some_and(test)
}
