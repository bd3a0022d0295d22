//! Requests as they are counted.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::proxy::labels::{Labels, Reporter, ServiceName};
use crate::proxy::metrics::{Named, Series};

/// Series of one counter. Requests that would need more are counted without names.
const MAX_SERIES: usize = 2_000;

/// Those of them that one service may have by answers that are unusual, or one workload that is asked for
/// by itself: whoever answers could think of ever new ones.
const MAX_UNUSUAL: usize = 100;

/// What is usual without gRPC, where there is an answer.
const USUAL: [u16; 26] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409, 412, 422, 429, 500, 501,
    502, 503, 504,
];

/// The last status of gRPC, and the one for what is none.
const MAX_GRPC_STATUS: u32 = 16;
const UNKNOWN: u32 = 2;

/// Upper bounds of what is counted together: milliseconds, and bytes.
const DURATIONS: [f64; 16] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0,
    300_000.0,
];
const SIZES: [f64; 9] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/// What is counted of requests, by Istio's names.
pub(super) struct Requests {
    registry: Registry,
    total: Family<RequestLabels, Counter>,
    duration: Histograms,
    received: Histograms,
    sent: Histograms,
    known: Mutex<Known>,
}

/// The series that there are.
struct Known {
    series: Series<RequestLabels>,
    /// How many of them there are by unusual answers of each.
    unusual: HashMap<Asked, usize>,
}

/// Whom requests are for.
#[derive(PartialEq, Eq, Hash)]
enum Asked {
    Service(ServiceName),
    Workload { namespace: Arc<str>, workload: Arc<str> },
}

type Histograms = Family<RequestLabels, Histogram, fn() -> Histogram>;

/// What tells series apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestLabels {
    pub(super) labels: Labels,
    pub(super) status: Status,
    pub(super) grpc_status: Option<u32>,
}

/// What an answer's status is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Status {
    /// The status itself; 0 where there is no answer.
    Of(u16),
    /// Any that begins so. Nothing is counted as a status that it was not.
    Like(u16),
}

/// What is known of a request at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measures {
    pub(super) duration: Duration,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Requests {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("istio");
        let total = Family::default();
        registry.register("requests", "Requests", total.clone());
        let mut histogram = |name, help, make: fn() -> Histogram| {
            let family: Histograms = Family::new_with_constructor(make);
            registry.register(name, help, family.clone());
            family
        };
        let duration = histogram(
            "request_duration_milliseconds",
            "Time from request to end of answer",
            || Histogram::new(DURATIONS),
        );
        let received = histogram("request_bytes", "Bytes of requests' contents", || Histogram::new(SIZES));
        let sent = histogram("response_bytes", "Bytes of answers' contents", || Histogram::new(SIZES));
        Self {
            registry,
            total,
            duration,
            received,
            sent,
            known: Mutex::new(Known {
                series: Series::new(MAX_SERIES),
                unusual: HashMap::new(),
            }),
        }
    }

    /// A request has ended. `is_claimed` says that its source's names are its own words.
    pub(super) fn count(&self, labels: RequestLabels, is_claimed: bool, measures: Measures) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = known.bounded(labels.of_known_statuses(), is_claimed);
        drop(known);
        self.total.get_or_create(&labels).inc();
        for (family, value) in [
            (&self.duration, measures.duration.as_secs_f64() * 1e3),
            (&self.received, measures.received as f64),
            (&self.sent, measures.sent as f64),
        ] {
            family.get_or_create(&labels).observe(value);
        }
    }

    /// All of it, in the text format of OpenMetrics, without its end.
    pub(super) fn encode(&self, text: &mut String) -> Result<(), fmt::Error> {
        text::encode_registry(text, &self.registry)
    }
}

impl Known {
    /// The series that is counted in.
    fn bounded(&mut self, of: RequestLabels, is_claimed: bool) -> RequestLabels {
        if of.is_usual() || self.series.has(&of) {
            return self.series.bounded(of, is_claimed);
        }
        let asked = Asked::of(&of.labels);
        if self.unusual.get(&asked).is_some_and(|count| *count >= MAX_UNUSUAL) {
            return self.series.bounded(of.of_any_status(), is_claimed);
        }
        let before = self.series.len();
        let bounded = self.series.bounded(of, is_claimed);
        if self.series.len() > before {
            *self.unusual.entry(asked).or_default() += 1;
        }
        bounded
    }
}

