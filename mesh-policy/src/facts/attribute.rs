use std::fmt;

/// Something about a connection or a request that a policy can ask for.
///
/// Printed as the condition key of Istio that asks for it, or, where there is none, as the field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// The peer's SPIFFE ID, without its scheme (`principals`).
    Principal,
    /// The issuer and the subject of the request's token (`requestPrincipals`).
    RequestPrincipal,
    /// The namespace in the peer's identity (`namespaces`).
    Namespace,
    /// Namespace and service account in the peer's identity (`serviceAccounts`).
    ServiceAccount,
    /// The trust domain of the peer's identity (`trustDomains`).
    TrustDomain,
    /// The physical source address (`ipBlocks`).
    SourceIp,
    /// The original client's address (`remoteIpBlocks`).
    RemoteIp,
    /// The request's authority, in any case (`hosts`).
    Host,
    /// The destination's port (`ports`).
    DestinationPort,
    /// The request's method (`methods`).
    Method,
    /// The request's normalized path, without its query (`paths`).
    Path,
    /// The lines of a header. The name is in lower case; `host` is the authority, and `:path`
    /// has the query. Other pseudo-headers than those, `:authority` and `:method` are unavailable.
    Header(Box<str>),
    /// The destination's address.
    DestinationIp,
    /// The server name of the TLS handshake.
    Sni,
    /// The token's audiences (claim `aud`).
    Audiences,
    /// The party that the token was issued to (claim `azp`).
    Presenter,
    /// A claim of the token, by the names that lead to it.
    Claim(Box<[Box<str>]>),
    /// What a filter of Envoy found out.
    Metadata {
        /// The filter's name.
        filter: Box<str>,
        /// The key in the filter's metadata.
        key: Box<str>,
    },
}

impl Attribute {
    /// Whether only a request has it, and no connection.
    pub fn is_http_only(&self) -> bool {
        match self {
            Self::RequestPrincipal
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::Header(_)
            | Self::Audiences
            | Self::Presenter
            | Self::Claim(_) => true,
            Self::Principal
            | Self::Namespace
            | Self::ServiceAccount
            | Self::TrustDomain
            | Self::SourceIp
            | Self::RemoteIp
            | Self::DestinationPort
            | Self::DestinationIp
            | Self::Sni
            | Self::Metadata { .. } => false,
        }
    }

    /// Whether it is part of the peer's identity, which a peer without a certificate lacks.
    pub fn is_identity(&self) -> bool {
        matches!(
            self,
            Self::Principal | Self::Namespace | Self::ServiceAccount | Self::TrustDomain
        )
    }

    /// Whether it is a pseudo-header that no facts have a place for, such as `:scheme`.
    pub(crate) fn is_beyond_facts(&self) -> bool {
        matches!(self, Self::Header(name)
            if name.starts_with(':') && ![":authority", ":method", ":path"].contains(&&**name))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Principal => "source.principal",
            Self::RequestPrincipal => "request.auth.principal",
            Self::Namespace => "source.namespace",
            Self::ServiceAccount => "source.serviceAccount",
            Self::TrustDomain => "source.trustDomain",
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::Host => "hosts",
            Self::DestinationPort => "destination.port",
            Self::Method => "methods",
            Self::Path => "paths",
            Self::DestinationIp => "destination.ip",
            Self::Sni => "connection.sni",
            Self::Audiences => "request.auth.audiences",
            Self::Presenter => "request.auth.presenter",
            Self::Header(name) => return write!(f, "request.headers[{name}]"),
            Self::Claim(path) => {
                f.write_str("request.auth.claims")?;
                return path.iter().try_for_each(|name| write!(f, "[{name}]"));
            }
            Self::Metadata { filter, key } => return write!(f, "experimental.envoy.filters.{filter}[{key}]"),
        })
    }
}
