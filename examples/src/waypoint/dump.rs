//! What the waypoint knows, for people: the services that it serves, and what is wrong. No keys.

use std::fmt;

use prometheus_client::encoding::text;
use serde_json::{Value, json};

use super::gateway::Gateway;
use super::snapshot::{Protection, Routes, Served};
use crate::proxy::admin::Operated;

impl Operated for Gateway {
    fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        self.telemetry.metrics.encode(&mut encoded)?;
        self.requests.encode(&mut encoded)?;
        self.services.encode(&mut encoded)?;
        text::encode_eof(&mut encoded)?;
        Ok(encoded)
    }

    fn dump(&self) -> Value {
        let snapshot = self.snapshot();
        let mut services: Vec<_> = snapshot.all_served().map(|served| service(served)).collect();
        services.sort_by_cached_key(Value::to_string);
        json!({
            "identity": self.id.to_string(),
            "workloads": snapshot.mesh.workload_count(),
            "services": services,
            "problems": snapshot.problems,
            "connections": self.telemetry.metrics.connections(),
        })
    }
}

fn service(served: &Served) -> Value {
    let service = &served.service;
    let ports = service.ports.iter().map(|mapping| {
        let routes = match served.routes(mapping.service) {
            Some(Routes::Table(table)) => {
                json!(
                    table
                        .routes()
                        .iter()
                        .map(|route| route.id.to_string())
                        .collect::<Vec<_>>()
                )
            }
            Some(Routes::Broken) => json!("broken"),
            None => Value::Null,
        };
        (mapping.service.to_string(), routes)
    });
    let policies = match &served.protection {
        Protection::Policies(set) => json!(
            set.policies()
                .map(|policy| policy.name().to_string())
                .collect::<Vec<_>>()
        ),
        Protection::Closed(_) => Value::Null,
    };
    let closed = match &served.protection {
        Protection::Policies(_) => served.authenticator.as_ref().err().map(|reason| &**reason),
        Protection::Closed(reason) => Some(&**reason),
    };
    json!({
        "service": &*service.key,
        "routes": ports.collect::<serde_json::Map<_, _>>(),
        "policies": policies,
        "closed": closed,
    })
}
