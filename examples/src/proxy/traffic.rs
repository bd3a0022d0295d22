//! Connections as they are told: counted while they are open, logged when they end.

use std::net::SocketAddr;
use std::sync::Arc;

use hbone::CopyProgress;
use tokio::time::Instant;

use super::access_log::{AccessLog, Record, Value};
use super::labels::{Labels, Reporter, ServiceName};
use super::metrics::{Bytes, Counted, Metrics};
use super::party::Party;
use super::plain::PlainProgress;

/// Where connections are told.
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) log: AccessLog,
}

/// Who speaks to whom on a connection.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) reporter: Reporter,
    pub(crate) source: Party,
    /// Whether the source's names are its own words.
    pub(crate) is_claimed: bool,
    pub(crate) source_addr: SocketAddr,
    pub(crate) destination: Party,
    /// Where the connection goes next.
    pub(crate) destination_addr: String,
    /// What a tunnel is asked for.
    pub(crate) authority: Option<String>,
    pub(crate) service: Option<ServiceName>,
    pub(crate) is_mutual_tls: bool,
}

/// A connection that is being told.
pub(crate) struct Traffic {
    telemetry: Arc<Telemetry>,
    ends: Ends,
    counted: Arc<Counted>,
    began: Instant,
    is_told: bool,
}

/// How a connection failed.
#[derive(Clone)]
pub(crate) struct Failure {
    pub(crate) flags: &'static str,
    pub(crate) reason: String,
}

impl Failure {
    /// Of what carries the connection.
    pub(crate) fn of_connection(reason: &impl ToString) -> Self {
        Self {
            flags: "CONNECT",
            reason: reason.to_string(),
        }
    }
}

impl Telemetry {
    pub(crate) fn begin(self: &Arc<Self>, ends: Ends, bytes: impl Bytes + 'static) -> Traffic {
        let labels = Labels {
            reporter: ends.reporter,
            source: ends.source.clone().of_any_pod(),
            destination: ends.destination.clone().of_any_pod(),
            service: ends.service.clone(),
            protocol: "tcp",
            flags: "-".into(),
            is_mutual_tls: ends.is_mutual_tls,
        };
        Traffic {
            telemetry: Arc::clone(self),
            counted: self.metrics.open(labels, ends.is_claimed, Box::new(bytes)),
            ends,
            began: Instant::now(),
            is_told: false,
        }
    }
}

impl Traffic {
    /// The connection ended in order, or failed.
    pub(crate) fn end(mut self, failure: Option<Failure>) {
        self.tell(failure);
    }

    fn tell(&mut self, failure: Option<Failure>) {
        self.is_told = true;
        let flags = failure.as_ref().map(|failure| failure.flags);
        self.telemetry.metrics.close(&self.counted, flags);
        self.telemetry.log.write(&self.record(failure));
    }

    fn record(&self, failure: Option<Failure>) -> Record {
        let Ends {
            source, destination, ..
        } = &self.ends;
        let identity = |party: &Party| party.identity.as_ref().map(ToString::to_string).unwrap_or_default();
        // Seen from this node: what it sent on, and what it got back.
        let (direction, sent, received) = match self.ends.reporter {
            Reporter::Source => ("outbound", self.counted.received(), self.counted.sent()),
            Reporter::Destination | Reporter::Waypoint => ("inbound", self.counted.sent(), self.counted.received()),
        };
        let text = |name, value: &str| (name, Value::Text(value.to_owned()));
        let is_failure = failure.is_some();
        let mut fields = vec![
            ("src.addr", Value::Word(self.ends.source_addr.to_string())),
            text("src.workload", &source.name),
            text("src.namespace", &source.namespace),
            text("src.identity", &identity(source)),
            text("src.cluster", &source.cluster),
            ("dst.addr", Value::Word(self.ends.destination_addr.clone())),
            (
                "dst.hbone_addr",
                Value::Word(self.ends.authority.clone().unwrap_or_default()),
            ),
            text(
                "dst.service",
                self.ends.service.as_ref().map_or("", |service| &service.hostname),
            ),
            text("dst.workload", &destination.name),
            text("dst.namespace", &destination.namespace),
            text("dst.identity", &identity(destination)),
            text("dst.cluster", &destination.cluster),
            text("direction", direction),
            ("bytes_sent", Value::Number(sent)),
            ("bytes_recv", Value::Number(received)),
            text("duration", &format!("{}ms", self.began.elapsed().as_millis())),
            text("error", &failure.map(|failure| failure.reason).unwrap_or_default()),
        ];
        fields.retain(|(_, value)| !matches!(value, Value::Text(text) | Value::Word(text) if text.is_empty()));
        Record {
            subject: "connection",
            is_failure,
            fields,
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell(Some(Failure::of_connection(&"closed before its end")));
        }
    }
}

/// A tunnel's bytes, where it leads to a workload.
pub(crate) struct Inbound(pub(crate) Arc<CopyProgress>);

impl Bytes for Inbound {
    fn sent(&self) -> u64 {
        self.0.to_tunnel()
    }

    fn received(&self) -> u64 {
        self.0.to_tcp()
    }
}

/// A tunnel's bytes, where it comes from a workload.
pub(crate) struct Outbound(pub(crate) Arc<CopyProgress>);

impl Bytes for Outbound {
    fn sent(&self) -> u64 {
        self.0.to_tcp()
    }

    fn received(&self) -> u64 {
        self.0.to_tunnel()
    }
}

impl Bytes for Arc<PlainProgress> {
    fn sent(&self) -> u64 {
        self.to_client()
    }

    fn received(&self) -> u64 {
        self.to_server()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::LogFormat;

    #[test]
    fn pods_of_one_workload_share_their_series() {
        let telemetry = Arc::new(Telemetry {
            metrics: Metrics::new(),
            log: AccessLog::start(LogFormat::Off).unwrap(),
        });
        for pod in ["cart-1", "cart-2"] {
            let source = Party {
                name: pod.into(),
                workload: "cart".into(),
                ..Party::default()
            };
            let ends = Ends {
                reporter: Reporter::Source,
                source,
                is_claimed: false,
                source_addr: "10.0.0.1:1".parse().unwrap(),
                destination: Party::default(),
                destination_addr: String::new(),
                authority: None,
                service: None,
                is_mutual_tls: false,
            };
            telemetry.begin(ends, Arc::new(PlainProgress::default())).end(None);
        }
        let text = telemetry.metrics.to_text().unwrap();
        let mut lines = text
            .lines()
            .filter(|line| line.starts_with("istio_tcp_connections_closed_total{"));
        let line = lines.next().unwrap();
        assert!(line.contains("\"cart\"") && line.ends_with(" 2"), "{line}");
        assert_eq!(lines.next(), None);
    }
}
