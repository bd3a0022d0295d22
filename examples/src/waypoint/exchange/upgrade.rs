//! A connection, or a stream of one, that goes on by WebSocket.

use std::io;
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use mesh_policy::authz::Permit;

use super::standing::Standing;
use crate::proxy::plain::{self, PlainProgress};
use crate::proxy::traffic::Failure;
use crate::waypoint::account::Account;
use crate::waypoint::body::{self, Body};
use crate::waypoint::http::Conversation;
use crate::waypoint::outlet::{Abortable, Outlet};
use crate::waypoint::stream::{Stream, Told};

/// Both sides have agreed.
pub(super) struct Upgrade {
    pub(super) client: OnUpgrade,
    pub(super) endpoint: OnUpgrade,
    pub(super) response: Response<Body>,
    /// For as long as this is renewed.
    pub(super) permit: Permit,
    pub(super) standing: Box<Standing>,
}

impl Upgrade {
    /// Has it go on so once the client has the answer: until its end, or for as long as policies let it
    /// and something moves.
    pub(super) fn begin(
        self,
        conversation: &Conversation,
        stream: Arc<Stream>,
        mut account: Account,
    ) -> Response<Told> {
        let Self {
            client,
            endpoint,
            response,
            permit,
            mut standing,
        } = self;
        let (head, held) = response.into_parts();
        let status = head.status;
        let outlet = (status != StatusCode::SWITCHING_PROTOCOLS).then(|| conversation.outlets.wait());
        let caller = Arc::clone(&conversation.client);
        conversation.go_on(async move {
            let _held = held;
            let joined = join(client, outlet, endpoint, &stream.progress.bytes);
            let ended = tokio::select! {
                biased;
                refused = standing.withdrawn(&caller, permit) => Err(refused.into()),
                () = stream.given_up() => Err(Failure { flags: "SI", reason: "nothing moved for too long".to_owned() }),
                joined = joined => joined.map_err(|error| Failure { flags: "UC", reason: error.to_string() }),
            };
            if let Err(Failure { flags, reason }) = ended {
                account.fail(flags, reason);
            }
            account.end_upgraded(status);
        });
        Told::untold(Response::from_parts(head, body::whole("")))
    }
}

/// Carries what both say once they can. A stream of HTTP/2 has an outlet; a connection by HTTP/1.1 is
/// reset where it is dropped.
async fn join(
    client: OnUpgrade,
    outlet: Option<impl Future<Output = io::Result<Outlet>>>,
    endpoint: OnUpgrade,
    progress: &PlainProgress,
) -> io::Result<()> {
    let (client, endpoint) = tokio::try_join!(client, endpoint).map_err(io::Error::other)?;
    let endpoint = TokioIo::new(endpoint);
    let Some(outlet) = outlet else {
        return plain::copy(TokioIo::new(client), endpoint, progress).await;
    };
    let outlet = outlet.await?;
    tokio::select! {
        biased;
        joined = plain::copy(Abortable::new(client, &outlet), endpoint, progress) => joined,
        never = outlet.run() => match never {},
    }
}
