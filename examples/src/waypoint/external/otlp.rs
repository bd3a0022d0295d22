//! Spans, sent to a collector by OTLP over gRPC.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::caller::{Called, MAX_ANSWER};
use super::spans::{self, Attribute};

/// The most spans of a call.
const MAX_BATCH: usize = 512;
/// How long spans wait for others to be sent with.
const DELAY: Duration = Duration::from_secs(1);
/// The trace flag that says a trace is recorded (W3C Trace Context §3.2.2.5.1).
const SAMPLED: u32 = 1;

/// Sends spans for as long as it is polled. Those of a call that fails are lost.
pub(super) async fn export(called: Called, service: String, mut spans: mpsc::Receiver<spans::Span>) -> Infallible {
    let caller = called.caller();
    while let Some(first) = spans.recv().await {
        if spans.len() < MAX_BATCH {
            sleep(DELAY).await;
        }
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        let sending = async |channel, batch| {
            let mut client = TraceServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.export(batch).await
        };
        // The caller tells of failures.
        caller.call(message(batch, &service), sending, taken).await.ok();
    }
    // Nobody begins spans any more.
    std::future::pending().await
}

fn taken(answer: ExportTraceServiceResponse) -> Result<(), Rejected> {
    match answer.partial_success {
        Some(partial) if partial.rejected_spans > 0 => Err(Rejected {
            count: partial.rejected_spans,
        }),
        _ => Ok(()),
    }
}

/// The collector does not take all spans.
#[derive(Debug, thiserror::Error)]
#[error("{count} spans are not taken")]
struct Rejected {
    count: i64,
}

fn message(batch: Vec<spans::Span>, service: &str) -> ExportTraceServiceRequest {
    let name = KeyValue {
        key: "service.name".to_owned(),
        value: Some(value(Attribute::Text(service.to_owned()))),
        ..KeyValue::default()
    };
    let spans = ScopeSpans {
        scope: Some(InstrumentationScope {
            name: "waypoint".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        }),
        spans: batch.into_iter().map(told).collect(),
        ..ScopeSpans::default()
    };
    let spans = ResourceSpans {
        resource: Some(Resource {
            attributes: vec![name],
            ..Resource::default()
        }),
        scope_spans: vec![spans],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![spans],
    }
}

fn told(span: spans::Span) -> Span {
    let attributes = span.attributes.into_iter().map(|(key, attribute)| KeyValue {
        key: key.to_owned(),
        value: Some(value(attribute)),
        ..KeyValue::default()
    });
    Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: span.tracestate,
        flags: SAMPLED,
        name: span.name,
        kind: span::SpanKind::Server.into(),
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes.collect(),
        status: span.is_failure.then(|| Status {
            code: status::StatusCode::Error.into(),
            ..Status::default()
        }),
        ..Span::default()
    }
}

fn value(attribute: Attribute) -> AnyValue {
    let value = match attribute {
        Attribute::Text(text) => any_value::Value::StringValue(text),
        Attribute::Number(number) => any_value::Value::IntValue(number),
    };
    AnyValue { value: Some(value) }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use tokio::task::JoinSet;

    use super::super::spans::{Ended, Spans};
    use super::super::{config, fake};
    use super::*;

    fn span() -> spans::Span {
        spans::Span {
            trace_id: 0x0102,
            id: 3,
            parent: Some(4),
            tracestate: "a=1".into(),
            name: "GET /items".into(),
            began: SystemTime::UNIX_EPOCH + Duration::from_nanos(5),
            ended: SystemTime::UNIX_EPOCH + Duration::from_nanos(6),
            attributes: vec![
                ("http.request.method", Attribute::Text("GET".into())),
                ("http.response.status_code", Attribute::Number(503)),
            ],
            is_failure: true,
        }
    }

    #[test]
    fn a_span_is_told_with_its_place_and_what_came_of_it() {
        let root = spans::Span {
            parent: None,
            is_failure: false,
            attributes: Vec::new(),
            ..span()
        };
        let request = message(vec![span(), root], "waypoint.shop");
        let [spans] = request.resource_spans.try_into().unwrap();
        let attributes = |attributes: &[KeyValue]| {
            let shown = attributes.iter().map(|KeyValue { key, value, .. }| {
                let value = value.as_ref().and_then(|value| value.value.as_ref());
                match value {
                    Some(any_value::Value::StringValue(text)) => format!("{key}={text}"),
                    Some(any_value::Value::IntValue(number)) => format!("{key}={number}"),
                    other => panic!("{other:?}"),
                }
            });
            shown.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            attributes(&spans.resource.unwrap().attributes),
            "service.name=waypoint.shop"
        );
        let [told, root] = <[Span; 2]>::try_from(spans.scope_spans.into_iter().next().unwrap().spans).unwrap();
        assert_eq!(told.trace_id, [[0; 14].as_slice(), &[1, 2]].concat());
        assert_eq!(
            (told.span_id, told.parent_span_id),
            (vec![0, 0, 0, 0, 0, 0, 0, 3], vec![0, 0, 0, 0, 0, 0, 0, 4])
        );
        assert_eq!((told.start_time_unix_nano, told.end_time_unix_nano), (5, 6));
        assert_eq!(
            (told.name.as_str(), told.trace_state.as_str(), told.kind),
            ("GET /items", "a=1", 2)
        );
        assert_eq!(
            attributes(&told.attributes),
            "http.request.method=GET http.response.status_code=503"
        );
        assert_eq!(told.status.map(|status| status.code), Some(2));
        assert!(root.parent_span_id.is_empty() && root.status.is_none());
    }

    #[test]
    fn spans_that_the_collector_does_not_take_are_told_of() {
        let said = |rejected_spans| ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans,
                ..ExportTracePartialSuccess::default()
            }),
        };
        assert!(taken(ExportTraceServiceResponse::default()).is_ok() && taken(said(0)).is_ok());
        assert_eq!(taken(said(2)).unwrap_err().to_string(), "2 spans are not taken");
    }

    #[tokio::test]
    async fn spans_reach_the_collector_together() {
        let (came, mut coming) = mpsc::unbounded_channel();
        let fake = fake::collector(move |batch: ExportTraceServiceRequest| {
            came.send(batch).unwrap();
            async { Ok(ExportTraceServiceResponse::default()) }
        })
        .await;
        let server: config::Traces = toml::from_str(&format!("server = {{ address = '{}' }}", fake.addr)).unwrap();
        let called = Called::new("traces", server.server, Duration::from_secs(60), 1).unwrap();
        let (spans, collected) = Spans::collected(100.0);
        for _ in 0..=MAX_BATCH {
            let open = spans.begin(&mut HeaderMap::new(), SystemTime::UNIX_EPOCH).unwrap();
            let ended = Ended {
                name: String::new(),
                attributes: Vec::new(),
                is_failure: false,
            };
            open.end(ended, Duration::ZERO);
        }
        let mut exporting = JoinSet::new();
        exporting.spawn(async {
            export(called, "waypoint".to_owned(), collected).await;
        });
        let batch = coming.recv().await.unwrap();
        assert_eq!(batch.resource_spans[0].scope_spans[0].spans.len(), MAX_BATCH);
    }
}
