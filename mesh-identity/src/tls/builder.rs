use std::{fmt, marker::PhantomData, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use thiserror::Error;

use crate::{
    authorize::PeerPolicy,
    bundle::TrustBundles,
    profile::Profile,
    svid::Svid,
    tls::{
        end::{End, Parts, Side},
        verifier::{Expectations, PeerVerifier},
    },
};

/// Builds the [`End`] of connections that `S` names.
///
/// The states are passed in one order: [`WantsIdentity`], [`WantsTrust`], [`WantsPolicy`],
/// [`Ready`].
pub struct TlsBuilder<S, State> {
    provider: Arc<CryptoProvider>,
    state: State,
    side: PhantomData<fn() -> S>,
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

impl<S> TlsBuilder<S, WantsIdentity> {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self {
            provider,
            state: WantsIdentity(()),
            side: PhantomData,
        }
    }

    /// Presents `svid` to every peer.
    pub fn identity(self, svid: Arc<Svid>) -> TlsBuilder<S, WantsTrust> {
        self.with(|WantsIdentity(())| WantsTrust { svid })
    }
}

impl<S> TlsBuilder<S, WantsTrust> {
    /// Verifies every peer with the bundle of its own trust domain.
    pub fn trust(self, trust: Arc<TrustBundles>) -> TlsBuilder<S, WantsPolicy> {
        self.with(|WantsTrust { svid }| WantsPolicy { svid, trust })
    }
}

impl<S> TlsBuilder<S, WantsPolicy> {
    /// Lets the peers that `policy` permits speak. For a client these are the servers it means to
    /// reach.
    pub fn authorize(self, policy: PeerPolicy) -> TlsBuilder<S, Ready> {
        self.with(|WantsPolicy { svid, trust }| Ready {
            svid,
            trust,
            policy,
            profile: Profile::default(),
            clock: Arc::new(DefaultTimeProvider),
        })
    }
}

impl<S> TlsBuilder<S, Ready> {
    /// Verifies peers under this profile. The default is [`Profile::istio`].
    pub fn profile(self, profile: Profile) -> Self {
        self.with(|ready| Ready { profile, ..ready })
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    pub fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        self.with(|ready| Ready { clock, ..ready })
    }
}

impl<S: Side> TlsBuilder<S, Ready> {
    /// Makes the configuration.
    ///
    /// # Errors
    ///
    /// A provider without a TLS 1.3 cipher suite or without a key exchange.
    pub fn build(self) -> Result<End<S>, BuildError> {
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
                peer: S::PEER,
                anonymity: S::ANONYMITY,
                trust,
                policy,
                profile,
            },
            provider.signature_verification_algorithms,
            Arc::clone(&clock),
        ));
        End::assemble(Parts {
            provider,
            svid,
            verifier,
            clock,
        })
        .map_err(BuildError::Provider)
    }
}

impl<S, State> TlsBuilder<S, State> {
    /// The same for another side.
    pub(super) fn for_side<Other>(self) -> TlsBuilder<Other, State> {
        TlsBuilder {
            provider: self.provider,
            state: self.state,
            side: PhantomData,
        }
    }

    fn with<Next>(self, step: impl FnOnce(State) -> Next) -> TlsBuilder<S, Next> {
        TlsBuilder {
            provider: self.provider,
            state: step(self.state),
            side: PhantomData,
        }
    }
}

impl<S, State: fmt::Debug> fmt::Debug for TlsBuilder<S, State> {
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
