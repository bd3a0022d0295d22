use std::{mem, sync::Arc};

use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;
use tokio::sync::watch;

use super::{
    stream::{Feed, StreamError},
    wire::{FETCH_X509_SVID, X509SvidResponse},
    x509::Material,
};
use crate::{source::follower::Publisher, spiffe_id::SpiffeId};

/// Publishes what the X.509 stream says.
pub(super) struct Identities {
    provider: Arc<CryptoProvider>,
    material: Material,
    publisher: Publisher,
    hints: watch::Sender<Vec<(String, SpiffeId)>>,
    /// Why there is nothing newer.
    problem: Option<StreamError>,
}

impl Identities {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            material: Material::default(),
            publisher: Publisher::new(),
            hints: watch::Sender::default(),
            problem: None,
        }
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(super) fn hints(&self) -> watch::Receiver<Vec<(String, SpiffeId)>> {
        self.hints.subscribe()
    }
}

impl Feed for Identities {
    type Message = X509SvidResponse;
    const PATH: &'static str = FETCH_X509_SVID;

    fn take(&mut self, message: &X509SvidResponse, now: UnixTime) -> Result<(), StreamError> {
        self.material = Material::read(message, &self.provider, now)?;
        self.problem = None;
        self.hints.send_replace(self.material.hints());
        self.publisher.publish(self.material.snapshot());
        Ok(())
    }

    fn report(&mut self, problem: StreamError) {
        self.problem = Some(problem.clone());
        self.publisher.report(problem);
    }

    fn withdraw(&mut self, reason: StreamError) {
        if mem::take(&mut self.material).is_empty() {
            return self.report(reason);
        }
        self.problem = Some(reason.clone());
        self.hints.send_replace(Vec::new());
        self.publisher.withdraw(reason);
    }

    fn expire(&mut self, now: UnixTime) {
        if self.material.expire(now) {
            let problem = self.problem.clone().unwrap_or(StreamError::NotRenewed);
            self.hints.send_replace(self.material.hints());
            self.publisher.publish(self.material.snapshot());
            self.report(problem);
        }
    }

    fn expires(&self) -> Option<UnixTime> {
        self.material.expires()
    }
}
