use std::{fmt, sync::Arc};

use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};

use super::verifier::{Anonymity, PeerVerifier};
use crate::{authorize::PeerPolicy, leaf::Role, svid::Svid};

/// One end of mesh connections: an identity, and the peers that may speak to it. Cloning is cheap.
///
/// The ends are [`ClientTls`](super::ClientTls), [`ServerTls`](super::ServerTls) and
/// [`PermissiveServerTls`](super::PermissiveServerTls).
pub struct End<S: Side> {
    config: Arc<S::Config>,
    svid: Arc<Svid>,
    pub(super) verifier: Arc<PeerVerifier>,
}

impl<S: Side> End<S> {
    pub(super) fn assemble(parts: Parts) -> Result<Self, rustls::Error> {
        let (svid, verifier) = (Arc::clone(&parts.svid), Arc::clone(&parts.verifier));
        Ok(Self {
            config: Arc::new(S::configure(parts)?),
            svid,
            verifier,
        })
    }

    /// The configuration for a connection of rustls, or whatever drives one.
    ///
    /// A handshake under it is not the whole check: ask who the peer is before anything else is
    /// done with the connection.
    pub fn config(&self) -> Arc<S::Config> {
        Arc::clone(&self.config)
    }

    /// The identity that is presented.
    pub fn identity(&self) -> &Arc<Svid> {
        &self.svid
    }

    /// Which peers may speak.
    pub fn policy(&self) -> &PeerPolicy {
        self.verifier.policy()
    }
}

impl<S: Side> Clone for End<S> {
    fn clone(&self) -> Self {
        Self {
            config: Arc::clone(&self.config),
            svid: Arc::clone(&self.svid),
            verifier: Arc::clone(&self.verifier),
        }
    }
}

impl<S: Side> fmt::Debug for End<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(S::NAME)
            .field("identity", &self.svid)
            .field("peers", &self.verifier)
            .finish_non_exhaustive()
    }
}

/// Which end of a connection: [`Client`](super::Client), [`Server`](super::Server) or
/// [`PermissiveServer`](super::PermissiveServer), and nothing else.
#[expect(private_bounds, reason = "there are no other ends")]
pub trait Side: Configure {
    /// The configuration that rustls has for this end.
    type Config;
}

/// How one end differs from the others.
pub(super) trait Configure: Sized {
    const NAME: &'static str;
    /// What the other side is.
    const PEER: Role;
    const ANONYMITY: Anonymity;

    fn configure(parts: Parts) -> Result<<Self as Side>::Config, rustls::Error>
    where
        Self: Side;
}

/// What all ends are made of.
pub(super) struct Parts {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) svid: Arc<Svid>,
    pub(super) verifier: Arc<PeerVerifier>,
    pub(super) clock: Arc<dyn TimeProvider>,
}
