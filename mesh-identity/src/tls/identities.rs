use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{
    builder::{BuildError, TlsBuilder},
    client::{Client, ClientTls},
    end::{End, Side},
    server::{PermissiveServer, PermissiveServerTls, Server, ServerTls},
    shelf::Shelf,
};
use crate::{
    authorize::PeerPolicy,
    bundle::TrustBundles,
    date::Rfc3339,
    profile::Profile,
    source::{Follower, Problem, Snapshot},
    spiffe_id::SpiffeId,
    svid::Svid,
};

/// All identities of a process as TLS configurations, of what a source last published.
///
/// Ask it once for each connection. A configuration is made once for an identity and a policy, and
/// again only when the source has published anew, so that no connection begins with material that
/// the source has replaced. Nothing is handed out after the source withdrew, nor for an SVID that
/// has expired.
///
/// ```
/// # #[cfg(all(feature = "dev-ca", feature = "aws-lc-rs"))]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
///
/// use mesh_identity::{PeerPolicy, provider, source::{Source, dev_ca::{DevCa, DevCaSource}}, tls::Identities};
/// use rustls_pki_types::UnixTime;
///
/// let (now, provider) = (UnixTime::now(), provider::aws_lc_rs());
/// let ids = ["spiffe://td/cart".parse()?, "spiffe://td/till".parse()?];
/// let ca = DevCa::new("td".parse()?, now)?;
/// let source = DevCaSource::new(ca, ids.clone(), Duration::from_secs(3600), Arc::clone(&provider), now, 0)?;
///
/// let identities = Identities::new(source.follow(), provider);
/// let servers = PeerPolicy::exact(ids[1].clone());
/// let client = identities.client(Some(&ids[0]), &servers)?;
/// assert_eq!(client.identity().id(), &ids[0]);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "dev-ca", feature = "aws-lc-rs")))]
/// # fn main() {}
/// ```
pub struct Identities {
    follower: Follower,
    provider: Arc<CryptoProvider>,
    profile: Profile,
    clock: Arc<dyn TimeProvider>,
    capacity: usize,
    made: Mutex<Made>,
}

/// The configurations of one generation.
#[derive(Default)]
struct Made {
    generation: u64,
    clients: Shelf<ClientTls>,
    servers: Shelf<ServerTls>,
    permissive: Shelf<PermissiveServerTls>,
}

impl Identities {
    /// The identities of the source that `follower` follows, with this cryptography.
    pub fn new(follower: Follower, provider: Arc<CryptoProvider>) -> Self {
        Self {
            follower,
            provider,
            profile: Profile::default(),
            clock: Arc::new(DefaultTimeProvider),
            capacity: 1024,
            made: Mutex::default(),
        }
    }

