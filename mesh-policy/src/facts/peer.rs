use std::ops::Range;

use mesh_identity::{MAX_SPIFFE_ID_BYTES, SpiffeId};
use thiserror::Error;

use crate::fingerprint;

const SCHEME: &[u8] = b"spiffe://";

/// Where a namespace would start behind an empty trust domain.
const LEAST_START: usize = SCHEME.len() + b"/ns/".len();

/// So many names a certificate may have: as many as public authorities put into one.
const MAX_NAMES: usize = 256;

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
    /// A name longer than a SPIFFE ID may be, or more than 256 names.
    pub fn from_certificate(uris: &[&[u8]], dns: &[&[u8]], subject: &[u8]) -> Result<Self, PeerError> {
        let all = uris.iter().chain(dns).chain([&subject]);
        let count = all.clone().filter(|name| !name.is_empty()).count();
        if count > MAX_NAMES {
            return Err(PeerError::TooManyNames { names: count });
        }
        let mut names = Vec::with_capacity(count);
        for name in all {
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
    /// What stands behind `/sa/`, each text once, where it occurs last.
    accounts: Vec<Part>,
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

    /// Of each namespace together with each account behind it, for accounts whose own fingerprint is
    /// sought. There may be as many of these as the square of what the name holds.
    pub(crate) fn account_fingerprints(&self, is_sought: impl Fn(u64) -> bool) -> impl Iterator<Item = u64> {
        let accounts = self
            .accounts
            .iter()
            .filter(move |account| is_sought(account.fingerprint));
        accounts.flat_map(|account| {
            self.namespaces_before(account)
                .map(|namespace| fingerprint::pair(namespace.fingerprint, account.fingerprint))
        })
    }

    /// Whether `/ns/NAMESPACE/` occurs in the name.
    pub(crate) fn mentions_namespace(&self, namespace: &[u8]) -> bool {
        self.namespaces.iter().any(|part| self.part(part) == namespace)
    }

    /// Whether the namespace occurs and the service account behind it, with anything in between.
    pub(crate) fn mentions_account(&self, namespace: &[u8], account: &[u8]) -> bool {
        let mut accounts = self.accounts.iter().filter(|part| self.part(part) == account);
        accounts.any(|account| self.namespaces_before(account).any(|part| self.part(part) == namespace))
    }

    /// The namespaces with which an account counts.
    fn namespaces_before(&self, account: &Part) -> impl Iterator<Item = &Part> {
        let mark = account.range.start.saturating_sub(b"/sa/".len());
        self.namespaces.iter().filter(move |namespace| {
            // Before a namespace the trust domain has at least one byte, wherever it ends, and
            // between the slashes of the two stands nothing at all or at least one byte.
            let end = namespace.range.end;
            namespace.range.start > LEAST_START && end <= mark && end + 1 != mark
        })
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
        if self.principal().is_some() {
            self.accounts = self.find_accounts();
        }
    }

    fn find_accounts(&self) -> Vec<Part> {
        let accounts = starts(&self.text, b"/sa/").filter_map(|start| {
            let end = next_slash(&self.text, start).unwrap_or(self.text.len());
            // A slash behind the account is not the end.
            (end + 1 != self.text.len()).then(|| self.part_at(start..end))
        });
        let mut accounts: Vec<_> = accounts.collect();
        // Whatever stands before an earlier one stands before the last.
        accounts.sort_by(|one, other| self.part(one).cmp(self.part(other)));
        accounts.dedup_by(|later, kept| {
            let is_same = self.part(later) == self.part(kept);
            if is_same {
                kept.clone_from(later);
            }
            is_same
        });
        accounts
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
    /// There are too many names.
    #[error("the peer has {names} names, more than {MAX_NAMES}")]
    TooManyNames {
        /// How many there are.
        names: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn what_is_kept_of_a_name_grows_as_the_name() {
        let crowded = format!("spiffe://td{}{}", "/ns".repeat(339), "/sa".repeat(339));
        let crowded = name(&crowded);
        assert!(crowded.namespaces.len() + crowded.accounts.len() <= MAX_SPIFFE_ID_BYTES / 3);
        assert!(crowded.mentions_account(b"ns", b"sa") && !crowded.mentions_account(b"sa", b"ns"));
    }

    #[test]
    fn a_certificate_has_so_many_names() {
        let names = vec![&b"a.example"[..]; MAX_NAMES];
        assert!(Peer::from_certificate(&[], &names, b"").is_ok());
        let error = Peer::from_certificate(&[], &names, b"CN=x").unwrap_err();
        assert_eq!(error.to_string(), "the peer has 257 names, more than 256");
    }

    /// `spiffe://.+/ns/NAMESPACE/(.+/|)sa/ACCOUNT(/.+)?`, which istiod has Envoy match the whole of.
    fn is_match(text: &[u8], namespace: &[u8], account: &[u8]) -> bool {
        let Some(text) = text.strip_prefix(SCHEME) else {
            return false;
        };
        let namespace = [b"/ns/", namespace, b"/"].concat();
        let account = [b"sa/", account].concat();
        (1..text.len()).any(|at| {
            let Some(rest) = text[at..].strip_prefix(&*namespace) else {
                return false;
            };
            (0..rest.len()).any(|at| {
                let (between, rest) = rest.split_at(at);
                let behind = rest.strip_prefix(&*account);
                (between.is_empty() || (between.len() > 1 && between.ends_with(b"/")))
                    && behind.is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with(b"/")))
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn accounts_are_found_where_envoy_finds_them(
            domain in "(td)?",
            path in "(/|/ns/|/sa/|//sa/|ns/|sa/|ns|sa|a|/a|b/){0,14}",
            namespace in "ns|sa|a|b",
            account in "ns|sa|a|b",
        ) {
            let text = format!("spiffe://{domain}{path}");
            let (namespace, account) = (namespace.as_bytes(), account.as_bytes());
            let found = is_match(text.as_bytes(), namespace, account);
            let name = name(&text);
            prop_assert_eq!(name.mentions_account(namespace, account), found);
            let key = fingerprint::pair(fingerprint::of(namespace), fingerprint::of(account));
            let sought = fingerprint::of(account);
            let mut keys = name.account_fingerprints(|account| account == sought);
            prop_assert_eq!(keys.any(|other| other == key), found);
        }
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
