//! The protocol's client over gRPC.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use futures_util::stream;
use mesh_xds_types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_xds_types::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tonic::Status;
use tonic::body::Body as TonicBody;
use tonic::client::GrpcService;
use tonic::codegen::{Body, Bytes, StdError};

use crate::delta::{Client, ClientConfig, DemandError, Outcome, Push, Refusal};

/// Bytes of one response; Istio's limit. A server's first answer can be the whole mesh.
const MAX_RESPONSE: usize = 200 << 20;

/// Demands on their way to the driver. More wait with those who make them.
const MAX_DEMANDS: usize = 1024;

/// Requests on their way to the server.
const MAX_REQUESTS: usize = 16;

/// How long to wait at least between two attempts to send while the server takes nothing.
const RETRY_WITHOUT_ROOM: Duration = Duration::from_millis(100);

/// How long opening a stream may take. Servers with nothing to say yet hold back the head of the
/// response, so this is as long as they may take to answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Drives a [`Client`] over gRPC, one stream after the other.
///
/// It does nothing unless [`run`](Self::run) is polled; it starts no task.
#[derive(Debug)]
pub struct Driver<T> {
    grpc: AggregatedDiscoveryServiceClient<T>,
    client: Client<oneshot::Sender<Outcome>>,
    demands: mpsc::Receiver<Demand>,
    /// For numbers that need to differ between the clients of a server.
    random: RandomState,
}

/// Asks a [`Driver`] for resources on demand.
#[derive(Clone, Debug)]
pub struct Handle {
    demands: mpsc::Sender<Demand>,
}

/// Why a name's resource is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FindError {
    /// It cannot be asked for.
    #[error(transparent)]
    Demand(#[from] DemandError),
    /// The driver is gone.
    #[error("the discovery client has ended")]
    Closed,
}

/// How a stream ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StreamEnd {
    /// The server closed it in order.
    #[error("the discovery server closed the stream")]
    Closed,
    /// The server or the connection failed.
    #[error("the discovery stream failed: {}", .0.message())]
    Failed(Box<Status>),
    /// The server did not answer in time.
    #[error("the discovery server does not answer")]
    Stalled,
}

#[derive(Debug)]
struct Demand {
    type_url: String,
    name: String,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
    refusal: oneshot::Sender<DemandError>,
}

/// Who applies what a [`Driver`] receives.
pub trait Apply {
    /// Applies a response, and names what cannot be used.
    fn apply(&mut self, push: &Push) -> Vec<Refusal>;

    /// A stream ended. Another one is opened after a while; until then things stay as they are.
    fn ended(&mut self, end: &StreamEnd);
}