    /// Verifies peers under this profile. The default is [`Profile::istio`].
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// Judges the validity of certificates by this clock. The default is the system's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn TimeProvider>) -> Self {
        Self { clock, ..self }
    }

    /// How many configurations of each side are kept, at least one; of more, those that were not
    /// asked for the longest are made anew when they are. The default is 1,024, which takes a few
    /// megabytes.
    #[must_use]
    pub fn capacity(self, configurations: usize) -> Self {
        Self {
            capacity: configurations.max(1),
            ..self
        }
    }

    /// The opening side of one identity, or of the default one if none is given, towards the
    /// servers that `policy` permits.
    ///
    /// # Errors
    ///
    /// There is no such identity, or it is not to be used.
    pub fn client(&self, identity: Option<&SpiffeId>, policy: &PeerPolicy) -> Result<ClientTls, IdentityUnavailable> {
        self.hand_out(identity, policy)
    }

    /// The accepting side of one identity, or of the default one if none is given, for the clients
    /// that `policy` permits.
    ///
    /// # Errors
    ///
    /// There is no such identity, or it is not to be used.
    pub fn server(&self, identity: Option<&SpiffeId>, policy: &PeerPolicy) -> Result<ServerTls, IdentityUnavailable> {
        self.hand_out(identity, policy)
    }

    /// As [`server`](Self::server), for clients without a certificate as well.
    ///
    /// # Errors
    ///
    /// There is no such identity, or it is not to be used.
    pub fn permissive_server(
        &self,
        identity: Option<&SpiffeId>,
        policy: &PeerPolicy,
    ) -> Result<PermissiveServerTls, IdentityUnavailable> {
        self.hand_out(identity, policy)
    }

    fn hand_out<S: Shelved>(
        &self,
        identity: Option<&SpiffeId>,
        policy: &PeerPolicy,
    ) -> Result<End<S>, IdentityUnavailable> {
        let now = self.clock.current_time().ok_or(IdentityUnavailable::NoClock)?;
        loop {
            let (generation, snapshot) = self.follower.generation();
            // First of all, so that the keys of what was withdrawn go though nothing takes their place.
            let made = self.made(generation);
            let svid = self.svid(identity, generation, &snapshot, now)?;
            if let Some(end) = made.and_then(|mut made| S::shelf(&mut made).get(svid.id(), policy)) {
                return Ok(end);
            }
            let end = self.make(svid, snapshot.trust(), policy)?;
            if let Some(mut made) = self.made(generation) {
                S::shelf(&mut made).keep(svid.id(), policy, end.clone(), self.capacity);
            }
            // What was published in the meantime counts.
            if self.follower.generation().0 == generation {
                return Ok(end);
            }
        }
    }

    fn svid<'s>(
        &self,
        identity: Option<&SpiffeId>,
        generation: u64,
        snapshot: &'s Snapshot,
        now: UnixTime,
    ) -> Result<&'s Arc<Svid>, IdentityUnavailable> {
        let problem = || self.follower.problem();
        let svid = match identity {
            _ if generation == 0 => return Err(IdentityUnavailable::NotReady { problem: problem() }),
            _ if snapshot.is_empty() => return Err(IdentityUnavailable::Withdrawn { problem: problem() }),
            None => snapshot.default_svid(),
            Some(id) => snapshot.svid(id),
        };
        match (svid, identity) {
            (Some(svid), _) if now > svid.not_after() => Err(IdentityUnavailable::Expired {
                id: svid.id().clone(),
                not_after: svid.not_after(),
            }),
            (Some(svid), _) => Ok(svid),
            (None, Some(id)) => Err(IdentityUnavailable::Unknown { id: id.clone() }),
            (None, None) => Err(IdentityUnavailable::Withdrawn { problem: problem() }),
        }
    }

    fn make<S: Side>(
        &self,
        svid: &Arc<Svid>,
        trust: &Arc<TrustBundles>,
        policy: &PeerPolicy,
    ) -> Result<End<S>, IdentityUnavailable> {
        let builder = TlsBuilder::<S, _>::new(Arc::clone(&self.provider))
            .identity(Arc::clone(svid))
            .trust(Arc::clone(trust))
            .authorize(policy.clone())
            .profile(self.profile)
            .clock(Arc::clone(&self.clock));
        Ok(builder.build()?)
    }

    /// What was made of this generation; nothing if a later one is in use already.
    fn made(&self, generation: u64) -> Option<MutexGuard<'_, Made>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if generation > made.generation {
            *made = Made {
                generation,
                ..Made::default()
            };
        }
        (generation == made.generation).then_some(made)
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities")
            .field("profile", &self.profile)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// A side whose configurations are kept.
trait Shelved: Side {
    fn shelf(made: &mut Made) -> &mut Shelf<End<Self>>;
}

impl Shelved for Client {
    fn shelf(made: &mut Made) -> &mut Shelf<End<Self>> {
        &mut made.clients
    }
}

impl Shelved for Server {
    fn shelf(made: &mut Made) -> &mut Shelf<End<Self>> {
        &mut made.servers
    }
}

impl Shelved for PermissiveServer {
    fn shelf(made: &mut Made) -> &mut Shelf<End<Self>> {
        &mut made.permissive
    }
}

/// Why there is no TLS configuration for an identity.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum IdentityUnavailable {
    /// The source has published nothing yet.
    #[error("there is no identity yet{}", because(.problem.as_ref()))]
    NotReady {
        /// What the source waits for, if it said so.
        problem: Option<Problem>,
    },
    /// The source took back what it had published, or published no identity.
    #[error("the identities were withdrawn{}", because(.problem.as_ref()))]
    Withdrawn {
        /// Why, if the source said so.
        problem: Option<Problem>,
    },
    /// The source has other identities.
    #[error("there is no identity `{id}`")]
    Unknown {
        /// What was asked for.
        id: SpiffeId,
    },
    /// The identity's certificate has expired, and the source has not renewed it.
    #[error("the certificate of `{id}` expired at {}", Rfc3339(*not_after))]
    Expired {
        /// The identity.
        id: SpiffeId,
        /// The last second of its validity.
        not_after: UnixTime,
    },
    /// The clock could not be read.
    #[error("the clock could not be read")]
    NoClock,
    /// The provider makes no configuration.
    #[error(transparent)]
    Build(#[from] BuildError),
}

fn because(problem: Option<&Problem>) -> String {
    problem.map_or_else(String::new, |problem| format!(": {problem}"))
}
