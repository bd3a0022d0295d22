use crate::facts::Attribute;

/// A field of `source`. Each has a twin that begins with `not`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceField {
    /// SPIFFE IDs without their scheme: `cluster.local/ns/shop/sa/cart`.
    Principals,
    /// Issuer and subject of a token: `https://issuer.example/subject`.
    RequestPrincipals,
    /// Namespaces of the peer's identity.
    Namespaces,
    /// `NAMESPACE/ACCOUNT`, or `ACCOUNT` in the policy's own namespace.
    ServiceAccounts,
    /// Trust domains of the peer's identity.
    TrustDomains,
    /// Addresses and blocks of the physical source.
    IpBlocks,
    /// Addresses and blocks of the original client.
    RemoteIpBlocks,
}

impl SourceField {
    /// All fields, in the order of Istio's reference.
    pub const ALL: [Self; 7] = [
        Self::Principals,
        Self::RequestPrincipals,
        Self::Namespaces,
        Self::ServiceAccounts,
        Self::TrustDomains,
        Self::IpBlocks,
        Self::RemoteIpBlocks,
    ];

    /// What the field asks about.
    pub fn attribute(self) -> Attribute {
        match self {
            Self::Principals => Attribute::Principal,
            Self::RequestPrincipals => Attribute::RequestPrincipal,
            Self::Namespaces => Attribute::Namespace,
            Self::ServiceAccounts => Attribute::ServiceAccount,
            Self::TrustDomains => Attribute::TrustDomain,
            Self::IpBlocks => Attribute::SourceIp,
            Self::RemoteIpBlocks => Attribute::RemoteIp,
        }
    }
}

/// A field of `operation`. Each has a twin that begins with `not`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationField {
    /// Authorities, with the port if the request has one.
    Hosts,
    /// Ports that the workload listens on.
    Ports,
    /// Methods.
    Methods,
    /// Normalized paths without their query, or templates with `{*}` and `{**}`.
    Paths,
}

impl OperationField {
    /// All fields, in the order of Istio's reference.
    pub const ALL: [Self; 4] = [Self::Hosts, Self::Ports, Self::Methods, Self::Paths];

    /// What the field asks about.
    pub fn attribute(self) -> Attribute {
        match self {
            Self::Hosts => Attribute::Host,
            Self::Ports => Attribute::DestinationPort,
            Self::Methods => Attribute::Method,
            Self::Paths => Attribute::Path,
        }
    }
}

impl From<SourceField> for Attribute {
    fn from(field: SourceField) -> Self {
        field.attribute()
    }
}

impl From<OperationField> for Attribute {
    fn from(field: OperationField) -> Self {
        field.attribute()
    }
}

/// The names of a source's or operation's field, plain and negated.
pub(crate) fn names(attribute: &Attribute) -> Option<(&'static str, &'static str)> {
    Some(match attribute {
        Attribute::Principal => ("principals", "notPrincipals"),
        Attribute::RequestPrincipal => ("requestPrincipals", "notRequestPrincipals"),
        Attribute::Namespace => ("namespaces", "notNamespaces"),
        Attribute::ServiceAccount => ("serviceAccounts", "notServiceAccounts"),
        Attribute::TrustDomain => ("trustDomains", "notTrustDomains"),
        Attribute::SourceIp => ("ipBlocks", "notIpBlocks"),
        Attribute::RemoteIp => ("remoteIpBlocks", "notRemoteIpBlocks"),
        Attribute::Host => ("hosts", "notHosts"),
        Attribute::DestinationPort => ("ports", "notPorts"),
        Attribute::Method => ("methods", "notMethods"),
        Attribute::Path => ("paths", "notPaths"),
        _ => return None,
    })
}
