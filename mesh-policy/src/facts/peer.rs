use std::ops::Range;

use mesh_identity::{MAX_SPIFFE_ID_BYTES, SpiffeId};
use thiserror::Error;

use crate::fingerprint;

const SCHEME: &[u8] = b"spiffe://";

/// The names that a peer has authenticated with, taken apart once for all decisions about its
/// connection.
///
/// In a mesh that is one SPIFFE ID. Peers of other meshes may have several names, and Envoy looks
/// at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    names: Vec<PeerName>,
    uris: usize,
}

impl Peer {
    /// A peer by the names in its certificate: its URI names, then its DNS names, then its subject
    /// in the notation of RFC 2253. Text is compared byte by byte, NUL included.
    ///
    /// # Errors
    ///
    /// A name longer than a SPIFFE ID may be.
    pub fn from_certificate(uris: &[&[u8]], dns: &[&[u8]], subject: &[u8]) -> Result<Self, PeerError> {
        let mut names = Vec::with_capacity(uris.len() + dns.len() + 1);
        for name in uris.iter().chain(dns).chain([&subject]) {
            if name.len() > MAX_SPIFFE_ID_BYTES {
                return Err(PeerError::LongName { bytes: name.len() });
            }
            if !name.is_empty() {
                names.push(PeerName::new(name));
            }
        }
        let uris = uris.iter().filter(|name| !name.is_empty()).count();
        Ok(Self { names, uris })
    }

    /// All names, in the order URI, DNS, subject.
    pub fn names(&self) -> &[PeerName] {
        &self.names
    }

    /// The names that are URIs.
    pub fn uris(&self) -> &[PeerName] {
        self.names.get(..self.uris).unwrap_or_default()
    }

    /// The name as ztunnel sees it: the first URI of Istio's form.
    pub(crate) fn first_workload(&self) -> Option<&PeerName> {
        self.uris().iter().find(|name| name.workload.is_some())
    }

    /// The name about which no two planes can disagree: the only URI, and of Istio's form.
    pub(crate) fn sole_workload(&self) -> Option<&PeerName> {
        match self.uris() {
            [name] if name.workload.is_some() => Some(name),
            _ => None,
        }
    }
}

impl From<&SpiffeId> for Peer {
    fn from(id: &SpiffeId) -> Self {
        Self {
            names: vec![PeerName::new(id.to_string().as_bytes())],
            uris: 1,
        }
    }
}

/// One of a peer's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    text: Box<[u8]>,
    workload: Option<Workload>,
    /// What stands between `/ns/` and the next `/`, wherever that occurs.
    namespaces: Vec<Part>,
    /// The same with what stands after `sa/` behind it.
    accounts: Vec<(Part, Part)>,
    fingerprint: u64,
}

/// The parts of a name of Istio's form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Workload {
    namespace: Part,
    account: Part,
}

/// A part of a name's text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    range: Range<usize>,
    fingerprint: u64,
}

impl PeerName {
    fn new(text: &[u8]) -> Self {
        let mut name = Self {
            text: text.into(),
            workload: None,
            namespaces: Vec::new(),
            accounts: Vec::new(),
            fingerprint: 0,
        };
        name.fingerprint = fingerprint::of(name.principal().unwrap_or_default());
        name.workload = name.parse_workload();
        name.find_parts();
        name
    }

    /// The whole name.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// What policies compare with `principals`: the name without `spiffe://`, if it begins so.
    pub fn principal(&self) -> Option<&[u8]> {
        self.text.strip_prefix(SCHEME)
    }

    /// The trust domain, if the name is a SPIFFE ID with a path.
    pub(crate) fn trust_domain(&self) -> Option<&[u8]> {
        let principal = self.principal()?;
        principal.get(..principal.iter().position(|byte| *byte == b'/')?)
    }

    /// Namespace and service account, if the name is exactly of Istio's form.
    pub(crate) fn workload(&self) -> Option<(&[u8], &[u8])> {
        let workload = self.workload.as_ref()?;
        Some((self.part(&workload.namespace), self.part(&workload.account)))
    }

    pub(crate) fn principal_fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn namespace_fingerprints(&self) -> impl Iterator<Item = u64> {
        self.namespaces.iter().map(|part| part.fingerprint)
    }

    pub(crate) fn account_fingerprints(&self) -> impl Iterator<Item = u64> {
        self.accounts
            .iter()
            .map(|(namespace, account)| fingerprint::pair(namespace.fingerprint, account.fingerprint))
    }

    /// Whether `/ns/NAMESPACE/` occurs in the name.
    pub(crate) fn mentions_namespace(&self, namespace: &[u8]) -> bool {
        self.namespaces.iter().any(|part| self.part(part) == namespace)
    }

    /// Whether the namespace occurs and the service account behind it, with anything in between.
    pub(crate) fn mentions_account(&self, namespace: &[u8], account: &[u8]) -> bool {
        self.accounts
            .iter()
            .any(|(first, second)| self.part(first) == namespace && self.part(second) == account)
    }

    fn part(&self, part: &Part) -> &[u8] {
        self.text.get(part.range.clone()).unwrap_or_default()
    }

