//! The tables that indices refer to (RFC 7541 §2.3).

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry counts for beyond its name and value (RFC 7541 §4.1, RFC 9113 §6.5.2).
pub(super) const OVERHEAD: usize = 32;

/// The dynamic table, with the static one in front.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest entry first.
    entries: VecDeque<(Bytes, Bytes)>,
    bytes: usize,
    limit: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds an entry; one that is larger than the table empties it (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: Bytes, value: Bytes) {
        self.bytes += name.len() + value.len() + OVERHEAD;
        self.entries.push_front((name, value));
        self.evict();
    }

    pub(super) fn resize(&mut self, limit: usize) {
        self.limit = limit;
        self.evict();
    }

    pub(super) fn get(&self, index: usize) -> Option<(Bytes, Bytes)> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            )),
            None => self.entries.get(index - STATIC.len()).cloned(),
        }
    }

    fn evict(&mut self) {
        while self.bytes > self.limit {
            let Some((name, value)) = self.entries.pop_back() else {
                return;
            };
            self.bytes -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// The index of the first entry of the static table with this name.
pub(super) fn static_index(name: &[u8]) -> Option<usize> {
    let at = STATIC.iter().position(|(known, _)| known.as_bytes() == name)?;
    Some(at + 1)
}

/// RFC 7541 Appendix A; the first entry has index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize) -> (Bytes, Bytes) {
        (Bytes::from(format!("n{n}")), Bytes::from(format!("v{n}")))
    }

    #[test]
    fn the_newest_entry_comes_first_and_the_oldest_goes_first() {
        let mut table = Table::new(2 * (4 + OVERHEAD));
        for n in 0..3 {
            let (name, value) = entry(n);
            table.insert(name, value);
        }
        assert_eq!(table.get(62), Some(entry(2)));
        assert_eq!(table.get(63), Some(entry(1)));
        assert_eq!(table.get(64), None);
        assert_eq!(table.get(0), None);
        table.resize(4 + OVERHEAD);
        assert_eq!((table.get(62), table.get(63)), (Some(entry(2)), None));
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(100);
        table.insert(Bytes::from_static(b"a"), Bytes::new());
        table.insert(Bytes::from(vec![b'x'; 200]), Bytes::new());
        assert_eq!((table.get(62), table.bytes), (None, 0));
    }
}
