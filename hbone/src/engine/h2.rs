//! The engine made of the [`h2`] crate.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong, Reason, RecvStream, SendStream, client, server};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Engine, EngineError, Progress, Received};
use crate::config::Config;
use crate::transport::{FRAMES_PER_TURN, SharedTransport};
use crate::wire::ErrorCode;

/// What `h2` may charge for one unread DATA frame. The driver empties `h2`'s queues every turn,
/// so the budget only has to cover the frames of one turn.
const DATA_FRAME_CHARGE: usize = 256;

/// Error resets that a peer can provoke before the connection is ended. `h2` counts them for the
/// connection's life and never forgives, so the bound is far above what honest peers provoke; the
/// [ledger](crate::flood) sees to the others.
const LOCAL_ERROR_RESETS: usize = 64 * 1024;

/// One connection, of either role.
pub(crate) enum H2Engine<Io> {
    /// `None` as request handle means that no more streams are to be opened.
    Client {
        requests: Option<client::SendRequest<Bytes>>,
        connection: client::Connection<SharedTransport<Io>, Bytes>,
        ping: Option<PingPong>,
    },
    Server {
        connection: server::Connection<SharedTransport<Io>, Bytes>,
        ping: Option<PingPong>,
    },
}

impl<Io: AsyncRead + AsyncWrite + Unpin> H2Engine<Io> {
    /// Writes the client's preface and SETTINGS into the transport.
    pub(crate) async fn client(transport: SharedTransport<Io>, config: &Config) -> Result<Self, EngineError> {
        let (requests, mut connection) = client::Builder::new()
            .initial_window_size(config.stream_window())
            .initial_connection_window_size(config.connection_window())
            .max_frame_size(config.max_frame_size())
            .max_header_list_size(config.max_header_list())
            .max_send_buffer_size(config.send_buffer())
            .initial_max_send_streams(config.max_tunnels() as usize)
            .enable_push(false)
            .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
            .reset_stream_duration(Duration::from_secs(1))
            .data_frame_budget(FRAMES_PER_TURN as usize * 2 * DATA_FRAME_CHARGE)
            .handshake(transport)
            .await?;
        let ping = connection.ping_pong();
        Ok(Self::Client {
            requests: Some(requests),
            connection,
            ping,
        })
    }