impl<T> Driver<T>
where
    T: GrpcService<TonicBody> + Clone,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A client over a transport, with the handle for its demands.
    pub fn new(transport: T, config: ClientConfig) -> (Self, Handle) {
        let (sender, demands) = mpsc::channel(MAX_DEMANDS);
        let driver = Self {
            grpc: AggregatedDiscoveryServiceClient::new(transport).max_decoding_message_size(MAX_RESPONSE),
            client: Client::new(config),
            demands,
            random: RandomState::new(),
        };
        (driver, Handle { demands: sender })
    }

    /// Keeps a stream to the server and applies what it says, for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the stream and ends all demands. A response that was applied may
    /// not have been acknowledged.
    pub async fn run(mut self, applier: &mut impl Apply) {
        loop {
            self.pause().await;
            let end = self.stream(applier).await;
            applier.ended(&end);
            let jitter = self.random.hash_one(self.client.streams()) as u32;
            self.client.disconnected(now(), jitter);
        }
    }

    /// Waits until it is time to connect, and lets demands expire meanwhile.
    async fn pause(&mut self) {
        while let Some(at) = self.client.connect_at(now()).filter(|at| *at > now()) {
            self.answer();
            let next = self.client.deadline().map_or(at, |deadline| deadline.min(at));
            tokio::select! {
                () = sleep_until(next.into()) => {}
                Some(demand) = self.demands.recv() => self.demand(demand),
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn stream(&mut self, applier: &mut impl Apply) -> StreamEnd {
        let (requests, mut outbox) = mpsc::channel(MAX_REQUESTS);
        let outgoing = stream::poll_fn(move |context| outbox.poll_recv(context));
        self.client.connected();
        // Servers may want to see a request before they answer at all.
        let mut unsent = self.send(&requests, None);
        let mut grpc = self.grpc.clone();
        let opening = timeout(OPEN_TIMEOUT, grpc.delta_aggregated_resources(outgoing)).await;
        let mut incoming = match opening {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return StreamEnd::Failed(Box::new(status)),
            Err(_) => return StreamEnd::Stalled,
        };
        loop {
            self.answer();
            unsent = self.send(&requests, unsent);
            if self.client.is_stalled(now()) {
                return StreamEnd::Stalled;
            }
            // What is due cannot be said while there is no room; looking for it all the time would not help.
            let earliest = unsent.as_ref().map(|_| now() + RETRY_WITHOUT_ROOM);
            let deadline = self.client.deadline().max(earliest);
            tokio::select! {
                received = incoming.message() => match received {
                    Ok(Some(response)) => self.receive(response, applier),
                    Ok(None) => return StreamEnd::Closed,
                    Err(status) => return StreamEnd::Failed(Box::new(status)),
                },
                Some(demand) = self.demands.recv() => self.demand(demand),
                room = requests.reserve(), if unsent.is_some() => match (room, unsent.take()) {
                    (Ok(room), Some(request)) => room.send(request),
                    _ => return StreamEnd::Closed,
                },
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {}
            }
        }
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse, applier: &mut impl Apply) {
        if let Some(push) = self.client.receive(response) {
            let refusals = applier.apply(&push);
            self.client.settle(push, &refusals);
        }
    }

    fn demand(&mut self, demand: Demand) {
        let result = self
            .client
            .demand(&demand.type_url, &demand.name, demand.deadline, demand.answer);
        if let Err(error) = result {
            // Who does not listen any more does not need the reason.
            drop(demand.refusal.send(error));
        }
    }

    fn answer(&mut self) {
        while let Some(answer) = self.client.next_answer(now()) {
            drop(answer.waiter.send(answer.outcome));
        }
    }

    /// Sends as many requests as there is room for, `unsent` first, and answers the one that had
    /// none.
    fn send(
        &mut self,
        requests: &mpsc::Sender<DeltaDiscoveryRequest>,
        unsent: Option<DeltaDiscoveryRequest>,
    ) -> Option<DeltaDiscoveryRequest> {
        let mut next = unsent;
        loop {
            let request = next.take().or_else(|| self.client.next_request(now()))?;
            if let Err(mpsc::error::TrySendError::Full(request)) = requests.try_send(request) {
                return Some(request);
            }
        }
    }
}

impl Handle {
    /// Waits until a name is known, or known not to be, for at most `patience`.
    ///
    /// # Errors
    ///
    /// The name cannot be asked for, or the driver is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future forgets the answer; the name stays in demand.
    pub async fn find(&self, type_url: &str, name: &str, patience: Duration) -> Result<Outcome, FindError> {
        let deadline = now() + patience;
        let (answer, answered) = oneshot::channel();
        let (refusal, mut refused) = oneshot::channel();
        let demand = Demand {
            type_url: type_url.to_owned(),
            name: name.to_owned(),
            deadline,
            answer,
            refusal,
        };
        // A driver that is busy applying takes nothing, so that wait needs the deadline, too.
        match timeout(patience, self.demands.send(demand)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(FindError::Closed),
            Err(_) => return Ok(Outcome::Expired),
        }
        match timeout(patience, answered).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(refused.try_recv().map_or(FindError::Closed, FindError::Demand)),
            Err(_) => Ok(Outcome::Expired),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
