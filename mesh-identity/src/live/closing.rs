use std::{fmt, time::Duration};

use thiserror::Error;

/// Why a connection is to be closed, or is not to be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The bundle of the peer's trust domain has no root any more that vouches for the peer, or
    /// there is no such bundle.
    #[error("no trusted root vouches for the peer any more")]
    AnchorRemoved,
    /// A revocation list names a certificate of the peer's, or the profile asks for a statement
    /// that the lists do not make.
    #[error("a certificate of the peer was revoked")]
    Revoked,
    /// A certificate of the peer's chain, or the root above it, has expired.
    #[error("the peer's certificate has expired")]
    Expired,
    /// The policy does not permit the peer any more.
    #[error("the peer is not permitted any more")]
    Deauthorized,
    /// The source has taken back the identity that this side presented.
    #[error("this side's identity was withdrawn")]
    Withdrawn,
    /// The future that [`LiveBuilder::build`](super::LiveBuilder::build) gave was dropped, or it
    /// panicked: whatever happens to trust in the peer, nobody would notice.
    #[error("nothing watches over open connections any more")]
    Unattended,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::AnchorRemoved,
        Self::Revoked,
        Self::Expired,
        Self::Deauthorized,
        Self::Withdrawn,
        Self::Unattended,
    ];

    /// A short name, fit for a metric's label. It does not change between releases.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnchorRemoved => "anchor_removed",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Deauthorized => "deauthorized",
            Self::Withdrawn => "withdrawn",
            Self::Unattended => "unattended",
        }
    }
}

/// How soon a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// Nothing new is begun, and what is under way may finish in its time: in HTTP/2, GOAWAY. That
    /// time needs an end, because nothing that happens in it is told any more, be it a revocation.
    Drain,
    /// At once: the peer is not to read or write another byte.
    Abort,
}

/// That a connection is to be closed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Closing {
    reason: CloseReason,
    urgency: Urgency,
}

impl Closing {
    /// Why.
    pub fn reason(self) -> CloseReason {
        self.reason
    }

    /// How soon.
    pub fn urgency(self) -> Urgency {
        self.urgency
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// How connections are closed, by reason.
///
/// The default aborts where the peer may be somebody else by now ([`AnchorRemoved`] and
/// [`Revoked`]) and drains otherwise; expired peers are drained with the last second of their
/// certificate. Where several reasons come at once, one that aborts is given.
///
/// [`AnchorRemoved`]: CloseReason::AnchorRemoved
/// [`Revoked`]: CloseReason::Revoked
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosePolicy {
    /// By the place in [`CloseReason::ALL`].
    urgencies: [Urgency; CloseReason::ALL.len()],
    expiry: Expiry,
}

/// What becomes of a connection whose peer's certificate expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Keep,
    CloseAfter(Duration),
}

impl ClosePolicy {
    /// The same policy with another urgency for one reason.
    #[must_use]
    pub fn urgency(mut self, reason: CloseReason, urgency: Urgency) -> Self {
        for (known, own) in CloseReason::ALL.into_iter().zip(&mut self.urgencies) {
            if known == reason {
                *own = urgency;
            }
        }
        self
    }

    /// The same policy with time for an expired peer to come back with a new certificate: the
    /// connection is closed so much later. Whole seconds count; the default is none.
    #[must_use]
    pub fn expiry_grace(self, grace: Duration) -> Self {
        Self {
            expiry: Expiry::CloseAfter(grace),
            ..self
        }
    }

    /// The same policy, under which expiry closes nothing: what Envoy, ztunnel and other proxies do.
    /// Use it where connections carry what lasts longer than a certificate, such as tunnels between
    /// peers that renew short-lived ones all the time: a drain has a deadline. Whatever else ends
    /// trust in the peer still closes the connection.
    #[must_use]
    pub fn keep_expired(self) -> Self {
        Self {
            expiry: Expiry::Keep,
            ..self
        }
    }

    pub(super) fn closing(&self, reason: CloseReason) -> Closing {
        let mut known = CloseReason::ALL.into_iter().zip(self.urgencies);
        let urgency = known.find(|(known, _)| *known == reason);
        Closing {
            reason,
            urgency: urgency.map_or(Urgency::Abort, |(_, urgency)| urgency),
        }
    }

    /// The first of those reasons that are to be acted upon the soonest.
    pub(super) fn most_urgent(&self, reasons: impl Iterator<Item = CloseReason>) -> Option<CloseReason> {
        reasons.min_by_key(|reason| match self.closing(*reason).urgency {
            Urgency::Abort => 0,
            Urgency::Drain => 1,
        })
    }

    pub(super) fn expiry(&self) -> Expiry {
        self.expiry
    }
}

impl Default for ClosePolicy {
    fn default() -> Self {
        Self {
            urgencies: [Urgency::Drain; CloseReason::ALL.len()],
            expiry: Expiry::CloseAfter(Duration::ZERO),
        }
        .urgency(CloseReason::AnchorRemoved, Urgency::Abort)
        .urgency(CloseReason::Revoked, Urgency::Abort)
    }
}
