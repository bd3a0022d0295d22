//! What policies knew of a request that goes on for long, to be asked again when they change.

use std::sync::Arc;

use hyper::http::request::Parts;
use mesh_policy::authz::{Admission, Permit};
use mesh_policy::jwt::Authentication;

use super::Subject;
use super::consult::Agreed;
use super::judge::with_facts;
use crate::admission::admit;
use crate::waypoint::client::Client;
use crate::waypoint::snapshot::{Protection, Served};
use crate::waypoint::withdrawal::{Refused, withdrawn};

/// A request as it was judged.
pub(super) struct Standing {
    head: Parts,
    subject: Subject,
    authentication: Authentication,
    /// Who was asked, and has agreed.
    agreed: Vec<Box<str>>,
}

impl Standing {
    pub(super) fn new(agreed: &Agreed, subject: &Subject, authentication: Authentication) -> Self {
        Self {
            head: agreed.head.clone(),
            subject: Subject {
                authority: subject.authority.clone(),
                path: subject.path.clone(),
                opening: None,
                ..*subject
            },
            authentication,
            agreed: agreed.providers.clone(),
        }
    }

    /// Waits until policies do not let the request pass any more, and tells why.
    pub(super) async fn withdrawn(&self, client: &Client, permit: Permit) -> Refused {
        withdrawn(client, permit, |_, served, permit| self.renew(client, served, permit)).await
    }

    fn renew(&self, client: &Client, served: &Served, permit: Permit) -> Result<Permit, Refused> {
        let closed = |reason: &Arc<str>| Refused::Closed(Arc::clone(reason));
        served.guard.authenticator.as_ref().map_err(closed)?;
        let set = match &served.guard.protection {
            Protection::Policies(set) => set,
            Protection::Closed(reason) => return Err(closed(reason)),
        };
        let has_agreed = |name: &str| self.agreed.iter().any(|agreed| **agreed == *name);
        let claims = self.authentication.claims();
        with_facts(client, &self.head, &self.subject, claims, |facts| {
            match set.renew(permit, facts) {
                Admission::Ask(consultation) if consultation.providers(set).all(has_agreed) => {
                    Ok(consultation.all_agreed())
                }
                answer => Ok(admit(set, answer)?),
            }
        })
    }
}
