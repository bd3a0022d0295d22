use mesh_policy::traffic::balance::AffinityKey;
use mesh_policy::{ConnectionFacts, Known, PathNormalization, RequestFacts};

use super::head::Head;
use super::order::Order;
use crate::waypoint::headers::Lines;

/// Where a request belongs.
pub(super) struct Affinity {
    pub(super) hash: u64,
    /// What its client is given, so that it comes back there.
    pub(super) cookie: Option<String>,
}

impl Affinity {
    pub(super) fn of(key: &AffinityKey, head: &Head, order: &Order, random: u64) -> Option<Self> {
        let mut buffer = Vec::new();
        let target = head.target.as_str().as_bytes();
        let path = PathNormalization::None.normalize(target, &mut buffer).ok()?;
        let lines = Lines(&head.headers);
        let facts = RequestFacts::new(connection(order), head.method.as_str().as_bytes(), &lines);
        match (key.hash(&facts.path(Known::Present(path))), key) {
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

/// Where a connection belongs that is no HTTP: there is only its source to go by.
pub(super) fn of_connection(key: &AffinityKey, order: &Order) -> Option<u64> {
    key.hash(&connection(order))
}

fn connection(order: &Order) -> ConnectionFacts<'static> {
    match order.source_addr {
        Some(from) => ConnectionFacts::new().source_ip(from.ip()),
        None => ConnectionFacts::new(),
    }
}
