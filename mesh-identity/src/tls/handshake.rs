use std::{fmt, io};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};
use thiserror::Error;

use crate::{authorize::Denied, verify::VerifyError};

/// Why a handshake gave no verified and permitted peer.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's certificate chain identifies nobody who is believed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The peer is verified and may not speak.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The peer presented no certificate.
    #[error("the peer presented no certificate")]
    NoPeerCertificate,
    /// The peer did not agree to `h2` as the application protocol.
    #[error("the peer did not agree to application protocol `h2`")]
    NoApplicationProtocol,
    /// The connection settled on another version than TLS 1.3.
    #[error("the connection does not use TLS 1.3")]
    NotTls13,
    /// A session was resumed, so that the peer's certificate was not verified.
    #[error("the connection resumes a session")]
    Resumed,
    /// The handshake is not complete.
    #[error("the handshake is not complete")]
    Incomplete,
    /// The peer's certificate does not fit its handshake signature: it may not have the key.
    #[error("the peer's handshake signature is wrong")]
    BadHandshakeSignature,
    /// The peer has none of what this side supports.
    #[error("the peer supports no common {0}")]
    Unsupported(Unsupported),
    /// The peer ended the handshake with an alert (RFC 8446 §6).
    #[error("the peer refused with TLS alert `{}`", AlertName(*.0))]
    Alert(AlertDescription),
    /// What the peer sent is not TLS; it probably speaks in the clear.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The peer broke the TLS protocol.
    #[error("the peer broke the TLS protocol: {0}")]
    Protocol(#[source] Error),
    /// The peer closed the connection during the handshake.
    #[error("the peer closed the connection during the handshake")]
    Closed,
    /// The connection failed below TLS.
    #[error("the connection failed: {0}")]
    Io(io::ErrorKind),
    /// The clock could not be read.
    #[error("the clock could not be read")]
    NoClock,
    /// rustls failed for a reason on this side.
    #[error("the handshake failed on this side: {0}")]
    Local(#[source] Error),
}

impl HandshakeError {
    /// What a failed handshake over an I/O stream was about.
    pub fn from_io(error: &io::Error) -> Self {
        let inner = error.get_ref();
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
            return Self::from_rustls(error);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Io(kind),
        }
    }

    /// What an error of rustls was about.
    pub fn from_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(refusal))) => {
                match refusal.downcast_ref::<Self>() {
                    Some(refusal) => refusal.clone(),
                    None => Self::Local(error.clone()),
                }
            }
            // Chains are only ever refused by way of `Other`; what is left is the handshake's own.
            Error::InvalidCertificate(CertificateError::BadSignature) => Self::BadHandshakeSignature,
            Error::NoCertificatesPresented => Self::NoPeerCertificate,
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NoApplicationProtocol,
            Error::AlertReceived(alert) => Self::Alert(*alert),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::PeerIncompatible(incompatible) => match Unsupported::of(incompatible) {
                Some(unsupported) => Self::Unsupported(unsupported),
                None => Self::Protocol(error.clone()),
            },
            Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::InvalidCertificate(_) => Self::Protocol(error.clone()),
            Error::HandshakeNotComplete => Self::Incomplete,
            Error::FailedToGetCurrentTime => Self::NoClock,
            _ => Self::Local(error.clone()),
        }
    }

    /// Who the failure is to be laid at: a certificate that is not believed is the peer's, even
    /// where a bundle of this side is what is out of date.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Io(_) => Blame::Network,
            Self::Incomplete | Self::NoClock | Self::Local(_) => Blame::Local,
            _ => Blame::Peer,
        }
    }

    /// A short name of the failure, fit for a metric's label. It does not change between releases.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Verify(error) => error.reason(),
            Self::Denied(_) => "denied",
            Self::NoPeerCertificate => "no_peer_certificate",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::NotTls13 => "not_tls13",
            Self::Resumed => "resumed",
            Self::Incomplete => "incomplete",
            Self::BadHandshakeSignature => "bad_handshake_signature",
            Self::Unsupported(_) => "unsupported",
            Self::Alert(_) => "alert",
            Self::NotTls => "not_tls",
            Self::Protocol(_) => "protocol",
            Self::Closed => "closed",
            Self::Io(_) => "io",
            Self::NoClock => "no_clock",
            Self::Local(_) => "local",
        }
    }
}

/// Where a failure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer: what it is, what it sent, or that it refused.
    Peer,
    /// This side.
    Local,
    /// What lies between the two.
    Network,
}

/// What two sides have to have in common and do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unsupported {
    /// TLS 1.3.
    Version,
    /// A cipher suite.
    CipherSuite,
    /// A key exchange.
    KeyExchange,
    /// A signature scheme.
    SignatureScheme,
}

impl Unsupported {
    fn of(incompatible: &PeerIncompatible) -> Option<Self> {
        Some(match incompatible {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => Self::Version,
            PeerIncompatible::NoCipherSuitesInCommon => Self::CipherSuite,
            PeerIncompatible::NoKxGroupsInCommon => Self::KeyExchange,
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Self::SignatureScheme,
            _ => return None,
        })
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "TLS version",
            Self::CipherSuite => "cipher suite",
            Self::KeyExchange => "key exchange",
            Self::SignatureScheme => "signature scheme",
        })
    }
}

/// An alert by the name that RFC 8446 gives it, or by its number.
struct AlertName(AlertDescription);

impl fmt::Display for AlertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlertDescription as A;
        f.write_str(match self.0 {
            A::CloseNotify => "close_notify",
            A::UnexpectedMessage => "unexpected_message",
            A::BadRecordMac => "bad_record_mac",
            A::RecordOverflow => "record_overflow",
            A::HandshakeFailure => "handshake_failure",
            A::BadCertificate => "bad_certificate",
            A::UnsupportedCertificate => "unsupported_certificate",
            A::CertificateRevoked => "certificate_revoked",
            A::CertificateExpired => "certificate_expired",
            A::CertificateUnknown => "certificate_unknown",
            A::IllegalParameter => "illegal_parameter",
            A::UnknownCA => "unknown_ca",
            A::AccessDenied => "access_denied",
            A::DecodeError => "decode_error",
            A::DecryptError => "decrypt_error",
            A::ProtocolVersion => "protocol_version",
            A::InsufficientSecurity => "insufficient_security",
            A::InternalError => "internal_error",
            A::MissingExtension => "missing_extension",
            A::UnsupportedExtension => "unsupported_extension",
            A::CertificateRequired => "certificate_required",
            A::NoApplicationProtocol => "no_application_protocol",
            other => return write!(f, "{}", u8::from(other)),
        })
    }
}
