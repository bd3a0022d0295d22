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
