use std::sync::Arc;

use rustls::{
    ClientConfig, Error, RootCertStore, client::Resumption, crypto::CryptoProvider, time_provider::TimeProvider,
    version::TLS13,
};

use crate::{
    authorize::PeerPolicy,
    bundle::TrustBundles,
    leaf::Role,
    profile::Profile,
    spiffe_id::SpiffeId,
    tls::{Anonymity, Expectations, PeerVerifier},
};

/// How a bundle endpoint is known, for one fetch.
pub(super) enum Authentication {
    /// By a name that these roots vouch for.
    Web(Arc<RootCertStore>),
    /// By its X509-SVID, by whatever name it is reached.
    Spiffe {
        endpoint: SpiffeId,
        trust: TrustBundles,
        profile: Profile,
    },
}

impl Authentication {
    /// A configuration that settles on TLS 1.3, which every endpoint offers that follows Mozilla's
    /// intermediate recommendations.
    pub(super) fn client_config(
        self,
        provider: &Arc<CryptoProvider>,
        clock: &Arc<dyn TimeProvider>,
    ) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_details(Arc::clone(provider), Arc::clone(clock))
            .with_protocol_versions(&[&TLS13])?;
        let mut config = match self {
            Self::Web(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            Self::Spiffe {
                endpoint,
                trust,
                profile,
            } => {
                let expected = Expectations {
                    peer: Role::Server,
                    anonymity: Anonymity::Refused,
                    trust: Arc::new(trust),
                    policy: PeerPolicy::exact(endpoint),
                    profile,
                };
                let algorithms = provider.signature_verification_algorithms;
                let verifier = PeerVerifier::new(expected, algorithms, Arc::clone(clock));
                builder
                    // rustls calls every verifier but its own dangerous.
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier))
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}
