//! Where requests are in traces (W3C Trace Context), and what is told of them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hbone::metadata::TraceParent;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::proxy::chance::Chance;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How many spans wait to be sent. More are lost, and requests wait for nothing.
const MAX_WAITING: usize = 4096;
/// The most bytes that are kept of what a client says: a `tracestate` as a whole (W3C Trace Context
/// §3.3.1.5 asks for no more), and the beginning of any other text. Clients say whether they are traced,
/// and the spans that wait are many.
const MAX_TEXT: usize = 512;

/// What begins spans. Unless somebody collects them there are none, and trace contexts pass as they
/// are.
#[derive(Clone)]
pub(in crate::waypoint) struct Spans(Option<Arc<Collected>>);

struct Collected {
    spans: mpsc::Sender<Span>,
    /// A request without a trace context begins a trace if it draws less than this.
    sample: u64,
    chance: Chance,
}

/// The span of a request that is under way. Dropping it tells nobody.
pub(in crate::waypoint) struct Open {
    spans: mpsc::Sender<Span>,
    trace_id: u128,
    id: u64,
    parent: Option<u64>,
    tracestate: String,
    began: SystemTime,
}

/// What came of a request.
pub(in crate::waypoint) struct Ended {
    /// What kind of request it was. There should be few.
    pub(in crate::waypoint) name: String,
    /// By their names in OpenTelemetry's semantic conventions.
    pub(in crate::waypoint) attributes: Vec<(&'static str, Attribute)>,
    /// The proxy or the service has failed.
    pub(in crate::waypoint) is_failure: bool,
}

/// A fact about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::waypoint) enum Attribute {
    Text(String),
    Number(i64),
}

/// A request's part in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) trace_id: u128,
    pub(super) id: u64,
    /// `None` where the trace begins.
    pub(super) parent: Option<u64>,
    pub(super) tracestate: String,
    pub(super) name: String,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    pub(super) is_failure: bool,
}

impl Spans {
    /// Begins none.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Begins one for each request whose client traces it, and for so many percent of those without a
    /// trace context; and where they come out.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "there is nobody to collect them"))]
    pub(super) fn collected(percent: f64) -> (Self, mpsc::Receiver<Span>) {
        let (sender, spans) = mpsc::channel(MAX_WAITING);
        let collected = Collected {
            spans: sender,
            sample: (percent / 100.0 * u64::MAX as f64) as u64,
            chance: Chance::new(),
        };
        (Self(Some(Arc::new(collected))), spans)
    }

    /// Begins a request's span, if it is traced, and tells the next one so by its headers.
    pub(in crate::waypoint) fn begin(&self, headers: &mut HeaderMap, now: SystemTime) -> Option<Open> {
        let Collected { spans, sample, chance } = self.0.as_deref()?;
        let client = context(headers);
        let trace_id = match client {
            Some(client) if !client.is_sampled() => return None,
            Some(client) => client.trace_id().get(),
            None if chance.draw() >= *sample => return None,
            None => u128::from(chance.draw()) << 64 | u128::from(chance.draw()),
        };
        let own = TraceParent::new(trace_id, chance.draw()).ok()?.with_sampled(true);
        headers.insert(TRACEPARENT, HeaderValue::try_from(own.to_string()).ok()?);
        if client.is_none() {
            headers.remove(TRACESTATE);
        }
        Some(Open {
            spans: spans.clone(),
            trace_id,
            id: own.parent_id().get(),
            parent: client.map(|client| client.parent_id().get()),
            tracestate: tracestate(headers),
            began: now,
        })
    }
}

impl Open {
    /// Tells what came of the request, and how long it took.
    pub(in crate::waypoint) fn end(self, ended: Ended, took: Duration) {
        let Self {
            spans,
            trace_id,
            id,
            parent,
            tracestate,
            began,
        } = self;
        let Ended {
            name,
            mut attributes,
            is_failure,
        } = ended;
        attributes.iter_mut().for_each(|(_, attribute)| attribute.shorten());
        let span = Span {
            trace_id,
            id,
            parent,
            tracestate,
            name,
            began,
            ended: began + took,
            attributes,
            is_failure,
        };
        // What nobody takes is lost.
        spans.try_send(span).ok();
    }
}

impl Attribute {
    fn shorten(&mut self) {
        if let Self::Text(text) = self
            && text.len() > MAX_TEXT
        {
            let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.shrink_to_fit();
        }
    }
}

/// What vendors say of the trace; nothing if that is too much.
fn tracestate(headers: &HeaderMap) -> String {
    let lines = || headers.get_all(TRACESTATE).iter();
    if lines().map(HeaderValue::len).sum::<usize>() > MAX_TEXT {
        return String::new();
    }
    let states: Vec<_> = lines().filter_map(|line| line.to_str().ok()).collect();
    states.join(",")
}