impl Asked {
    fn of(labels: &Labels) -> Self {
        match &labels.service {
            Some(service) => Self::Service(service.clone()),
            None => Self::Workload {
                namespace: Arc::clone(&labels.destination.namespace),
                workload: Arc::clone(&labels.destination.workload),
            },
        }
    }
}

impl RequestLabels {
    fn is_usual(&self) -> bool {
        match (self.status, self.grpc_status) {
            (Status::Of(status), Some(_)) => status == 200,
            (Status::Of(status), None) => status == 0 || USUAL.contains(&status),
            (Status::Like(_), _) => true,
        }
    }

    /// The same, of all statuses that are alike.
    fn of_any_status(self) -> Self {
        Self {
            status: self.status.alike(),
            grpc_status: None,
            ..self
        }
    }

    /// Whoever answers could think of ever new statuses: what is none counts as the one that says so
    /// little, as for clients of gRPC.
    fn of_known_statuses(self) -> Self {
        Self {
            status: self.status.known(),
            grpc_status: self
                .grpc_status
                .map(|status| if status <= MAX_GRPC_STATUS { status } else { UNKNOWN }),
            ..self
        }
    }
}

impl Status {
    fn alike(self) -> Self {
        match self {
            Self::Of(status) if status >= 100 => Self::Like(status / 100),
            _ => self,
        }
    }

    fn known(self) -> Self {
        match self {
            Self::Of(0 | 100..600) | Self::Like(_) => self,
            Self::Of(_) => Self::Of(600),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(status) => write!(f, "{status}"),
            Self::Like(begin) => write!(f, "{begin}xx"),
        }
    }
}

impl Named for RequestLabels {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn with(self, labels: Labels) -> Self {
        Self { labels, ..self }
    }

