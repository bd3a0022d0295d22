//! What the observer is told and the peer is not.

use hbone::client::HandshakeError;
use hbone::{DeniedStatus, Event, IncomingTunnel, OpenError, Peer, Rejection, Role};
use mesh_testkit::pipe;

use crate::events::Events;
use crate::pair::{pair, request};

#[tokio::test(start_paused = true)]
async fn a_rejection_has_its_reason_on_the_side_that_made_it() {
    let (events, config) = Events::of(&crate::engine::config());
    let denied = Rejection::Denied(DeniedStatus::Forbidden);
    let handler_denied = denied.clone();
    let handler = move |tunnel: IncomingTunnel| {
        tunnel.reject(handler_denied.clone());
        std::future::ready(())
    };
    let pair = pair(&config, handler).await;
    let Err(OpenError::Refused(refusal)) = pair.client.open(request()).await else {
        panic!("a denied tunnel is not open");
    };
    assert_eq!(refusal.status(), 403);
    for (side, known) in [(Role::Server, Some(denied)), (Role::Client, None)] {
        let told = events.count(|event| match event {
            Event::TunnelRejected {
                role, status, reason, ..
            } => *role == side && *status == 403 && *reason == known,
            _ => false,
        });
        assert_eq!(told, 1, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_fails_the_exchange_of_prefaces_on_either_side() {
    let (events, config) = Events::of(&crate::engine::config());
    let (near, _silent) = pipe::pair();
    let client = hbone::client::handshake(near, Peer::unknown(), &config).await;
    assert_eq!(client.err(), Some(HandshakeError::Timeout));
    let (near, _silent) = pipe::pair();
    let server = hbone::server::handshake(near, Peer::unknown(), &config).await;
    assert_eq!(server.err(), Some(HandshakeError::Timeout));
    for side in [Role::Client, Role::Server] {
        let told = events.count(|event| match event {
            Event::ConnectionFailed { role, error } => *role == side && *error == HandshakeError::Timeout,
            _ => false,
        });
        assert_eq!(told, 1, "{side:?}");
    }
    assert_eq!(events.count(|event| matches!(event, Event::ConnectionOpened { .. })), 0);
}
