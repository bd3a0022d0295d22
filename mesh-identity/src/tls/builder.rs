use std::{fmt, marker::PhantomData, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use thiserror::Error;

use crate::{
    authorize::PeerPolicy,
    bundle::TrustBundles,
    leaf::Role,
    profile::Profile,
    svid::Svid,
    tls::verifier::{Expectations, PeerVerifier},
};

/// Builds a [`ServerTls`](super::ServerTls) or a [`ClientTls`](super::ClientTls), `T`.
///
/// The states are passed in one order: [`WantsIdentity`], [`WantsTrust`], [`WantsPolicy`],
/// [`Ready`].
pub struct TlsBuilder<T, State> {
    provider: Arc<CryptoProvider>,
    state: State,
    side: PhantomData<fn() -> T>,
}

/// One's own identity is to be given.
#[derive(Debug)]
pub struct WantsIdentity(());

/// The bundles that peers are verified with are to be given.
#[derive(Debug)]
pub struct WantsTrust {
    svid: Arc<Svid>,
}

/// It is to be said which verified peers may speak.
#[derive(Debug)]
pub struct WantsPolicy {
    svid: Arc<Svid>,
    trust: Arc<TrustBundles>,
}

/// Everything compulsory is there.
#[derive(Debug)]
pub struct Ready {
    svid: Arc<Svid>,
    trust: Arc<TrustBundles>,
    policy: PeerPolicy,
    profile: Profile,
    clock: Arc<dyn TimeProvider>,
}

/// One side of a connection, as its builder sees it.
pub(super) trait Side: Sized {
    /// What the other side is.
    const PEER: Role;

    fn assemble(parts: Parts) -> Result<Self, rustls::Error>;
}

/// What both sides are made of.
pub(super) struct Parts {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) svid: Arc<Svid>,
    pub(super) verifier: Arc<PeerVerifier>,
    pub(super) clock: Arc<dyn TimeProvider>,
}

impl<T> TlsBuilder<T, WantsIdentity> {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            state: WantsIdentity(()),
            side: PhantomData,
        }
    }

    /// Presents `svid` to every peer.
    pub fn identity(self, svid: Arc<Svid>) -> TlsBuilder<T, WantsTrust> {
        self.with(|WantsIdentity(())| WantsTrust { svid })
    }
}

impl<T> TlsBuilder<T, WantsTrust> {
    /// Verifies every peer with the bundle of its own trust domain.
    pub fn trust(self, trust: Arc<TrustBundles>) -> TlsBuilder<T, WantsPolicy> {
        self.with(|WantsTrust { svid }| WantsPolicy { svid, trust })
    }
}

impl<T> TlsBuilder<T, WantsPolicy> {
    /// Lets the peers that `policy` permits speak. For a client these are the servers it means to
    /// reach.
    pub fn authorize(self, policy: PeerPolicy) -> TlsBuilder<T, Ready> {
        self.with(|WantsPolicy { svid, trust }| Ready {
            svid,
            trust,
            policy,
            profile: Profile::default(),
            clock: Arc::new(DefaultTimeProvider),
        })
    }
}

impl<T> TlsBuilder<T, Ready> {
    /// Verifies peers under this profile. The default is [`Profile::istio`].
    pub fn profile(self, profile: Profile) -> Self {
        self.with(|ready| Ready { profile, ..ready })
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    pub fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        self.with(|ready| Ready { clock, ..ready })
    }
}

#[expect(private_bounds, reason = "the two sides are the only ones there are")]
impl<T: Side> TlsBuilder<T, Ready> {
    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// A provider without a TLS 1.3 cipher suite or without a key exchange.
    pub fn build(self) -> Result<T, BuildError> {
        let Self {
            provider,
            state:
                Ready {
                    svid,
                    trust,
                    policy,
                    profile,
                    clock,
                },
            side: PhantomData,
        } = self;
        if !provider.cipher_suites.iter().any(|suite| suite.tls13().is_some()) {
            return Err(BuildError::NoCipherSuite);
        }
        if provider.kx_groups.is_empty() {
            return Err(BuildError::NoKeyExchange);
        }
        let verifier = Arc::new(PeerVerifier::new(
            Expectations {
                peer: T::PEER,
                trust,
                policy,
                profile,
            },
            provider.signature_verification_algorithms,
            Arc::clone(&clock),
        ));
        T::assemble(Parts {
            provider,
            svid,
            verifier,
            clock,
        })
        .map_err(BuildError::Provider)
    }
}

impl<T, State> TlsBuilder<T, State> {
    fn with<Next>(self, step: impl FnOnce(State) -> Next) -> TlsBuilder<T, Next> {
        TlsBuilder {
            provider: self.provider,
            state: step(self.state),
            side: PhantomData,
        }
    }
}

impl<T, State: fmt::Debug> fmt::Debug for TlsBuilder<T, State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsBuilder")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Why a provider makes no configuration.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The provider has no TLS 1.3 cipher suite.
    #[error("the crypto provider has no TLS 1.3 cipher suite")]
    NoCipherSuite,
    /// The provider has no key exchange.
    #[error("the crypto provider has no key exchange")]
    NoKeyExchange,
    /// rustls refuses the provider for another reason.
    #[error("the crypto provider is not usable: {0}")]
    Provider(#[source] rustls::Error),
}