    /// Sends the server's SETTINGS and reads the client's preface.
    pub(crate) async fn server(transport: SharedTransport<Io>, config: &Config) -> Result<Self, EngineError> {
        let mut handshake = server::Builder::new()
            .initial_window_size(config.stream_window())
            .initial_connection_window_size(config.connection_window())
            .max_frame_size(config.max_frame_size())
            .max_header_list_size(config.max_header_list())
            .max_send_buffer_size(config.send_buffer())
            .max_concurrent_streams(config.max_tunnels())
            .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS))
            .reset_stream_duration(Duration::from_secs(1))
            .data_frame_budget(FRAMES_PER_TURN as usize * 2 * DATA_FRAME_CHARGE)
            .handshake(transport.clone());
        let mut connection = std::future::poll_fn(|cx| {
            let polled = Pin::new(&mut handshake).poll(cx).map_err(EngineError::from);
            // A peer that takes nothing may still say something; silence has its own deadline.
            match transport.lock().poll_flush_gathered(cx) {
                Poll::Ready(()) | Poll::Pending => polled,
            }
        })
        .await?;
        let ping = connection.ping_pong();
        Ok(Self::Server { connection, ping })
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Engine for H2Engine<Io> {
    type Stream = H2Stream;

    fn poll(&mut self, cx: &mut Context<'_>, _woken: bool) -> Poll<Progress<H2Stream>> {
        match self {
            Self::Client { connection, ping, .. } => {
                drop_pong(ping, cx);
                let ended = ready!(Pin::new(connection).poll(cx));
                Poll::Ready(Progress::Closed(ended.map_err(EngineError::from)))
            }
            Self::Server { connection, ping } => {
                drop_pong(ping, cx);
                Poll::Ready(match ready!(connection.poll_accept(cx)) {
                    Some(Ok((request, respond))) => {
                        let (head, recv) = request.into_parts();
                        let stream = H2Stream {
                            id: respond.stream_id().as_u32(),
                            response: None,
                            respond: Some(respond),
                            send: None,
                            recv: Some(recv),
                        };
                        Progress::Request(Box::new(head), stream)
                    }
                    Some(Err(error)) => Progress::Closed(Err(error.into())),
                    None => Progress::Closed(Ok(())),
                })
            }
        }
    }

    /// Has nothing to do: what asks for a poll wakes, and what is written is in the transport.
    fn end_turn(&mut self) -> bool {
        false
    }

    /// A connection that ends tells of it with its next poll.
    fn is_ending(&self) -> bool {
        false
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Client {
                requests: Some(requests),
                ..
            } => {
                if let Err(error) = ready!(requests.poll_ready(cx)) {
                    tracing::trace!(%error, "no more streams");
                }
                Poll::Ready(())
            }
            _ => Poll::Ready(()),
        }
    }

    fn open(&mut self, head: http::Request<()>) -> Result<H2Stream, EngineError> {
        let Self::Client {
            requests: Some(requests),
            ..
        } = self
        else {
            return Err(EngineError::GoAway {
                code: ErrorCode::NO_ERROR,
                by_peer: false,
            });
        };
        let (response, send) = requests.send_request(head, false)?;
        Ok(H2Stream {
            id: send.stream_id().as_u32(),
            response: Some(response),
            respond: None,
            send: Some(send),
            recv: None,
        })
    }

    fn peer_stream_limit(&self) -> usize {
        match self {
            Self::Client {
                requests: Some(requests),
                ..
            } => requests.current_max_send_streams(),
            _ => 0,
        }
    }

    fn ping(&mut self) {
        let (Self::Client { ping, .. } | Self::Server { ping, .. }) = self;
        if let Some(ping) = ping
            && let Err(error) = ping.send_ping(Ping::opaque())
        {
            tracing::trace!(%error, "a PING is already under way");
        }
    }

    fn drain(&mut self) {
        match self {
            Self::Client { requests, .. } => *requests = None,
            Self::Server { connection, .. } => connection.graceful_shutdown(),
        }
    }

    fn abort(&mut self, code: ErrorCode) {
        match self {
            Self::Client { requests, .. } => *requests = None,
            Self::Server { connection, .. } => {
                connection.abrupt_shutdown(Reason::from(u32::from(code)));
            }
        }
    }

    fn id(stream: &H2Stream) -> u32 {
        stream.id
    }

    /// Streams have wakers.
    fn name(&mut self, _stream: &mut H2Stream, _name: usize) {}

    fn poll_response(
        &mut self,
        stream: &mut H2Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::response::Parts, EngineError>> {
        let Some(response) = &mut stream.response else {
            return Poll::Pending;
        };
        let (head, recv) = ready!(Pin::new(response).poll(cx))?.into_parts();
        stream.response = None;
        stream.recv = Some(recv);
        Poll::Ready(Ok(head))
    }

    fn respond(&mut self, stream: &mut H2Stream, head: http::Response<()>, end: bool) -> Result<(), EngineError> {
        if let Some(respond) = &mut stream.respond {
            stream.send = Some(respond.send_response(head, end)?);
        }
        Ok(())
    }

    fn poll_send_capacity(
        &mut self,
        stream: &mut H2Stream,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<usize, EngineError>> {
        let Some(send) = &mut stream.send else {
            return Poll::Pending;
        };
        send.reserve_capacity(wanted);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        loop {
            let capacity = send.capacity();
            if capacity > 0 {
                return Poll::Ready(Ok(capacity.min(wanted)));
            }
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err(EngineError::closed())),
            }
        }
    }

    fn send(&mut self, stream: &mut H2Stream, bytes: Bytes, end: bool) -> Result<(), EngineError> {
        match &mut stream.send {
            Some(send) => Ok(send.send_data(bytes, end)?),
            None => Err(EngineError::closed()),
        }
    }

    fn reset(&mut self, stream: &mut H2Stream, code: ErrorCode) {
        let reason = Reason::from(u32::from(code));
        match (&mut stream.send, &mut stream.respond) {
            (Some(send), _) => send.send_reset(reason),
            (None, Some(respond)) => respond.send_reset(reason),
            (None, None) => {}
        }
    }

    fn poll_reset(&mut self, stream: &mut H2Stream, cx: &mut Context<'_>) -> Poll<EngineError> {
        let reset = match (&mut stream.send, &mut stream.respond) {
            (Some(send), _) => send.poll_reset(cx),
            (None, Some(respond)) => respond.poll_reset(cx),
            (None, None) => return Poll::Pending,
        };
        Poll::Ready(match ready!(reset) {
            Ok(reason) => EngineError::Reset {
                code: ErrorCode::from(u32::from(reason)),
                by_peer: true,
            },
            Err(error) => error.into(),
        })
    }

    fn poll_recv(&mut self, stream: &mut H2Stream, cx: &mut Context<'_>) -> Poll<Result<Received, EngineError>> {
        let Some(recv) = &mut stream.recv else {
            return Poll::Pending;
        };
        if let Some(data) = ready!(recv.poll_data(cx)) {
            return Poll::Ready(Ok(Received::Data(data?)));
        }
        Poll::Ready(match ready!(recv.poll_trailers(cx))? {
            Some(_) => Ok(Received::Trailers),
            None => Ok(Received::End),
        })
    }

    fn release(&mut self, stream: &mut H2Stream, n: usize) {
        if let Some(recv) = &mut stream.recv
            && let Err(error) = recv.flow_control().release_capacity(n)
        {
            tracing::trace!(%error, n, "window of a stream that has ended");
        }
    }

    fn forget(&mut self, stream: H2Stream) {
        drop(stream);
    }
}

/// Takes the answer to a PING, so that the next one can be sent.
fn drop_pong(ping: &mut Option<PingPong>, cx: &mut Context<'_>) {
    if let Some(pingpong) = ping
        && let Poll::Ready(Err(error)) = pingpong.poll_pong(cx)
    {
        tracing::trace!(%error, "no more PINGs");
        *ping = None;
    }
}

/// One stream, of either role.
#[derive(Debug)]
pub(crate) struct H2Stream {
    id: u32,
    response: Option<client::ResponseFuture>,
    respond: Option<server::SendResponse<Bytes>>,
    send: Option<SendStream<Bytes>>,
    recv: Option<RecvStream>,
}

impl From<h2::Error> for EngineError {
    fn from(error: h2::Error) -> Self {
        let by_peer = error.is_remote();
        let code = error.reason().map(|reason| ErrorCode::from(u32::from(reason)));
        match code {
            Some(code) if error.is_reset() => Self::Reset { code, by_peer },
            Some(code) if error.is_go_away() => Self::GoAway { code, by_peer },
            _ => Self::Io(error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())),
        }
    }
}
