use hyper::HeaderMap;
use mesh_policy::traffic::balance::AffinityKey;
use mesh_policy::{ConnectionFacts, Headers, Known, PathNormalization, RequestFacts};

use super::head::Head;
use super::order::Order;

/// Where a request belongs.
pub(super) struct Affinity {
    pub(super) hash: u64,
    /// What its client is given, so that it comes back there.
    pub(super) cookie: Option<String>,
}

impl Affinity {
    pub(super) fn of(key: &AffinityKey, head: &Head, order: &Order, random: u64) -> Option<Self> {
        let connection = match order.source_addr {
            Some(from) => ConnectionFacts::new().source_ip(from.ip()),
            None => ConnectionFacts::new(),
        };
        let mut buffer = Vec::new();
        let target = head.target.as_str().as_bytes();
        let path = PathNormalization::None.normalize(target, &mut buffer).ok()?;
        let lines = Lines(&head.headers);
        let facts = RequestFacts::new(connection, head.method.as_str().as_bytes(), &lines).path(Known::Present(path));
        match (key.hash(&facts), key) {
            (Some(hash), _) => Some(Self { hash, cookie: None }),
            (None, AffinityKey::Cookie(cookie)) => {
                let (hash, line) = cookie.give(random)?;
                let cookie = Some(line);
                Some(Self { hash, cookie })
            }
            (None, _) => None,
        }
    }
}

struct Lines<'a>(&'a HeaderMap);

impl Headers for Lines<'_> {
    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let lines = self.0.get_all(name).iter();
        lines.map(|value| value.as_bytes().trim_ascii()).any(test)
    }
}