/// The trace context that a client sent, if it is one (W3C Trace Context §3.2: one line, or none).
fn context(headers: &HeaderMap) -> Option<TraceParent> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?.to_str().ok()?;
    lines.next().is_none().then(|| line.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNTRACED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn headers(contexts: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for context in contexts {
            headers.append(TRACEPARENT, HeaderValue::from_static(context));
        }
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        headers
    }

    #[test]
    fn a_traced_request_is_told_on_as_this_spans_child() {
        let (spans, mut collected) = Spans::collected(0.0);
        let mut headers = headers(&[TRACED]);
        let open = spans.begin(&mut headers, START).unwrap();
        let next = context(&headers).unwrap();
        let before: TraceParent = TRACED.parse().unwrap();
        assert_eq!((next.trace_id(), next.is_sampled()), (before.trace_id(), true));
        assert_ne!(next.parent_id(), before.parent_id());
        let attributes = vec![("http.response.status_code", Attribute::Number(503))];
        let ended = Ended {
            name: "GET".into(),
            attributes: attributes.clone(),
            is_failure: true,
        };
        open.end(ended, Duration::from_secs(1));
        let span = collected.try_recv().unwrap();
        let expected = Span {
            trace_id: before.trace_id().get(),
            id: next.parent_id().get(),
            parent: Some(before.parent_id().get()),
            tracestate: "a=1,b=2".into(),
            name: "GET".into(),
            began: START,
            ended: START + Duration::from_secs(1),
            attributes,
            is_failure: true,
        };
        assert_eq!(span, expected);
    }

    #[test]
    fn spans_that_wait_keep_little_of_what_clients_say() {
        let (spans, mut collected) = Spans::collected(100.0);
        for (bytes, kept) in [(MAX_TEXT, MAX_TEXT), (MAX_TEXT + 1, 0)] {
            let mut headers = headers(&[TRACED]);
            let long = "x".repeat(bytes);
            headers.insert(TRACESTATE, HeaderValue::try_from(&long).unwrap());
            let open = spans.begin(&mut headers, START).unwrap();
            assert_eq!(headers[TRACESTATE], long, "what is passed on is whole");
            let ended = Ended {
                name: "GET".into(),
                attributes: vec![("url.path", Attribute::Text("é".repeat(bytes)))],
                is_failure: false,
            };
            open.end(ended, Duration::ZERO);
            let span = collected.try_recv().unwrap();
            assert_eq!(span.tracestate.len(), kept);
            assert_eq!(
                span.attributes,
                [("url.path", Attribute::Text("é".repeat(MAX_TEXT / 2)))]
            );
        }
    }

    #[test]
    fn what_is_not_traced_passes_as_it_is() {
        let (spans, _collected) = Spans::collected(0.0);
        for (spans, contexts) in [
            (&Spans::none(), &[TRACED][..]),
            (&Spans::none(), &[]),
            (&spans, &[UNTRACED]),
            (&spans, &[]),
            (&spans, &["00-nonsense"]),
        ] {
            let mut told = headers(contexts);
            assert!(spans.begin(&mut told, START).is_none(), "{contexts:?}");
            assert_eq!(told, headers(contexts));
        }
    }

    #[test]
    fn requests_without_a_context_begin_traces_by_chance() {
        let (spans, _collected) = Spans::collected(100.0);
        for contexts in [&[][..], &["00-nonsense"], &[TRACED, UNTRACED]] {
            let mut told = headers(contexts);
            let open = spans.begin(&mut told, START).unwrap();
            assert!(open.parent.is_none() && open.tracestate.is_empty());
            assert_eq!(context(&told).map(|own| own.trace_id().get()), Some(open.trace_id));
            assert!(
                !told.contains_key(TRACESTATE),
                "it belongs to a context that could not be read"
            );
        }
        let (spans, _collected) = Spans::collected(10.0);
        let begun = (0..10_000)
            .filter(|_| spans.begin(&mut HeaderMap::new(), START).is_some())
            .count();
        assert!((800..1_200).contains(&begun), "{begun}");
    }

    #[test]
    fn spans_that_nobody_takes_are_lost_and_nobody_waits() {
        let (spans, mut collected) = Spans::collected(100.0);
        for _ in 0..MAX_WAITING + 10 {
            let open = spans.begin(&mut HeaderMap::new(), START).unwrap();
            let ended = Ended {
                name: String::new(),
                attributes: Vec::new(),
                is_failure: false,
            };
            open.end(ended, Duration::ZERO);
        }
        let mut count = 0;
        while collected.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, MAX_WAITING);
    }
}
