use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::{sync::Semaphore, time::timeout};

use super::{
    channel::RpcError,
    jwt::{IssuedJwt, JwtFetchError, JwtValidationError},
    stream::Link,
    wire::{
        FETCH_JWT_SVID, JwtSvidRequest, JwtSvidResponse, VALIDATE_JWT_SVID, ValidateJwtSvidRequest,
        ValidateJwtSvidResponse,
    },
};
use crate::{jwt::token::Token, spiffe_id::SpiffeId};

/// The longest wait for an answer, from the moment it is asked for.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The most calls at a time; more wait for their turn.
const MAX_CALLS: usize = 32;

/// Single questions to the Workload API.
#[derive(Clone)]
pub(super) struct Calls {
    link: Link,
    turns: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            turns: Arc::new(Semaphore::new(MAX_CALLS)),
        }
    }

    pub(super) async fn fetch(
        &self,
        audiences: &[&str],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<IssuedJwt>, JwtFetchError> {
        if audiences.is_empty() || audiences.contains(&"") {
            return Err(JwtFetchError::NoAudience);
        }
        let request = JwtSvidRequest {
            audience: audiences.iter().copied().map(str::to_owned).collect(),
            spiffe_id: id.map(SpiffeId::to_string).unwrap_or_default(),
        };
        let answer: JwtSvidResponse = self.ask(FETCH_JWT_SVID, request).await?;
        let now = self.link.now().ok_or(JwtFetchError::NoClock)?;
        IssuedJwt::read_all(answer, audiences, id, now)
    }

    pub(super) async fn validate(&self, audience: &str, token: &str) -> Result<SpiffeId, JwtValidationError> {
        let subject = Token::parse(token)?.subject;
        let request = ValidateJwtSvidRequest {
            audience: audience.to_owned(),
            svid: token.to_owned(),
        };
        let answer: ValidateJwtSvidResponse = self.ask(VALIDATE_JWT_SVID, request).await?;
        if answer.spiffe_id.parse().ok() != Some(subject.clone()) {
            return Err(JwtValidationError::OtherId);
        }
        Ok(subject)
    }

    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A, RpcError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let answer = async {
            // The turns are never closed.
            let _turn = self.turns.acquire().await;
            self.link.channel.call(path, request).await
        };
        let late = RpcError::Timeout { after: CALL_TIMEOUT };
        timeout(CALL_TIMEOUT, answer).await.unwrap_or(Err(late))
    }
}
