use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    authorize::PeerPolicy, bundle::TrustBundles, leaf::Role, profile::Profile, spiffe_id::SpiffeId,
    tls::HandshakeError, verify::verify_under,
};

/// How a bundle endpoint is known, for one fetch.
pub(super) enum Authentication {
    Web(Arc<RootCertStore>),
    Spiffe(EndpointVerifier),
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
            Self::Spiffe(verifier) => builder
                // rustls calls every verifier but its own dangerous.
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Takes the X509-SVID of one endpoint, by whatever name it is reached.
#[derive(Debug)]
pub(super) struct EndpointVerifier {
    trust: TrustBundles,
    policy: PeerPolicy,
    profile: Profile,
    algorithms: WebPkiSupportedAlgorithms,
}

impl EndpointVerifier {
    pub(super) fn new(endpoint: SpiffeId, trust: TrustBundles, profile: Profile, provider: &CryptoProvider) -> Self {
        Self {
            trust,
            policy: PeerPolicy::exact(endpoint),
            profile,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), HandshakeError> {
        let peer = verify_under(self.profile, chain, Role::Server, &self.trust, now, self.algorithms.all)?;
        self.policy.check_under(self.trust.aliases(), peer.id())?;
        Ok(())
    }
}

impl ServerCertVerifier for EndpointVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| CertificateDer::from(certificate.as_ref()))
            .collect();
        match self.judge(&chain, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => Err(CertificateError::Other(OtherError(Arc::new(refusal))).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
