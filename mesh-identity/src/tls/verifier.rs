use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, CommonState, DigitallySignedStruct, DistinguishedName, Error, HandshakeKind, OtherError,
    PeerIncompatible, ProtocolVersion, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{handshake::HandshakeError, verdicts::Verdicts};
use crate::{
    authorize::PeerPolicy,
    bundle::TrustBundles,
    leaf::Role,
    profile::Profile,
    verify::{VerifiedPeer, verify_under},
};

/// The application protocol of mesh traffic (RFC 9113 §3.1).
pub(super) const ALPN: &[u8] = b"h2";

/// Verifies and authorizes peers, for both sides of rustls.
///
/// rustls keeps nothing of what a verifier finds out, and checking the signatures of a chain is
/// about half of a handshake's cost. So each verdict is put aside under the exact chain that it is
/// about, and collected after the handshake.
pub(crate) struct PeerVerifier {
    expected: Expectations,
    algorithms: WebPkiSupportedAlgorithms,
    clock: Arc<dyn TimeProvider>,
    verdicts: Verdicts,
}

/// What a peer has to be.
pub(crate) struct Expectations {
    pub(crate) peer: Role,
    pub(crate) anonymity: Anonymity,
    pub(crate) trust: Arc<TrustBundles>,
    pub(crate) policy: PeerPolicy,
    pub(crate) profile: Profile,
}

/// What becomes of clients that present no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anonymity {
    Refused,
    Admitted,
}

impl PeerVerifier {
    pub(crate) fn new(
        expected: Expectations,
        algorithms: WebPkiSupportedAlgorithms,
        clock: Arc<dyn TimeProvider>,
    ) -> Self {
        Self {
            expected,
            algorithms,
            clock,
            verdicts: Verdicts::default(),
        }
    }

    pub(super) fn policy(&self) -> &PeerPolicy {
        &self.expected.policy
    }

    /// Whose connection this is, and whether it is one that this verifier stands behind.
    pub(super) fn finish(&self, connection: &CommonState) -> Result<VerifiedPeer, HandshakeError> {
        if connection.is_handshaking() {
            return Err(HandshakeError::Incomplete);
        }
        match connection.handshake_kind() {
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => {}
            // rustls asks no verifier about a session that is resumed.
            Some(HandshakeKind::Resumed) => return Err(HandshakeError::Resumed),
            None => return Err(HandshakeError::Incomplete),
        }
        if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(HandshakeError::NotTls13);
        }
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(HandshakeError::NoApplicationProtocol);
        }
        let chain = connection
            .peer_certificates()
            .ok_or(HandshakeError::NoPeerCertificate)?;
        let now = self.clock.current_time().ok_or(HandshakeError::NoClock)?;
        match self.verdicts.collect(chain) {
            Some(peer) if now <= peer.not_after() => Ok(peer),
            _ => self.admit(chain, now),
        }
    }

    /// Verifies a chain and asks the policy about its leaf.
    fn admit(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedPeer, HandshakeError> {
        let Expectations {
            peer,
            anonymity: _,
            trust,
            policy,
            profile,
        } = &self.expected;
        let verified = verify_under(*profile, chain, *peer, trust, now, self.algorithms.all)?;
        policy.check_under(trust.aliases(), verified.id())?;
        Ok(verified)
    }

    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|certificate| CertificateDer::from(certificate.as_ref()))
            .collect();
        let peer = self
            .admit(&chain, now)
            .map_err(|refusal| CertificateError::Other(OtherError(Arc::new(refusal))))?;
        self.verdicts.put_aside(peer);
        Ok(())
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.expected.anonymity == Anonymity::Refused
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
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

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier")
            .field("peer", &self.expected.peer)
            .field("anonymity", &self.expected.anonymity)
            .field("trust", &self.expected.trust)
            .field("policy", &self.expected.policy)
            .field("profile", &self.expected.profile)
            .finish_non_exhaustive()
    }
}
