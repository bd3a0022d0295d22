//! What the waypoint knows, for people: the services that it serves, who is behind it, and what is wrong. No keys.

use std::fmt;

use prometheus_client::encoding::text;
use serde_json::{Value, json};

use super::gateway::Gateway;
use super::snapshot::{Guard, Protection, Routes, Served};
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
            "by_address": {
                "workloads": snapshot.count_behind(),
                "policies": policies(snapshot.guard()),
                "closed": snapshot.guard().closed(),
            },
            "problems": snapshot.problems,
            "connections": self.telemetry.metrics.connections(),
        })
    }
}

fn service(served: &Served) -> Value {
    let ports = served.to.service().into_iter().flat_map(|service| service.ports.iter());
    let ports = ports.map(|mapping| {
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
    json!({
        "service": &**served.to.key(),
        "routes": ports.collect::<serde_json::Map<_, _>>(),
        "policies": policies(&served.guard),
        "closed": served.guard.closed(),
    })
}

fn policies(guard: &Guard) -> Value {
    match &guard.protection {
        Protection::Policies(set) => json!(
            set.policies()
                .map(|policy| policy.name().to_string())
                .collect::<Vec<_>>()
        ),
        Protection::Closed(_) => Value::Null,
    }
}