    fn parse_workload(&self) -> Option<Workload> {
        let mut parts = self.principal()?.split(|byte| *byte == b'/');
        let (Some(domain), Some(b"ns"), Some(namespace), Some(b"sa"), Some(account), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return None;
        };
        if domain.is_empty() || namespace.is_empty() || account.is_empty() {
            return None;
        }
        let start = SCHEME.len() + domain.len() + b"/ns/".len();
        let end = start + namespace.len();
        Some(Workload {
            namespace: self.part_at(start..end),
            account: self.part_at(end + b"/sa/".len()..self.text.len()),
        })
    }

    fn find_parts(&mut self) {
        self.namespaces = starts(&self.text, b"/ns/")
            .filter_map(|start| Some(self.part_at(start..next_slash(&self.text, start)?)))
            .collect();
        // Before it the trust domain has at least one byte, wherever it ends.
        let least = SCHEME.len() + b"/ns/".len();
        if self.principal().is_some() {
            let behind_domain = self.namespaces.iter().filter(|namespace| namespace.range.start > least);
            self.accounts = behind_domain
                .flat_map(|namespace| self.accounts_behind(namespace))
                .collect();
        }
    }

    fn accounts_behind(&self, namespace: &Part) -> Vec<(Part, Part)> {
        let slash = namespace.range.end;
        let rest = self.text.get(slash..).unwrap_or_default();
        starts(rest, b"/sa/")
            // Between the two slashes stands nothing at all or at least one byte.
            .filter(|start| *start != 1 + b"/sa/".len())
            .filter_map(|start| {
                let start = slash + start;
                let end = next_slash(&self.text, start).unwrap_or(self.text.len());
                // A slash behind the account is not the end.
                (end + 1 != self.text.len()).then(|| (namespace.clone(), self.part_at(start..end)))
            })
            .collect()
    }

    fn part_at(&self, range: Range<usize>) -> Part {
        let fingerprint = fingerprint::of(self.text.get(range.clone()).unwrap_or_default());
        Part { range, fingerprint }
    }
}

/// Where each occurrence of the four bytes ends.
fn starts<'t>(text: &'t [u8], mark: &'static [u8; 4]) -> impl Iterator<Item = usize> + 't {
    text.windows(mark.len())
        .enumerate()
        .filter(move |(_, window)| window == mark)
        .map(|(at, _)| at + mark.len())
}

fn next_slash(text: &[u8], from: usize) -> Option<usize> {
    let distance = text.get(from..)?.iter().position(|byte| *byte == b'/')?;
    Some(from + distance)
}

/// Why names are not those of a [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A name is longer than a SPIFFE ID may be.
    #[error("a name of the peer has {bytes} bytes, more than {MAX_SPIFFE_ID_BYTES}")]
    LongName {
        /// Its length.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::new(text.as_bytes())
    }

    #[test]
    fn takes_an_istio_name_apart() {
        let id = name("spiffe://td/ns/shop/sa/cart");
        assert_eq!(id.principal(), Some(&b"td/ns/shop/sa/cart"[..]));
        assert_eq!(id.trust_domain(), Some(&b"td"[..]));
        assert_eq!(id.workload(), Some((&b"shop"[..], &b"cart"[..])));
        assert!(id.mentions_namespace(b"shop") && !id.mentions_namespace(b"sho"));
        assert!(id.mentions_account(b"shop", b"cart") && !id.mentions_account(b"shop", b"car"));
    }

    #[test]
    fn other_forms_have_no_workload() {
        for text in [
            "spiffe://td/ns/shop/sa/cart/",
            "spiffe://td/ns/shop/sa/",
            "spiffe://td/ns//sa/cart",
            "spiffe:///ns/shop/sa/cart",
            "spiffe://td/x/ns/shop/sa/cart",
            "https://td/ns/shop/sa/cart",
            "shop.svc",
        ] {
            assert_eq!(name(text).workload(), None, "{text}");
        }
    }

    #[test]
    fn finds_namespaces_and_accounts_wherever_they_stand() {
        let nested = name("spiffe://td/ns/foo/sa/x/ns/admin/sa/y");
        assert!(nested.mentions_namespace(b"foo") && nested.mentions_namespace(b"admin"));
        assert!(nested.mentions_account(b"foo", b"x") && nested.mentions_account(b"foo", b"y"));
        assert!(nested.mentions_account(b"admin", b"y") && !nested.mentions_account(b"admin", b"x"));
        assert!(name("spiffe://td/k/v/ns/a/k/v/sa/b/k/v").mentions_account(b"a", b"b"));
        assert!(!name("spiffe://td/ns/a/sa/b/").mentions_account(b"a", b"b"));
        assert!(!name("spiffe://td/ns/a//sa/b").mentions_account(b"a", b"b"));
        assert!(!name("spiffe:///ns/a/sa/b").mentions_account(b"a", b"b"));
        assert!(name("O=x/ns/a/b").mentions_namespace(b"a"));
    }

    #[test]
    fn a_second_uri_leaves_no_sole_workload() {
        let (one, two): (&[u8], &[u8]) = (b"spiffe://td/ns/a/sa/b", b"spiffe://td/ns/c/sa/d");
        let peer = Peer::from_certificate(&[one, two], &[b"a.example"], b"CN=x").unwrap();
        assert_eq!(peer.names().len(), 4);
        assert_eq!(peer.first_workload().unwrap().text(), one);
        assert_eq!(peer.sole_workload(), None);
        let peer = Peer::from_certificate(&[], &[], b"").unwrap();
        assert!(peer.names().is_empty());
        assert!(Peer::from_certificate(&[&[b'a'; MAX_SPIFFE_ID_BYTES + 1]], &[], b"").is_err());
    }
}