    fn unnamed(self) -> Self {
        Self {
            labels: Labels {
                protocol: self.labels.protocol,
                ..Labels::unnamed(Reporter::Waypoint, "-")
            },
            ..self.of_any_status()
        }
    }
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), fmt::Error> {
        self.labels
            .visit(&mut |name, value| (name, value).encode(encoder.encode_label()))?;
        ("response_code", &*self.status.to_string()).encode(encoder.encode_label())?;
        let grpc = self.grpc_status.map(|status| status.to_string());
        ("grpc_response_status", grpc.as_deref().unwrap_or_default()).encode(encoder.encode_label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Measures = Measures {
        duration: Duration::from_millis(3),
        received: 0,
        sent: 7,
    };

    /// The lines of the counter.
    fn series(requests: &Requests) -> Vec<String> {
        let mut text = String::new();
        requests.encode(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
        lines.map(str::to_owned).collect()
    }

    fn answered(service: &str, status: u16, grpc_status: Option<u32>) -> RequestLabels {
        let mut labels = Labels::unnamed(Reporter::Waypoint, "-");
        labels.service = Some(ServiceName {
            hostname: service.into(),
            name: service.into(),
            namespace: "shop".into(),
        });
        RequestLabels {
            labels,
            status: Status::Of(status),
            grpc_status,
        }
    }

    #[test]
    fn endpoints_cannot_take_all_memory() {
        let requests = Requests::new();
        for number in 0..MAX_SERIES + 50 {
            requests.count(answered(&format!("s{number}"), 200, None), false, NOTHING);
        }
        let series = series(&requests);
        assert!(series.len() <= MAX_SERIES + 4, "{}", series.len());
        assert!(series[0].contains("reporter=\"waypoint\""));
    }

    #[test]
    fn an_endpoint_of_many_answers_takes_nobodys_series() {
        let requests = Requests::new();
        let codes = || [None].into_iter().chain((0..30).map(Some));
        for status in 0..=999 {
            for code in codes() {
                requests.count(answered("spy", status, code), false, NOTHING);
            }
        }
        let of_spy = series(&requests).len();
        assert!(of_spy <= USUAL.len() + 1 + 17 + MAX_UNUSUAL + 7, "{of_spy}");
        for code in codes() {
            requests.count(answered("cart", 200, code), false, NOTHING);
        }
        requests.count(answered("cart", 418, None), false, NOTHING);
        let series = series(&requests);
        let of_cart = |what: &str| {
            let found = series
                .iter()
                .find(|line| line.contains("\"cart\"") && line.contains(what));
            found.map(|line| line.rsplit(' ').next().unwrap())
        };
        assert_eq!(of_cart("response_code=\"418\""), Some("1"));
        assert_eq!(of_cart("grpc_response_status=\"16\""), Some("1"));
        assert_eq!(of_cart("grpc_response_status=\"2\""), Some("14"));
    }

    /// That a service has many unusual answers need not be malice.
    #[test]
    fn nothing_is_counted_as_a_status_that_it_was_not() {
        let requests = Requests::new();
        for status in [400, 500] {
            requests.count(answered("cart", status, None), false, NOTHING);
        }
        for status in (410..600).filter(|status| !USUAL.contains(status)) {
            requests.count(answered("cart", status, None), false, NOTHING);
        }
        let series = series(&requests);
        let counted = |code: &str| {
            let code = format!("response_code=\"{code}\"");
            let found = series.iter().find(|line| line.contains(&code));
            found.map(|line| line.rsplit(' ').next().unwrap())
        };
        assert_eq!((counted("400"), counted("500")), (Some("1"), Some("1")));
        assert_eq!((counted("418"), counted("599")), (Some("1"), None));
        assert!(counted("5xx").is_some(), "{series:?}");
    }

    #[test]
    fn a_workload_of_many_answers_takes_no_other_workloads_series() {
        let requests = Requests::new();
        let count = |workload: &str, status: u16| {
            let mut labels = answered("", status, None);
            labels.labels.service = None;
            labels.labels.destination.workload = workload.into();
            labels.labels.destination.namespace = "shop".into();
            requests.count(labels, false, NOTHING);
        };
        (100..600).for_each(|status| count("spy", status));
        count("cart", 418);
        let series = series(&requests);
        let is_of_cart = |line: &&String| line.contains("destination_workload=\"cart\"");
        let of_cart = series.iter().find(is_of_cart).unwrap();
        assert!(of_cart.contains("response_code=\"418\""), "{of_cart}");
    }

    /// Whoever thinks of ever new names takes nobody else's series.
    #[test]
    fn a_client_has_so_many_series_by_its_own_words() {
        let requests = Requests::new();
        let count = |account: &str, workload: &str, is_claimed: bool| {
            let id = format!("spiffe://cluster.local/ns/shop/sa/{account}");
            let mut labels = Labels::unnamed(Reporter::Waypoint, "-");
            labels.source.identity = Some(id.parse().unwrap());
            labels.source.workload = workload.into();
            let labels = RequestLabels {
                labels,
                status: Status::Of(200),
                grpc_status: None,
            };
            requests.count(labels, is_claimed, NOTHING);
        };
        for number in 0..MAX_SERIES + 10 {
            count("spy", &format!("w{number}"), true);
        }
        count("cart", "cart", false);
        let series = series(&requests);
        let of = |what: &str| series.iter().filter(|line| line.contains(what)).count();
        assert!(of("/sa/spy") < MAX_SERIES / 10, "{}", of("/sa/spy"));
        assert_eq!(of("source_workload=\"cart\""), 1);
    }

    /// Whoever answers has no more series than there are statuses.
    #[test]
    fn statuses_that_there_are_not_share_a_series() {
        let of = |status, grpc_status| RequestLabels {
            labels: Labels::unnamed(Reporter::Waypoint, "-"),
            status: Status::Of(status),
            grpc_status,
        };
        assert_eq!(of(601, None).of_known_statuses(), of(999, None).of_known_statuses());
        assert_eq!(of(200, Some(17)).of_known_statuses(), of(200, Some(2)));
        assert_eq!(of(404, Some(16)).of_known_statuses(), of(404, Some(16)));
    }
}
