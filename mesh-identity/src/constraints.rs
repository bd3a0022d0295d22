//! NameConstraints of roots (RFC 5280 §4.2.1.10), as far as they are about the hosts of URIs.
//!
//! rustls-webpki refuses every path that meets such a constraint. For a root, which it is given by
//! us, we can take the constraint out of its hands and keep it ourselves.

use crate::{
    der::{Malformed, Reader, SEQUENCE, constructed, context},
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
};

/// Which hosts the URIs may have that are below a root. A SPIFFE ID's is its trust domain.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct UriConstraints {
    /// If there are any, one of them has to fit.
    permitted: Vec<Host>,
    excluded: Vec<Host>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Host {
    Exact(String),
    /// The hosts with one label or more before this one, which begins with a dot.
    Below(String),
}

impl UriConstraints {
    /// Reads the fields of a NameConstraints. Constraints on names of any other kind are not ours
    /// to keep: then there is no answer, and all of them stay with rustls-webpki.
    pub(crate) fn read(fields: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(fields);
        let permitted = subtrees(fields.optional(constructed(0)).ok()?)?;
        let excluded = subtrees(fields.optional(constructed(1)).ok()?)?;
        fields.end().ok()?;
        Some(Self { permitted, excluded })
    }

    /// Whether members of a trust domain may be below the root.
    pub(crate) fn permit(&self, trust_domain: &TrustDomain) -> bool {
        let fits = |host: &Host| host.fits(trust_domain.as_str());
        !self.excluded.iter().any(fits) && (self.permitted.is_empty() || self.permitted.iter().any(fits))
    }

    /// The same for a URI of an authority's. The host of one that is no SPIFFE ID is not looked for.
    pub(crate) fn permit_uri(&self, uri: &[u8]) -> bool {
        let id = std::str::from_utf8(uri)
            .ok()
            .and_then(|uri| SpiffeId::try_from(uri).ok());
        id.is_some_and(|id| self.permit(id.trust_domain()))
    }
}

impl Host {
    fn fits(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => host == own,
            Self::Below(own) => host.len() > own.len() && host.ends_with(own.as_str()),
        }
    }
}

/// The hosts of a GeneralSubtrees, none if it is absent.
fn subtrees(list: Option<&[u8]>) -> Option<Vec<Host>> {
    let Some(list) = list else {
        return Some(Vec::new());
    };
    let mut list = Reader::new(list);
    let mut hosts = Vec::new();
    while !list.is_empty() {
        hosts.push(host(list.read(SEQUENCE).and_then(base).ok()?)?);
    }
    // An empty list is against the standard, and could mean everything as well as nothing.
    (!hosts.is_empty()).then_some(hosts)
}

/// The URI of a GeneralSubtree. Its bounds may not be used (RFC 5280 §4.2.1.10).
fn base(subtree: &[u8]) -> Result<&[u8], Malformed> {
    let mut subtree = Reader::new(subtree);
    let uri = subtree.read(context(6))?;
    subtree.end()?;
    Ok(uri)
}

fn host(uri: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(uri).ok()?.to_ascii_lowercase();
    let name = text.strip_prefix('.').unwrap_or(&text);
    // What is no trust domain's name would never fit, which as an exclusion would exclude nothing.
    name.parse::<TrustDomain>().ok()?;
    Some(if name.len() == text.len() {
        Host::Exact(text)
    } else {
        Host::Below(text)
    })
}

#[cfg(test)]
#[cfg(feature = "dev-ca")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::der::value;

    fn tree(number: u8, names: &[(u8, &str)]) -> Vec<u8> {
        let subtrees = names
            .iter()
            .flat_map(|(tag, name)| value(SEQUENCE, &value(*tag, name.as_bytes())));
        value(constructed(number), &subtrees.collect::<Vec<_>>())
    }

    fn uris(number: u8, hosts: &[&str]) -> Vec<u8> {
        tree(
            number,
            &hosts.iter().map(|host| (context(6), *host)).collect::<Vec<_>>(),
        )
    }

    fn permits(fields: &[u8], trust_domain: &str) -> bool {
        let constraints = UriConstraints::read(fields).unwrap();
        let answer = constraints.permit(&trust_domain.parse().unwrap());
        assert_eq!(
            constraints.permit_uri(format!("spiffe://{trust_domain}").as_bytes()),
            answer
        );
        answer
    }

    #[test]
    fn hosts_fit_whole_or_below_a_dot() {
        for (host, trust_domain, fits) in [
            ("cluster.local", "cluster.local", true),
            ("Cluster.LOCAL", "cluster.local", true),
            ("cluster.local", "a.cluster.local", false),
            ("cluster.local", "acluster.local", false),
            (".cluster.local", "a.cluster.local", true),
            (".cluster.local", "a.b.cluster.local", true),
            (".cluster.local", "cluster.local", false),
            (".cluster.local", ".cluster.local", false),
            (".cluster.local", "acluster.local", false),
        ] {
            assert_eq!(permits(&uris(0, &[host]), trust_domain), fits, "{host} {trust_domain}");
            assert_eq!(permits(&uris(1, &[host]), trust_domain), !fits, "{host} {trust_domain}");
        }
    }

    #[test]
    fn one_permission_is_enough_and_one_exclusion_too_much() {
        let fields = [uris(0, &["a", ".b"]), uris(1, &["c.b", "d"])].concat();
        for (trust_domain, fits) in [("a", true), ("x.b", true), ("c.b", false), ("d", false), ("e", false)] {
            assert_eq!(permits(&fields, trust_domain), fits, "{trust_domain}");
        }
    }

    #[test]
    fn an_authoritys_uri_is_a_spiffe_id_or_not_permitted() {
        let constraints = UriConstraints::read(&uris(0, &["a"])).unwrap();
        for uri in ["https://a/", "spiffe://a/../b", "spiffe://b", "urn:a", ""] {
            assert!(!constraints.permit_uri(uri.as_bytes()), "{uri}");
        }
        assert!(!constraints.permit_uri(b"spiffe://a/\xff"));
    }

    #[test]
    fn what_is_about_more_than_hosts_of_uris_is_left_alone() {
        let dns = context(2);
        let bounded = value(SEQUENCE, &[value(context(6), b"a"), value(context(0), &[1])].concat());
        for fields in [
            tree(0, &[(dns, "a")]),
            tree(0, &[(context(6), "a"), (dns, "a")]),
            [uris(0, &["a"]), tree(1, &[(dns, "a")])].concat(),
            value(constructed(0), &bounded),
            uris(0, &[]),
            uris(0, &[""]),
            uris(0, &["."]),
            uris(1, &["https://a/"]),
            uris(1, &["a:80"]),
            uris(2, &["a"]),
            [uris(1, &["a"]), uris(0, &["a"])].concat(),
            [uris(0, &["a"]), vec![5, 0]].concat(),
        ] {
            assert_eq!(UriConstraints::read(&fields), None, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left_alone(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _constraints = UriConstraints::read(&bytes);
        }
    }
}
