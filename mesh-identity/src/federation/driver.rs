use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, time_provider::TimeProvider};
use tokio::sync::{mpsc, watch};

use super::{
    authentication::Authentication,
    fetch::{FetchError, fetch},
    members::{Change, Members},
    polling::{Polling, Step},
    relationship::{EndpointProfile, Relationship},
    url::EndpointUrl,
};
use crate::{
    bundle::{TrustBundles, document::BundleDocument},
    dial::Dialer,
    outside::{now, random, sleep_until},
    profile::Profile,
    source::Publisher,
};

/// Does the work of a [`Federation`](super::Federation): whoever made that polls [`run`](Self::run).
pub struct FederationDriver {
    pub(super) terms: Terms,
    pub(super) members: Members,
    pub(super) publisher: Publisher,
    pub(super) documents: watch::Sender<Vec<Arc<BundleDocument>>>,
    /// Closed when the last handle is gone.
    pub(super) handles: mpsc::Receiver<Infallible>,
}

/// How fetches are made.
pub(super) struct Terms {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) clock: Arc<dyn TimeProvider>,
    pub(super) dialer: Dialer,
    pub(super) deadline: Duration,
    pub(super) profile: Profile,
    pub(super) web_roots: Arc<RootCertStore>,
}

impl FederationDriver {
    /// Fetches bundles until all handles are gone.
    ///
    /// Nothing is spawned: fetches take place within this future, and so do the calls of the
    /// [`BundleStore`](super::BundleStore).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the way to stop. Followers keep what was published last.
    pub async fn run(mut self) {
        let mut polling = Polling::new(self.members.len(), now());
        let mut fetches = FuturesUnordered::new();
        loop {
            let until = match polling.next(now()) {
                Step::Fetch(place) => {
                    let Some(relationship) = self.members.relationship(place) else {
                        continue;
                    };
                    match self.terms.client_config(relationship, &self.members) {
                        Ok(tls) => {
                            fetches.push(self.terms.fetch(place, relationship.url.clone(), tls));
                        }
                        Err(error) => self.settle(&mut polling, place, Err(error)),
                    }
                    continue;
                }
                Step::Wait(until) => until,
            };
            tokio::select! {
                Some((place, result)) = fetches.next() => self.settle(&mut polling, place, result),
                () = sleep_until(until) => {}
                _ = self.handles.recv() => return,
            }
        }
    }

    pub(super) fn publish(&self) {
        self.documents.send_replace(self.members.documents());
        match self.members.snapshot() {
            Ok(snapshot) => self.publisher.publish(snapshot),
            // No two members are of one trust domain.
            Err(error) => self.publisher.report(error),
        }
        self.report(None);
    }

    fn report(&self, place: Option<usize>) {
        if let Some(problem) = self.members.problem(place) {
            self.publisher.report(problem);
        }
    }

    fn settle(&mut self, polling: &mut Polling, place: usize, result: Result<Bytes, FetchError>) {
        let change = match result {
            Ok(text) => self.members.take(place, &text),
            Err(error) => {
                self.members.fail(place, error);
                Change::Nothing
            }
        };
        let hint = self.members.held(place).and_then(|document| document.refresh_hint());
        polling.fetched(place, hint, now(), random());
        match change {
            Change::Bundle => {
                if let Some(relationship) = self.members.relationship(place) {
                    for waiting in self.members.waiting_for(&relationship.trust_domain) {
                        polling.hasten(waiting, now());
                    }
                }
                self.publish();
            }
            // That is how a problem is taken back.
            Change::Recovery => self.publish(),
            Change::Nothing => self.report(Some(place)),
        }
    }
}

impl Terms {
    /// What knows the endpoint of a relationship, by the bundles of this moment.
    fn client_config(&self, relationship: &Relationship, members: &Members) -> Result<ClientConfig, FetchError> {
        let authentication = match &relationship.profile {
            EndpointProfile::HttpsWeb => Authentication::Web(Arc::clone(&self.web_roots)),
            EndpointProfile::HttpsSpiffe { endpoint } => {
                let trust_domain = endpoint.trust_domain();
                let document = members.document(trust_domain).ok_or_else(|| FetchError::NoBundle {
                    trust_domain: trust_domain.clone(),
                })?;
                Authentication::Spiffe {
                    endpoint: endpoint.clone(),
                    trust: TrustBundles::from(document.trust_bundle().clone()),
                    profile: self.profile,
                }
            }
        };
        authentication
            .client_config(&self.provider, &self.clock)
            .map_err(FetchError::Provider)
    }

    fn fetch(
        &self,
        place: usize,
        url: EndpointUrl,
        tls: ClientConfig,
    ) -> impl Future<Output = (usize, Result<Bytes, FetchError>)> + Send + use<> {
        let (dialer, deadline) = (self.dialer.clone(), self.deadline);
        async move { (place, fetch(&url, tls, &dialer, deadline).await) }
    }
}
