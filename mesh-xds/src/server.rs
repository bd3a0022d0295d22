//! The protocol's server over gRPC.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{Stream, stream};
use mesh_xds_types::core::Node;
use mesh_xds_types::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::watch;
use tokio::time::sleep_until;
use tonic::{Request, Response, Status, Streaming};

use crate::delta::{ClientId, Heard, Published, Server, Standing};

/// Bytes of one request. The first one of a client that comes back names all that it has.
const MAX_REQUEST: usize = 200 << 20;

/// How long a client may keep a stream open before it asks for something.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A [`Server`] that tonic can serve. Copies are the same server.
///
/// It starts no task: each stream is driven by whoever polls the response to it.
#[derive(Clone)]
pub struct Discovery {
    shared: Arc<Shared>,
}

struct Shared {
    server: Mutex<Server>,
    /// Changes when what is published does.
    published: watch::Sender<()>,
    observer: Box<dyn Fn(Event<'_>) + Send + Sync>,
}

/// Whom a client belongs to, of those that [`Discovery::publish_to`] knows. Whoever serves puts it
/// into the extensions of a request, once it is known who sent that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(Arc<str>);

impl Audience {
    /// An audience by its name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }
}

/// A client of a [`Discovery`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Connected {
    /// The stream.
    pub id: ClientId,
    /// Who it says it is; `None` before its first request.
    pub node: Option<Node>,
    /// How far it is with each type that it has asked for.
    pub standings: Vec<Standing>,
}

/// What the operator of a server may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client refused resources.
    Refused {
        /// The stream.
        client: ClientId,
        /// The type of the resources.
        type_url: &'a str,
        /// The client's words.
        message: &'a str,
    },
    /// A client does not answer, and its stream is closed.
    Stalled {
        /// The stream.
        client: ClientId,
    },
}

/// A stream of one client.
struct Session {
    shared: Arc<Shared>,
    id: ClientId,
    requests: Streaming<DeltaDiscoveryRequest>,
    published: watch::Receiver<()>,
    /// When the first request is late; `None` after it.
    silent_until: Option<Instant>,
    is_over: bool,
}

impl Discovery {
    /// A server for tonic, which tells `observer` what happens.
    pub fn new(server: Server, observer: impl Fn(Event<'_>) + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                server: Mutex::new(server),
                published: watch::Sender::new(()),
                observer: Box::new(observer),
            }),
        }
    }

    /// The service to be added to a tonic server or router. Who may call it is for that server's
    /// transport and interceptors to decide.
    #[must_use]
    pub fn service(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST)
    }

    /// As [`Server::publish`], and sends it.
    pub fn publish(&self, type_url: &str, resources: impl IntoIterator<Item = Published>) {
        self.shared.lock().publish(type_url, resources);
        self.shared.published.send_replace(());
    }

    /// As [`Server::update`], and sends it.
    pub fn update<'a>(
        &self,
        type_url: &str,
        resources: impl IntoIterator<Item = Published>,
        removed: impl IntoIterator<Item = &'a str>,
    ) {
        self.shared.lock().update(type_url, resources, removed);
        self.shared.published.send_replace(());
    }

    /// As [`Server::publish_to`], and sends it.
    pub fn publish_to(&self, type_url: &str, resources: impl IntoIterator<Item = (Arc<str>, Vec<Published>)>) {
        self.shared.lock().publish_to(type_url, resources);
        self.shared.published.send_replace(());
    }

    /// As [`Server::update_to`], and sends it.
    pub fn update_to(&self, type_url: &str, resources: impl IntoIterator<Item = (Arc<str>, Vec<Published>)>) {
        self.shared.lock().update_to(type_url, resources);
        self.shared.published.send_replace(());
    }

    /// Who is connected, and how far each is, in the order in which they came.
    #[must_use]
    pub fn clients(&self) -> Vec<Connected> {
        let server = self.shared.lock();
        let connected = server.clients().map(|id| Connected {
            id,
            node: server.node(id).cloned(),
            standings: server.standings(id).collect(),
        });
        connected.collect()
    }

    /// How many clients are connected.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.shared.lock().clients().count()
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let audience = request.extensions().get::<Audience>();
        let audience = audience.map(|Audience(name)| Arc::clone(name));
        let id = self
            .shared
            .lock()
            .connect_as(audience)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let session = Session {
            shared: Arc::clone(&self.shared),
            id,
            requests: request.into_inner(),
            published: self.shared.published.subscribe(),
            silent_until: Some(now() + FIRST_REQUEST_TIMEOUT),
            is_over: false,
        };
        let responses = stream::unfold(session, |mut session| async move {
            let response = session.next().await?;
            Some((response, session))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Server> {
        // Every change of the server leaves it whole, so what a panic elsewhere left is usable.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    async fn next(&mut self) -> Option<Result<DeltaDiscoveryResponse, Status>> {
        if self.is_over {
            return None;
        }
        loop {
            let deadline = match self.turn() {
                Turn::Send(response) => return Some(Ok(response)),
                Turn::Close(status) => {
                    self.is_over = true;
                    return Some(Err(status));
                }
                Turn::Wait(deadline) => deadline,
            };
            tokio::select! {
                received = self.requests.message() => {
                    // A client that is gone or fails hears nothing any more.
                    let request = received.ok().flatten()?;
                    if let Err(status) = self.receive(&request) {
                        self.is_over = true;
                        return Some(Err(status));
                    }
                }
                changed = self.published.changed() => changed.ok()?,
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {}
            }
        }
    }

    /// What there is to do now, if nothing else happens.
    fn turn(&self) -> Turn {
        let now = now();
        let mut server = self.shared.lock();
        let is_silent = self.silent_until.is_some_and(|until| until <= now);
        if is_silent || server.is_stalled(self.id, now) {
            drop(server);
            (self.shared.observer)(Event::Stalled { client: self.id });
            return Turn::Close(Status::deadline_exceeded("the client does not answer"));
        }
        if let Some(response) = server.next_response(self.id, now) {
            return Turn::Send(response);
        }
        if !server.is_connected(self.id) {
            return Turn::Close(Status::aborted("the client has to begin anew"));
        }
        Turn::Wait(server.deadline(self.id).into_iter().chain(self.silent_until).min())
    }

    fn receive(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        self.silent_until = None;
        let heard = self.shared.lock().receive(self.id, request);
        match heard {
            Ok(Heard::Refused { type_url, message }) => {
                (self.shared.observer)(Event::Refused {
                    client: self.id,
                    type_url: &type_url,
                    message: &message,
                });
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(violation) => Err(Status::invalid_argument(violation.to_string())),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.lock().disconnect(self.id);
    }
}

/// What a session does next.
enum Turn {
    Send(DeltaDiscoveryResponse),
    Close(Status),
    Wait(Option<Instant>),
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
