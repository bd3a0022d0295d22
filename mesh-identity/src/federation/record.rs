use std::sync::Arc;

use thiserror::Error;

use crate::bundle::document::BundleDocument;

/// The bundle of one trust domain as it is known here.
#[derive(Default)]
pub(super) struct Record {
    document: Option<Arc<BundleDocument>>,
    /// The highest sequence number that was ever taken: a bundle without one does not open the way
    /// back to older ones.
    highest: Option<u64>,
}

impl Record {
    /// Begins with what was stored, unless what was configured is newer by its sequence number.
    pub(super) fn new(configured: Option<BundleDocument>, stored: Option<BundleDocument>) -> Self {
        let mut record = Self::default();
        for document in [stored, configured].into_iter().flatten() {
            let newer = record.document.is_none() || document.sequence() > record.highest;
            if newer {
                record.put(document);
            }
        }
        record
    }

    pub(super) fn document(&self) -> Option<&Arc<BundleDocument>> {
        self.document.as_ref()
    }

    /// Takes a bundle that was fetched, unless it is the one that is here. Answers whether it was
    /// taken.
    pub(super) fn take(&mut self, document: BundleDocument) -> Result<bool, StaleBundle> {
        if self.document.as_deref() == Some(&document) {
            return Ok(false);
        }
        if let (Some(offered), Some(highest)) = (document.sequence(), self.highest)
            && offered <= highest
        {
            return Err(StaleBundle { offered, highest });
        }
        self.put(document);
        Ok(true)
    }

    fn put(&mut self, document: BundleDocument) {
        self.highest = self.highest.max(document.sequence());
        self.document = Some(Arc::new(document));
    }
}

/// A bundle that is older than one that was seen, or changed without a new sequence number (SPIFFE
/// Trust Domain and Bundle §4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bundle is changed and has sequence number {offered}, and {highest} was seen before")]
pub struct StaleBundle {
    offered: u64,
    highest: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A bundle told from others of the same sequence number by its hint.
    fn bundle(sequence: Option<u64>, hint: u64) -> BundleDocument {
        let trust_domain = "a.example".parse().unwrap();
        let document = BundleDocument::new(trust_domain, [], [])
            .unwrap()
            .with_refresh_hint(Duration::from_secs(hint));
        match sequence {
            Some(sequence) => document.with_sequence(sequence),
            None => document,
        }
    }

    fn hint(record: &Record) -> u64 {
        record.document().unwrap().refresh_hint().unwrap().as_secs()
    }

    #[test]
    fn sequence_numbers_never_go_back() {
        let mut record = Record::default();
        assert_eq!(record.take(bundle(Some(5), 1)), Ok(true));
        assert_eq!(record.take(bundle(Some(5), 1)), Ok(false));
        let stale = |offered| Err(StaleBundle { offered, highest: 5 });
        assert_eq!(record.take(bundle(Some(5), 2)), stale(5));
        assert_eq!(record.take(bundle(Some(4), 1)), stale(4));
        assert_eq!(hint(&record), 1);
        assert_eq!(record.take(bundle(None, 3)), Ok(true));
        assert_eq!(record.take(bundle(Some(3), 4)), stale(3));
        assert_eq!(hint(&record), 3);
        assert_eq!(record.take(bundle(Some(u64::MAX), 4)), Ok(true));
    }

    #[test]
    fn what_was_stored_counts_unless_the_configured_one_is_newer() {
        for (configured, stored, winner) in [
            (Some(2), Some(1), 1),
            (Some(2), Some(2), 2),
            (Some(1), Some(2), 2),
            (None, Some(2), 2),
            (None, None, 2),
            (Some(1), None, 1),
        ] {
            let record = Record::new(Some(bundle(configured, 1)), Some(bundle(stored, 2)));
            assert_eq!(hint(&record), winner, "{configured:?} {stored:?}");
        }
        assert_eq!(hint(&Record::new(Some(bundle(None, 1)), None)), 1);
        assert!(Record::new(None, None).document().is_none());
    }
}
