//! The mesh from a discovery server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use mesh_xds::client::{Apply, Driver, Handle, StreamEnd};
use mesh_xds::delta::{ClientConfig, Push, Refusal};
use mesh_xds::store::Store;
use mesh_xds_types::core;
use mesh_xds_types::{ADDRESS_TYPE_URL, AUTHORIZATION_TYPE_URL};
use prost_types::{Struct, Value, value::Kind};
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use super::config::{Config, Server};
use super::control_plane::{Dial, DialSetupError};
use super::residents::Residents;
use crate::workers;

/// Calls a discovery server for as long as it is polled; says when what was asked for at first is
/// there, and hands out what to ask for more by.
pub(super) fn follow(
    config: &Config,
    server: &Server,
    residents: Residents,
    synced: watch::Sender<bool>,
    handle: Arc<OnceLock<Handle>>,
) -> Result<workers::Driver, DialSetupError> {
    let dial = Dial::new(server)?;
    let (node, is_on_demand) = (introduction(config), config.settings.on_demand);
    let token = server.token.clone();
    Ok(workers::Driver::new("mesh", async move {
        // The address is the connector's business; this is what the server takes itself to be called.
        let endpoint = Endpoint::from_static("http://discovery");
        let channel = endpoint.connect_with_connector_lazy(dial);
        let transport = InterceptedService::new(channel, move |mut request: Request<()>| {
            if let Some(token) = &token {
                let bearer = bearer(token).map_err(|error| Status::unauthenticated(error.to_string()))?;
                request.metadata_mut().insert("authorization", bearer);
            }
            Ok(request)
        });
        let config = ClientConfig::new(node).all(AUTHORIZATION_TYPE_URL);
        let config = match is_on_demand {
            true => config.on_demand(ADDRESS_TYPE_URL),
            false => config.all(ADDRESS_TYPE_URL),
        };
        let (driver, demands) = Driver::new(transport, config);
        // There is one driver, so it is the first.
        drop(handle.set(demands));
        let mut applied = Applied {
            store: Store::new(),
            residents,
            awaits: match is_on_demand {
                true => vec![AUTHORIZATION_TYPE_URL],
                false => vec![AUTHORIZATION_TYPE_URL, ADDRESS_TYPE_URL],
            },
            synced,
        };
        driver.run(&mut applied).await;
    }))
}

/// What the server said so far.
struct Applied {
    store: Store,
    residents: Residents,
    /// The types of which nothing has come yet.
    awaits: Vec<&'static str>,
    synced: watch::Sender<bool>,
}

impl Apply for Applied {
    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let refusals = self.store.apply(push);
        for Refusal { name, reason } in &refusals {
            tracing::warn!(name, reason, "resource refused");
        }
        if !push.is_part() {
            self.awaits.retain(|awaited| *awaited != push.type_url());
        }
        // What is not known passes through, and without policies nobody would be kept out: so an early
        // connection must not see a part of the mesh.
        if self.awaits.is_empty() {
            self.residents.update(self.store.snapshot());
            self.synced.send_replace(true);
        }
        refusals
    }

    fn ended(&mut self, end: &StreamEnd) {
        tracing::warn!(reason = %end, "discovery server lost; the mesh stays as it is");
    }
}

/// Who asks, as istiod wants to know it.
fn introduction(config: &Config) -> core::Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = BTreeMap::from([
        ("NODE_NAME".to_owned(), text(&config.node)),
        ("CLUSTER_ID".to_owned(), text(&config.settings.cluster)),
    ]);
    core::Node {
        id: format!("ztunnel~0.0.0.0~{}.node~node.svc.cluster.local", config.node),
        metadata: Some(Struct { fields }),
        ..core::Node::default()
    }
}

/// The token of the moment.
fn bearer(file: &Path) -> io::Result<MetadataValue<Ascii>> {
    let token = fs::read_to_string(file)?;
    let mut bearer: MetadataValue<Ascii> = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
