//! One side of a connection, against a scripted peer on the other.

use hbone::{Client, Config, Handler, Lost, Peer};
use mesh_testkit::peer::{RawClient, RawServer};
use mesh_testkit::pipe::{self, Pipe, PipeControl};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::pair::{serve, wait};

/// A server, and a scripted client on the left of the pipe.
pub struct Served {
    pub peer: RawClient<Pipe>,
    pub control: PipeControl,
    pub drain: oneshot::Sender<()>,
    pub end: JoinHandle<Result<(), hbone::server::ServeError>>,
    _tasks: JoinSet<()>,
}

/// A server whose tunnels `handler` answers, with a scripted client that has shaken hands.
pub async fn served(config: &Config, handler: impl Handler) -> Served {
    served_as(pipe::Builder::new(), |peer| peer, config, handler).await
}

/// As [`served`], over a pipe and with habits of the test's choice.
pub async fn served_as(
    pipe: pipe::Builder,
    habits: impl FnOnce(RawClient<Pipe>) -> RawClient<Pipe>,
    config: &Config,
    handler: impl Handler,
) -> Served {
    let mut served = unspoken(pipe, habits, config, handler);
    served.peer.handshake().await;
    served
}

/// As [`served_as`], with a client that has said nothing yet.
pub fn unspoken(
    pipe: pipe::Builder,
    habits: impl FnOnce(RawClient<Pipe>) -> RawClient<Pipe>,
    config: &Config,
    handler: impl Handler,
) -> Served {
    let (near, far) = pipe.build();
    let control = near.control();
    let mut tasks = JoinSet::new();
    let (drain, end) = serve(&mut tasks, far, config, handler);
    Served {
        peer: habits(RawClient::new(near)),
        control,
        drain,
        end,
        _tasks: tasks,
    }
}

/// A client, and a scripted server on the right of the pipe.
pub struct Dialled {
    pub client: Client,
    pub peer: RawServer<Pipe>,
    pub control: PipeControl,
    pub end: JoinHandle<Result<(), Lost>>,
    _tasks: JoinSet<()>,
}

/// A client with a scripted server that has shaken hands.
pub async fn dialled(config: &Config) -> Dialled {
    dialled_as(pipe::Builder::new(), |peer| peer, config).await
}

/// As [`dialled`], over a pipe and with habits of the test's choice.
pub async fn dialled_as(
    pipe: pipe::Builder,
    habits: impl FnOnce(RawServer<Pipe>) -> RawServer<Pipe>,
    config: &Config,
) -> Dialled {
    let (near, far) = pipe.build();
    let control = near.control();
    let config = config.clone();
    let mut peer = habits(RawServer::new(far));
    let mut tasks = JoinSet::new();
    let (ready, client) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    tasks.spawn(async move {
        let made = hbone::client::handshake(near, Peer::unknown(), &config).await;
        let (client, connection) = made.unwrap();
        ready.send(client).ok();
        ended.send(connection.await).ok();
    });
    peer.handshake().await;
    let client = client.await.unwrap();
    Dialled {
        client,
        peer,
        control,
        end: wait(end),
        _tasks: tasks,
    }
}

impl Dialled {
    /// Takes the next request and opens its tunnel; answers its stream.
    pub async fn accept(&mut self) -> u32 {
        let request = self.peer.accept().await;
        self.peer.respond(request.stream, 200).await;
        request.stream
    }
}
