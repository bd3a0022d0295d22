//! The mesh from a discovery server.

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

use super::config::Server;
use super::control_plane::{Dial, DialSetupError};
use super::view::View;
use crate::workers;

/// Bytes that a server may send ahead. The mesh comes in messages of half a mebibyte, and the next one
/// can be on its way while one is applied.
const WINDOW: u32 = 1 << 20;

/// What a discovery server is asked for.
pub(crate) struct Subscription {
    /// Who asks.
    pub(crate) node: core::Node,
    /// The types of which all is asked for.
    pub(crate) all: Vec<&'static str>,
    /// Those of which things are asked for as they are wanted.
    pub(crate) on_demand: Vec<&'static str>,
}

/// Calls a discovery server for as long as it is polled; says when what was asked for at first is
/// there, and hands out what to ask for more by.
pub(crate) fn follow(
    server: &Server,
    subscription: Subscription,
    view: impl View,
    synced: watch::Sender<bool>,
    handle: Arc<OnceLock<Handle>>,
) -> Result<workers::Driver, DialSetupError> {
    let dial = Dial::new(server)?;
    let token = server.token.clone();
    Ok(workers::Driver::new("mesh", async move {
        // The address is the connector's business; this is what the server takes itself to be called.
        let endpoint = Endpoint::from_static("http://discovery")
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let channel = endpoint.connect_with_connector_lazy(dial);
        let transport = InterceptedService::new(channel, move |mut request: Request<()>| {
            if let Some(token) = &token {
                let bearer = bearer(token).map_err(|error| Status::unauthenticated(error.to_string()))?;
                request.metadata_mut().insert("authorization", bearer);
            }
            Ok(request)
        });
        let Subscription { node, all, on_demand } = subscription;
        let config = all.iter().fold(ClientConfig::new(node), |config, url| config.all(*url));
        let config = on_demand.iter().fold(config, |config, url| config.on_demand(*url));
        let (driver, demands) = Driver::new(transport, config);
        // There is one driver, so it is the first.
        drop(handle.set(demands));
        let mut applied = Applied {
            store: Store::new(),
            view,
            awaits: all,
            synced,
        };
        driver.run(&mut applied).await;
    }))
}

/// What the server said so far.
struct Applied<V> {
    store: Store,
    view: V,
    /// The types of which nothing has come yet.
    awaits: Vec<&'static str>,
    synced: watch::Sender<bool>,
}

impl<V: View> Apply for Applied<V> {
    fn apply(&mut self, push: &Push) -> Vec<Refusal> {
        let refusals = match push.type_url() {
            ADDRESS_TYPE_URL | AUTHORIZATION_TYPE_URL => self.store.apply(push),
            _ => self.view.take(push),
        };
        for Refusal { name, reason } in &refusals {
            tracing::warn!(name, reason, "resource refused");
        }
        if !push.is_part() {
            self.awaits.retain(|awaited| *awaited != push.type_url());
        }
        // What is not known passes through, and without policies nobody would be kept out: so an early
        // connection must not see a part of the mesh.
        if self.awaits.is_empty() {
            self.view.update(self.store.snapshot());
            self.synced.send_replace(true);
        }
        refusals
    }

    fn ended(&mut self, end: &StreamEnd) {
        tracing::warn!(reason = %end, "discovery server lost; the mesh stays as it is");
        self.store.disconnected();
    }
}

/// Who asks, as istiod wants to know it.
pub(crate) fn introduction(id: String, fields: &[(&str, &str)]) -> core::Node {
    let text = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), text(value)));
    core::Node {
        id,
        metadata: Some(Struct {
            fields: fields.collect(),
        }),
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
