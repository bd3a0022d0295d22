//! Counters, under Istio's names and with ztunnel's labels.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_identity::SpiffeId;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{Labels, Reporter};

/// Series of one counter. Connections that would need more are counted without names.
const MAX_SERIES: usize = 10_000;

/// Those of them whose names are the own words of one identity, which could think of ever new ones:
/// workloads, revisions and ways of failing that share a service account are fewer.
const MAX_CLAIMED: usize = 100;

/// What is counted of this node's connections.
pub(crate) struct Metrics {
    registry: Registry,
    opened: Family<Labels, Counter>,
    closed: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    sent: Family<Labels, Counter>,
    received: Family<Labels, Counter>,
    sockets: Family<Reporter, Gauge>,
    open: Mutex<Open>,
}

struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Counted>>,
    series: Series<Labels>,
}

/// The series that a counter has, which are no more than so many.
pub(crate) struct Series<L> {
    most: usize,
    known: HashSet<L>,
    /// How many there are by the words of each identity.
    claimed: HashMap<Option<SpiffeId>, usize>,
}

/// What tells series apart.
pub(crate) trait Named: Clone + Eq + Hash {
    fn labels(&self) -> &Labels;

    /// The same with other names.
    fn with(self, labels: Labels) -> Self;

    /// The same of nobody, which are few.
    fn unnamed(self) -> Self;
}

/// A connection that is open.
pub(crate) struct Counted {
    number: u64,
    labels: Labels,
    is_claimed: bool,
    bytes: Box<dyn Bytes>,
    sent: Reported,
    received: Reported,
}

/// Bytes that a connection has carried so far.
pub(crate) trait Bytes: Send + Sync {
    /// From the server to the client.
    fn sent(&self) -> u64;
    /// From the client to the server.
    fn received(&self) -> u64;
}

/// A counter, and how much of a connection is in it.
struct Reported {
    counter: Counter,
    bytes: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("istio");
        let mut counter = |name, help| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let opened = counter("tcp_connections_opened", "TCP connections that were opened");
        let closed = counter("tcp_connections_closed", "TCP connections that were closed");
        let failed = counter("tcp_connections_failed", "TCP connections that failed");
        let sent = counter("tcp_sent_bytes", "Bytes of responses on TCP connections");
        let received = counter("tcp_received_bytes", "Bytes of requests on TCP connections");
        let sockets = Family::default();
        registry.register("tcp_sockets_open", "TCP connections that are open", sockets.clone());
        Self {
            registry,
            opened,
            closed,
            failed,
            sent,
            received,
            sockets,
            open: Mutex::new(Open {
                next: 0,
                connections: HashMap::new(),
                series: Series::new(MAX_SERIES),
            }),
        }
    }

    /// A connection was opened. `is_claimed` says that its source's names are its own words.
    pub(crate) fn open(&self, labels: Labels, is_claimed: bool, bytes: Box<dyn Bytes>) -> Arc<Counted> {
        let labels = self.bounded(labels, is_claimed);
        self.opened.get_or_create(&labels).inc();
        self.sockets.get_or_create(&labels.reporter).inc();
        let reported = |family: &Family<Labels, Counter>| Reported {
            counter: family.get_or_create_owned(&labels),
            bytes: AtomicU64::new(0),
        };
        let mut open = self.lock();
        open.next += 1;
        let counted = Arc::new(Counted {
            number: open.next,
            bytes,
            sent: reported(&self.sent),
            received: reported(&self.received),
            labels,
            is_claimed,
        });
        open.connections.insert(counted.number, Arc::clone(&counted));
        counted
    }

    /// It was closed, with these flags if it failed.
    pub(crate) fn close(&self, counted: &Counted, flags: Option<&'static str>) {
        self.lock().connections.remove(&counted.number);
        counted.report();
        self.sockets.get_or_create(&counted.labels.reporter).dec();
        let labels = match flags {
            Some(flags) => {
                let labels = counted.labels.clone();
                self.bounded(
                    Labels {
                        flags: flags.into(),
                        ..labels
                    },
                    counted.is_claimed,
                )
            }
            None => counted.labels.clone(),
        };
        self.closed.get_or_create(&labels).inc();
        if flags.is_some() {
            self.failed.get_or_create(&labels).inc();
        }
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    /// All of it, in the text format of OpenMetrics.
    pub(crate) fn to_text(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        self.encode(&mut encoded)?;
        text::encode_eof(&mut encoded)?;
        Ok(encoded)
    }

    /// As [`to_text`](Self::to_text), for others to follow.
    pub(crate) fn encode(&self, text: &mut String) -> Result<(), fmt::Error> {
        let open: Vec<_> = self.lock().connections.values().cloned().collect();
        open.iter().for_each(|counted| counted.report());
        text::encode_registry(text, &self.registry)
    }

    fn bounded(&self, labels: Labels, is_claimed: bool) -> Labels {
        self.lock().series.bounded(labels, is_claimed)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Named> Series<L> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            known: HashSet::new(),
            claimed: HashMap::new(),
        }
    }

    pub(crate) fn has(&self, series: &L) -> bool {
        self.known.contains(series)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The series that is counted in. `is_claimed` says that the source's names are its own words.
    pub(crate) fn bounded(&mut self, of: L, is_claimed: bool) -> L {
        if self.known.contains(&of) {
            return of;
        }
        let identity = &of.labels().source.identity;
        if is_claimed && self.claimed.get(identity).is_some_and(|count| *count >= MAX_CLAIMED) {
            let labels = of.labels().clone();
            let source = labels.source.nameless();
            return self.bounded(of.with(Labels { source, ..labels }), false);
        }
        if self.known.len() >= self.most {
            return of.unnamed();
        }
        if is_claimed {
            *self.claimed.entry(identity.clone()).or_default() += 1;
        }
        self.known.insert(of.clone());
        of
    }
}

