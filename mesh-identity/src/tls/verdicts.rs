use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustls_pki_types::CertificateDer;

use crate::verify::VerifiedPeer;

/// How many verdicts wait to be collected. An entry lives from the peer's certificate message to
/// the end of its handshake, so this bounds handshakes in that stage, not connections.
const MAX_WAITING: usize = 512;
/// How many bytes their chains may have together. A peer has not shown its key by then, so anybody
/// can present a chain that was seen elsewhere, with as much added to it as a chain may have.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Verdicts about chains, from their verification to the end of their handshakes. Where there are
/// too many, the oldest go.
#[derive(Default)]
pub(super) struct Verdicts {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Oldest first.
    peers: VecDeque<VerifiedPeer>,
    bytes: usize,
}

impl Verdicts {
    pub(super) fn put_aside(&self, peer: VerifiedPeer) {
        let mut waiting = self.waiting();
        waiting.bytes += size(&peer);
        waiting.peers.push_back(peer);
        while waiting.peers.len() > MAX_WAITING || waiting.bytes > MAX_WAITING_BYTES {
            if waiting.take(0).is_none() {
                return;
            }
        }
    }

    /// The oldest verdict about this very chain, which is there no more.
    pub(super) fn collect(&self, chain: &[CertificateDer<'_>]) -> Option<VerifiedPeer> {
        let mut waiting = self.waiting();
        let place = waiting.peers.iter().position(|peer| peer.chain() == chain)?;
        waiting.take(place)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, place: usize) -> Option<VerifiedPeer> {
        let peer = self.peers.remove(place)?;
        self.bytes -= size(&peer);
        Some(peer)
    }
}

fn size(peer: &VerifiedPeer) -> usize {
    peer.chain().iter().map(|certificate| certificate.len()).sum()
}

#[cfg(test)]
#[cfg(all(feature = "aws-lc-rs", feature = "dev-ca"))]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::{
        leaf::Role,
        provider,
        source::dev_ca::DevCa,
        verify::{MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, verify},
    };

    /// The same peer, with so much junk behind its leaf.
    fn peers() -> impl Fn(&[usize]) -> VerifiedPeer {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));
        let ca = DevCa::new("td".parse().unwrap(), now).unwrap();
        let issued = ca.issue(&"spiffe://td/a".parse().unwrap(), now).unwrap();
        let trust = ca.bundle().unwrap().into();
        move |junk| {
            let junk = junk.iter().map(|bytes| CertificateDer::from(vec![0; *bytes]));
            let chain: Vec<_> = issued.chain().iter().cloned().chain(junk).collect();
            let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
            verify(&chain, Role::Client, &trust, now, algorithms).unwrap()
        }
    }

    #[test]
    fn the_oldest_verdicts_go_when_their_chains_take_too_much() {
        let peer = peers();
        let junk = [MAX_CERTIFICATE_BYTES; MAX_CHAIN_CERTIFICATES - 1];
        let (small, large) = (peer(&[]), peer(&junk));
        let verdicts = Verdicts::default();
        verdicts.put_aside(small.clone());
        let fit = MAX_WAITING_BYTES / size(&large);
        for _ in 0..fit {
            verdicts.put_aside(large.clone());
        }
        assert!(verdicts.waiting().bytes <= MAX_WAITING_BYTES);
        assert!(verdicts.collect(small.chain()).is_some());
        for _ in 0..=fit {
            verdicts.put_aside(large.clone());
        }
        assert_eq!(verdicts.waiting().peers.len(), fit);
        assert_eq!(verdicts.waiting().bytes, fit * size(&large));
    }

    #[test]
    fn a_verdict_is_collected_once_and_by_its_own_chain() {
        let peer = peers();
        let (first, second) = (peer(&[1]), peer(&[2]));
        let verdicts = Verdicts::default();
        for _ in 0..MAX_WAITING {
            verdicts.put_aside(first.clone());
        }
        verdicts.put_aside(second.clone());
        assert_eq!(verdicts.waiting().peers.len(), MAX_WAITING);
        assert_eq!(verdicts.collect(second.chain()), Some(second.clone()));
        assert_eq!(verdicts.collect(second.chain()), None);
        for _ in 1..MAX_WAITING {
            assert!(verdicts.collect(first.chain()).is_some());
        }
        assert_eq!(verdicts.collect(first.chain()), None);
        assert_eq!(verdicts.waiting().bytes, 0);
    }
}
