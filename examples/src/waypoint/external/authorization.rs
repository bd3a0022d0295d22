//! Providers of CUSTOM policies: Envoy's external authorization over gRPC.

mod answer;
mod question;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Body;
use mesh_xds_types::ext_authz::authorization_client::AuthorizationClient;
use tokio::time::timeout;

use self::answer::{Answer, answer};
use self::question::question;
use super::about::About;
use super::body::Begun;
use super::caller::{Called, Caller, MAX_ANSWER, Silence};
use super::config;
use super::counts::{Counts, Tally};
use super::edits::Edits;
use super::refused::{Reason, Refused};
use crate::proxy::control_plane::DialSetupError;
use crate::waypoint::reply::Reply;

/// How long a client has for what a provider is to be told of its body. No route's time has begun then.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A provider, as all workers share it.
#[derive(Clone)]
pub(super) struct Provider {
    config: Arc<config::Authorization>,
    called: Called,
    tally: Tally,
}

/// A worker's way to a provider.
pub(super) struct Asked {
    config: Arc<config::Authorization>,
    caller: Caller,
    tally: Tally,
}

/// Why a request does not get past a provider.
#[derive(Debug)]
pub(in crate::waypoint) enum Unauthorized<E> {
    /// It is answered here.
    Refused(Refused),
    /// Its body, which a provider is to be told of, failed.
    Body(E),
}

impl Provider {
    pub(super) fn new(config: config::Authorization, counts: &Counts) -> Result<Self, DialSetupError> {
        let config::Authorization {
            name,
            server,
            timeout,
            max_in_flight,
            ..
        } = &config;
        let called = Called::new(name, server.clone(), *timeout, *max_in_flight)?;
        Ok(Self {
            called,
            tally: counts.of_provider(name),
            config: Arc::new(config),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn asked(&self) -> Asked {
        Asked {
            config: Arc::clone(&self.config),
            caller: self.called.caller(),
            tally: self.tally.clone(),
        }
    }
}

impl Asked {
    /// Asks whether a request may pass, and changes it as the answer says. What is to become of its
    /// response goes to `later`.
    pub(super) async fn ask<B: Body<Data = Bytes> + Unpin>(
        &self,
        request: Request<Begun<B>>,
        about: &About<'_>,
        later: &mut Edits,
    ) -> Result<Request<Begun<B>>, Unauthorized<B::Error>> {
        let (mut head, mut body) = request.into_parts();
        let mut told = None;
        if let Some(bound) = self.config.with_request_body {
            let read = timeout(BODY_TIMEOUT, body.read(bound.max_bytes)).await;
            let read = read.map_err(|_| refused(Reply::bare(StatusCode::REQUEST_TIMEOUT), Reason::BodyTooSlow))?;
            let (begun, beginning) = read.map_err(Unauthorized::Body)?;
            if beginning.is_partial && !bound.allow_partial {
                return Err(refused(
                    Reply::bare(StatusCode::PAYLOAD_TOO_LARGE),
                    Reason::BodyTooLarge,
                ));
            }
            (body, told) = (begun, Some(beginning));
        }
        let question = question(&self.config, &head, about, body.size_hint().exact(), told.as_ref());
        let asking = async |channel, question| {
            let mut client = AuthorizationClient::new(channel).max_decoding_message_size(MAX_ANSWER);
            client.check(question).await
        };
        let reply = match self.caller.call(question, asking, answer).await {
            Ok(Answer::Allowed { request, response }) => {
                self.tally.ok.inc();
                request.apply(&mut head.headers);
                later.then(response);
                return Ok(Request::from_parts(head, body));
            }
            Ok(Answer::Denied(reply)) => {
                self.tally.refused.inc();
                return Err(refused(reply, Reason::Denied));
            }
            // An answer that cannot be carried out is worse than none: it was meant to have an effect.
            Err(Silence::Fault(_)) => {
                self.tally.error.inc();
                let reply = Reply::bare(self.config.status_on_error);
                return Err(refused(reply, Reason::AuthorizationFailed));
            }
            Ok(Answer::Failed { status, reply }) => Reply {
                status: status.unwrap_or(self.config.status_on_error),
                ..reply
            },
            Err(Silence::Overflow | Silence::Deadline { .. } | Silence::Call(_)) => {
                Reply::bare(self.config.status_on_error)
            }
        };
        self.tally.error.inc();
        if !self.config.failure_mode_allow {
            return Err(refused(reply, Reason::AuthorizationFailed));
        }
        self.tally.failure_mode_allowed.inc();
        Ok(Request::from_parts(head, body))
    }
}

/// What becomes of a request whose provider is not known.
pub(super) fn unknown<E>() -> Unauthorized<E> {
    refused(Reply::bare(StatusCode::FORBIDDEN), Reason::AuthorizationFailed)
}

fn refused<E>(reply: Reply, reason: Reason) -> Unauthorized<E> {
    Unauthorized::Refused(Refused { reply, reason })
}
