//! A connection, or a stream of one, that goes on by WebSocket.

use hyper::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::waypoint::account::{Account, Told};
use crate::waypoint::body::{self, Body};
use crate::waypoint::http::Conversation;

/// Both sides have agreed.
pub(super) struct Upgrade {
    pub(super) client: OnUpgrade,
    pub(super) endpoint: OnUpgrade,
    pub(super) response: Response<Body>,
}

impl Upgrade {
    /// Has it go on so once the client has the answer.
    pub(super) fn begin(self, conversation: &Conversation, mut account: Account) -> Response<Told> {
        let Self {
            client,
            endpoint,
            response,
        } = self;
        let (head, held) = response.into_parts();
        let status = head.status;
        conversation.go_on(async move {
            let _held = held;
            let joined = async {
                let (client, endpoint) = tokio::try_join!(client, endpoint).map_err(std::io::Error::other)?;
                copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(endpoint)).await
            };
            match joined.await {
                Ok((received, sent)) => account.end_upgraded(status, received, sent),
                Err(error) => {
                    account.fail("UC", error.to_string());
                    account.end_upgraded(status, 0, 0);
                }
            }
        });
        Told::untold(Response::from_parts(head, body::whole("")))
    }
}
