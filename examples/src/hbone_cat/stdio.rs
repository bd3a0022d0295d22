//! One tunnel for stdin and stdout.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hbone::tls::DialError;
use hbone::{Client, Config, Lost, OpenError, ReadHalf, TunnelError, TunnelRequest, TunnelStream, WriteHalf};
use mesh_identity::live::{CloseReason, Live};
use mesh_identity::tls::ClientTls;
use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::workers::Stop;

/// Smallest room for a read from stdin, and how much is made at a time.
const MIN_ROOM: usize = 64 * 1024;
const ROOM: usize = 1024 * 1024;

/// Chunks that may wait between the tunnel and the thread that reads stdin or writes stdout.
const CHUNKS: usize = 16;

/// Time to tell the peer that the tunnel was aborted.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// An open tunnel, with the connection that carries nothing else.
pub(super) struct Pipe {
    tunnel: TunnelStream,
    client: Client,
    connection: Ended,
    _driver: JoinSet<()>,
}

/// How the connection ended, once it has.
type Ended = watch::Receiver<Option<Result<(), Lost>>>;

impl Pipe {
    pub(super) async fn open(
        peer: SocketAddr,
        (tls, live): (&ClientTls, &Live),
        config: &Config,
        request: TunnelRequest,
        stop: Stop,
    ) -> Result<Self, PipeError> {
        let opened = async {
            let (client, mut connection) = hbone::tls::dial(peer, tls, config).await?;
            if let Some(peer) = client.peer().identity().cloned() {
                let guard = live.scope(tls.policy().clone()).register(tls.identity().id(), peer)?;
                connection = connection.hold(guard);
            }
            let (tell, ended) = watch::channel(None);
            let mut driver = JoinSet::new();
            driver.spawn(async move {
                tell.send_replace(Some(connection.await));
            });
            Ok(Self {
                tunnel: client.open(request).await?,
                client,
                connection: ended,
                _driver: driver,
            })
        };
        tokio::select! {
            opened = opened => opened,
            () = stop.draining() => Err(PipeError::Interrupted),
        }
    }

    /// Carries stdin and stdout until both have ended. At `stop` the tunnel has the drain timeout
    /// of its connection to do so.
    pub(super) async fn run(self, stop: Stop) -> Result<(), PipeError> {
        let Self {
            tunnel,
            client,
            connection,
            _driver,
        } = self;
        let result = {
            let mut carrying = pin!(carry(tunnel));
            tokio::select! {
                result = &mut carrying => result,
                () = stop.draining() => {
                    client.drain();
                    carrying.await
                }
            }
        };
        // What was written may still wait to be sent.
        drop(client);
        let closed = end(connection);
        match result {
            Ok(()) => Ok(closed.await.map_err(TunnelError::ConnectionLost)?),
            Err(error) => {
                if timeout(ABORT_TIMEOUT, closed).await.is_err() {
                    tracing::debug!("peer was not told");
                }
                Err(error)
            }
        }
    }
}

async fn end(mut connection: Ended) -> Result<(), Lost> {
    match connection.wait_for(Option::is_some).await {
        Ok(ended) => ended.unwrap_or(Ok(())),
        Err(_) => Err(Lost::Dropped),
    }
}

async fn carry(tunnel: TunnelStream) -> Result<(), PipeError> {
    let (read, mut write) = tunnel.into_split();
    let stdin = spawn_stdin().map_err(PipeError::Stdin)?;
    let (stdout, written) = spawn_stdout().map_err(PipeError::Stdout)?;
    let result = {
        let mut sending = pin!(send(stdin, &mut write));
        let mut receiving = pin!(receive(read, stdout, written));
        tokio::select! {
            sent = &mut sending => match sent {
                Err(PipeError::Stdin(error)) => Err(PipeError::Stdin(error)),
                // What the peer sent before the tunnel failed is still to be delivered.
                sent => receiving.await.and(sent),
            },
            received = &mut receiving => match received {
                Ok(()) => sending.await,
                Err(error) => Err(error),
            },
        }
    };
    if let Err(PipeError::Stdin(_) | PipeError::Stdout(_)) = result {
        write.abort();
    }
    result
}

async fn send(mut stdin: mpsc::Receiver<io::Result<Bytes>>, tunnel: &mut WriteHalf) -> Result<(), PipeError> {
    loop {
        let chunk = tokio::select! {
            chunk = stdin.recv() => chunk,
            // Where the peer has ended its side, nothing else tells.
            error = tunnel.lost() => return Err(error.into()),
        };
        match chunk {
            Some(chunk) => tunnel.write_chunk(chunk.map_err(PipeError::Stdin)?).await?,
            None => return Ok(tunnel.finish().await?),
        }
    }
}

async fn receive(
    mut tunnel: ReadHalf,
    stdout: mpsc::Sender<Bytes>,
    mut written: oneshot::Receiver<io::Result<()>>,
) -> Result<(), PipeError> {
    let received = loop {
        tokio::select! {
            chunk = tunnel.read_chunk() => match chunk {
                // If nobody writes any more, the reason is about to be told.
                Ok(Some(chunk)) => drop(stdout.send(chunk).await),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            written = &mut written => return Err(unwritten(written)),
        }
    };
    drop(stdout);
    match written.await {
        Ok(Ok(())) => Ok(received?),
        written => Err(unwritten(written)),
    }
}

/// Why nobody writes stdout any more.
fn unwritten(written: Result<io::Result<()>, RecvError>) -> PipeError {
    PipeError::Stdout(match written {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => io::ErrorKind::BrokenPipe.into(),
    })
}

/// Reads stdin on a thread that ends with stdin or, at last, with the process: nothing else ends
/// a read that waits.
fn spawn_stdin() -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut room = BytesMut::new();
        loop {
            if room.len() < MIN_ROOM {
                room = BytesMut::zeroed(ROOM);
            }
            let chunk = match stdin.read(&mut room) {
                Ok(0) => return,
                Ok(read) => Ok(room.split_to(read).freeze()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Writes stdout on a thread, closes it after the last chunk, and then says how that went.
fn spawn_stdout() -> io::Result<(mpsc::Sender<Bytes>, oneshot::Receiver<io::Result<()>>)> {
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Closing the copy has to be the end for whoever reads, so it has to be the only one.
    rustix::stdio::dup2_stdout(OpenOptions::new().write(true).open("/dev/null")?)?;
    let (chunks, mut receiver) = mpsc::channel::<Bytes>(CHUNKS);
    let (tell, written) = oneshot::channel();
    thread::Builder::new().name("stdout".into()).spawn(move || {
        let mut result = Ok(());
        while result.is_ok()
            && let Some(chunk) = receiver.blocking_recv()
        {
            result = stdout.write_all(&chunk);
        }
        drop(receiver);
        drop(stdout);
        // Nobody listens if the tunnel was given up.
        drop(tell.send(result));
    })?;
    Ok((chunks, written))
}

/// Why stdin and stdout were not carried to their ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipeError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Distrusted(#[from] CloseReason),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error("stdin: {0}")]
    Stdin(#[source] io::Error),
    #[error("stdout: {0}")]
    Stdout(#[source] io::Error),
    #[error("interrupted before the tunnel was open")]
    Interrupted,
}
