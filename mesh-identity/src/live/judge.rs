use std::time::Duration;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::closing::{ClosePolicy, CloseReason, Expiry};
use crate::{
    authorize::PeerPolicy,
    bundle::{TrustBundle, TrustBundles},
    certificate::Certificate,
    profile::{Profile, ProfileRule},
    source::Snapshot,
    spiffe_id::SpiffeId,
    verify::{Moment, VerifiedPeer, VerifyError, verify_as_of},
};

/// What connections are judged by, besides what changes.
pub(super) struct Rules {
    pub(super) profile: Profile,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) closing: ClosePolicy,
}

/// How far a connection has come.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// It is about to be used.
    New,
    /// It is in use, so the lists of its time were judged to be fresh enough. That they have grown
    /// old since says nothing about its peer.
    Open,
}

/// What a connection depends on.
pub(super) struct Grounds {
    /// The identity that this side presented.
    pub(super) local: SpiffeId,
    pub(super) peer: VerifiedPeer,
    /// Of each certificate of the peer's chain, what revocation lists know it by.
    links: Box<[Link]>,
}

struct Link {
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
}

impl Grounds {
    pub(super) fn new(local: SpiffeId, peer: VerifiedPeer) -> Self {
        let links = peer.chain().iter().filter_map(Link::of).collect();
        Self { local, peer, links }
    }

    /// Whether a revocation list names one of the certificates, whatever its signature is worth.
    pub(super) fn are_listed(&self, bundle: &TrustBundle) -> bool {
        let lists = bundle.revocation_lists();
        self.links
            .iter()
            .any(|link| lists.iter().any(|list| list.lists(&link.issuer, &link.serial)))
    }
}

impl Link {
    /// Nothing for a certificate that cannot be read: no path leads through it.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::parse(certificate).ok()?;
        Some(Self {
            issuer: certificate.issuer.into(),
            serial: certificate.serial.into(),
        })
    }
}

impl Rules {
    /// The last second in which expiry is no reason to close; none if it never is.
    pub(super) fn deadline(&self, peer: &VerifiedPeer) -> Option<UnixTime> {
        match self.closing.expiry() {
            Expiry::Keep => None,
            Expiry::CloseAfter(grace) => {
                let expiry = Duration::from_secs(peer.not_after().as_secs());
                Some(UnixTime::since_unix_epoch(expiry.saturating_add(grace)))
            }
        }
    }

    /// Whether every change of revocation lists may concern every certificate, rather than only
    /// those that are named.
    pub(super) fn ask_for_lists(&self, stage: Stage) -> bool {
        let profile = self.profile(stage);
        profile.enforces(ProfileRule::KnownRevocation) || profile.enforces(ProfileRule::FreshRevocation)
    }

    /// Whether a peer that was once verified is acceptable under `snapshot` and `policy` at `now`.
    /// If it had to be verified anew, that is the answer. Of several reasons against it, the first
    /// of the most urgent ones counts.
    pub(super) fn judge(
        &self,
        grounds: &Grounds,
        stage: Stage,
        policy: &PeerPolicy,
        snapshot: &Snapshot,
        now: UnixTime,
    ) -> Result<Option<VerifiedPeer>, CloseReason> {
        let Grounds { local, peer, .. } = grounds;
        let trust = snapshot.trust();
        let withdrawn = snapshot.svid(local).is_none().then_some(CloseReason::Withdrawn);
        // A source that took back all it had says nothing about peers.
        let verified = match withdrawn {
            Some(reason) if snapshot.is_blank() => return Err(reason),
            _ => self.verify(grounds, stage, trust, now),
        };
        let denied = policy.check_under(trust.aliases(), peer.id()).is_err();
        let denied = denied.then_some(CloseReason::Deauthorized);
        let reasons = [withdrawn, verified.as_ref().err().copied(), denied];
        match self.closing.most_urgent(reasons.into_iter().flatten()) {
            Some(reason) => Err(reason),
            None => verified,
        }
    }

    /// Verifies a peer, if that could fail.
    fn verify(
        &self,
        grounds: &Grounds,
        stage: Stage,
        trust: &TrustBundles,
        now: UnixTime,
    ) -> Result<Option<VerifiedPeer>, CloseReason> {
        let peer = &grounds.peer;
        let bundle = trust.for_members_of(peer.id().trust_domain());
        let bundle = bundle.ok_or(CloseReason::AnchorRemoved)?;
        if self.stand(grounds, stage, bundle, now) {
            return Ok(None);
        }
        let (profile, moment) = (self.profile(stage), self.moment(peer, now));
        let algorithms = self.algorithms.all;
        match verify_as_of(profile, peer.chain(), peer.role(), trust, moment, algorithms) {
            Ok(anew) => Ok(Some(anew)),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Whether verifying anew could not but succeed: signatures and rules are as they were when the
    /// peer was verified, and what else counts is looked at here.
    fn stand(&self, grounds: &Grounds, stage: Stage, bundle: &TrustBundle, now: UnixTime) -> bool {
        let has_lists = !bundle.revocation_lists().is_empty();
        bundle.holds(grounds.peer.anchor())
            && self.deadline(&grounds.peer).is_none_or(|deadline| now <= deadline)
            && !(has_lists && (self.ask_for_lists(stage) || grounds.are_listed(bundle)))
    }

    fn profile(&self, stage: Stage) -> Profile {
        match stage {
            Stage::New => self.profile,
            Stage::Open => self.profile.relaxing(ProfileRule::FreshRevocation),
        }
    }

    /// When to verify: while expiry is no reason to close, as if the peer had not expired.
    fn moment(&self, peer: &VerifiedPeer, now: UnixTime) -> Moment {
        let as_of = match self.deadline(peer) {
            Some(deadline) if now > deadline => now,
            _ => now.min(peer.not_after()),
        };
        Moment { now, as_of }
    }
}

fn reason(error: &VerifyError) -> CloseReason {
    match error {
        VerifyError::Revoked { .. }
        | VerifyError::RevocationUnknown
        | VerifyError::RevocationListExpired { .. }
        | VerifyError::RevocationListSignature
        | VerifyError::RevocationListIssuer => CloseReason::Revoked,
        VerifyError::Expired { .. }
        | VerifyError::NotYetValid { .. }
        | VerifyError::AnchorExpired { .. }
        | VerifyError::AnchorNotYetValid { .. } => CloseReason::Expired,
        _ => CloseReason::AnchorRemoved,
    }
}
