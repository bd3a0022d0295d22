//! What policies knew of a request that goes on for long, to be asked again when they change.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::http::request::Parts;
use mesh_policy::authz::Permit;
use mesh_policy::jwt::{Authentication, Authenticator};

use super::Subject;
use super::consult::Agreed;
use super::judge::{admitted, authenticate, with_facts};
use crate::waypoint::client::Client;
use crate::waypoint::snapshot::{Protection, Served};
use crate::waypoint::withdrawal::{Later, Refused};

/// A request as it was judged.
pub(super) struct Standing {
    head: Parts,
    subject: Subject,
    /// What its token comes to, and by whom.
    authentication: Authentication,
    authenticator: Arc<Authenticator>,
    /// Who was asked, and has agreed.
    agreed: Vec<Box<str>>,
}

impl Standing {
    pub(super) fn new(
        agreed: &Agreed,
        subject: &Subject,
        authentication: Authentication,
        authenticator: &Arc<Authenticator>,
    ) -> Self {
        Self {
            head: agreed.head.clone(),
            subject: Subject {
                authority: subject.authority.clone(),
                path: subject.path.clone(),
                opening: None,
                ..*subject
            },
            authentication,
            authenticator: Arc::clone(authenticator),
            agreed: agreed.providers.clone(),
        }
    }

    /// Waits until policies do not let the request pass any more, and tells why.
    pub(super) async fn withdrawn(&mut self, client: &Client, permit: Permit) -> Refused {
        match self.stand(client, permit).await {
            Err(refused) => refused,
            Ok(never) => match never {},
        }
    }

    async fn stand(&mut self, client: &Client, mut permit: Permit) -> Result<Infallible, Refused> {
        let mut later = Later::of(client);
        loop {
            let snapshot = later.next().await?;
            let served = later.served(&snapshot)?;
            let is_as_before = self.authenticate(client, &served).await?;
            permit = self.renew(client, &served, is_as_before.then_some(permit))?;
        }
    }

    /// Looks at the request's token again if others are believed now, or by other keys. Answers whether
    /// none are.
    async fn authenticate(&mut self, client: &Client, served: &Served) -> Result<bool, Refused> {
        let authenticator = served.guard.authenticator.as_ref().map_err(closed)?;
        if Arc::ptr_eq(authenticator, &self.authenticator) {
            return Ok(true);
        }
        client
            .worker
            .gateway
            .keys
            .tried_for(|| authenticator.wanted_keys())
            .await;
        self.authentication = authenticate(client, authenticator, &self.head, &self.subject)?;
        self.authenticator = Arc::clone(authenticator);
        Ok(false)
    }

    /// The permit from before is none for what the token says now.
    fn renew(&self, client: &Client, served: &Served, before: Option<Permit>) -> Result<Permit, Refused> {
        let set = match &served.guard.protection {
            Protection::Policies(set) => set,
            Protection::Closed(reason) => return Err(closed(reason)),
        };
        let claims = self.authentication.claims();
        let answer = with_facts(client, &self.head, &self.subject, claims, |facts| match before {
            Some(permit) => set.renew(permit, facts),
            None => set.decide(facts).admission(),
        });
        Ok(admitted(set, answer, &self.agreed)?)
    }
}

fn closed(reason: &Arc<str>) -> Refused {
    Refused::Closed(Arc::clone(reason))
}