impl Named for Labels {
    fn labels(&self) -> &Labels {
        self
    }

    fn with(self, labels: Labels) -> Self {
        labels
    }

    fn unnamed(self) -> Self {
        Self::unnamed(self.reporter, self.flags)
    }
}

impl Counted {
    pub(crate) fn sent(&self) -> u64 {
        self.bytes.sent()
    }

    pub(crate) fn received(&self) -> u64 {
        self.bytes.received()
    }

    fn report(&self) {
        self.sent.report(self.bytes.sent());
        self.received.report(self.bytes.received());
    }
}

impl Reported {
    fn report(&self, bytes: u64) {
        let before = self.bytes.fetch_max(bytes, Ordering::Relaxed);
        self.counter.inc_by(bytes.saturating_sub(before));
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.visit(&mut |name, value| (name, value).encode(encoder.encode_label()))
    }
}

impl EncodeLabelSet for Reporter {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        ("reporter", self.as_str()).encode(encoder.encode_label())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    struct Fixed(u64, u64);

    impl Bytes for Fixed {
        fn sent(&self) -> u64 {
            self.0
        }

        fn received(&self) -> u64 {
            self.1
        }
    }

    fn labels(workload: &str) -> Labels {
        let mut labels = Labels::unnamed(Reporter::Destination, "-");
        labels.source.workload = workload.into();
        labels
    }

    #[test]
    fn bytes_are_counted_once_however_often_they_are_looked_at() {
        let metrics = Metrics::new();
        let counted = metrics.open(labels("cart"), false, Box::new(Fixed(7, 9)));
        let series = |name: &str| {
            let text = metrics.to_text().unwrap();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(series("istio_tcp_sent_bytes_total{"), "7");
        assert_eq!(series("istio_tcp_sockets_open{"), "1");
        metrics.close(&counted, Some("DENY"));
        assert_eq!(series("istio_tcp_received_bytes_total{"), "9");
        assert_eq!(series("istio_tcp_sockets_open{"), "0");
        let text = metrics.to_text().unwrap();
        assert!(
            text.contains("source_workload=\"cart\"") && text.contains("response_flags=\"DENY\""),
            "{text}"
        );
        assert_eq!(metrics.connections(), 0);
    }

    #[test]
    fn more_names_than_a_counter_may_have_are_counted_without() {
        let metrics = Metrics::new();
        for number in 0..MAX_SERIES + 10 {
            let mut name = String::new();
            write!(name, "{number}").unwrap();
            let counted = metrics.open(labels(&name), false, Box::new(Fixed(0, 0)));
            metrics.close(&counted, None);
        }
        let text = metrics.to_text().unwrap();
        let series = text
            .lines()
            .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"));
        let unnamed = series.clone().find(|line| line.contains("source_workload=\"unknown\""));
        assert_eq!(series.count(), MAX_SERIES + 1);
        assert!(unnamed.unwrap().ends_with(" 10"), "{unnamed:?}");
    }

    /// Whoever thinks of ever new names takes nobody else's series.
    #[test]
    fn an_identity_has_so_many_series_by_its_own_words() {
        let metrics = Metrics::new();
        let of = |account: &str, workload: &str| {
            let id = format!("spiffe://cluster.local/ns/shop/sa/{account}");
            let mut labels = labels(workload);
            labels.source.identity = Some(id.parse().unwrap());
            labels
        };
        for number in 0..MAX_CLAIMED + 10 {
            let mut name = String::new();
            write!(name, "{number}").unwrap();
            let counted = metrics.open(of("spy", &name), true, Box::new(Fixed(0, 0)));
            metrics.close(&counted, None);
        }
        metrics.open(of("cart", "claimed"), true, Box::new(Fixed(0, 0)));
        metrics.open(of("spy", "known"), false, Box::new(Fixed(0, 0)));
        let text = metrics.to_text().unwrap();
        let opened = |what: &str| {
            let lines = text
                .lines()
                .filter(|line| line.starts_with("istio_tcp_connections_opened_total{") && line.contains(what));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(opened("/sa/spy").len(), MAX_CLAIMED + 2);
        let nameless = opened("source_workload=\"unknown\"");
        assert!(
            nameless[0].contains("/sa/spy") && nameless[0].ends_with(" 10"),
            "{nameless:?}"
        );
        assert_eq!((opened("claimed").len(), opened("\"known\"").len()), (1, 1));
    }
}
