use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};
use rustls_pki_types::UnixTime;
use thiserror::Error;

use super::{
    authority::{DevCa, DevCaError, Issued},
    encode,
    request::CertificateRequest,
    template::Template,
};
use crate::{
    bundle::{BundleError, TrustBundle, TrustBundles},
    outside::reached,
    source::{
        follower::{Follower, Publisher, Source},
        snapshot::Snapshot,
    },
    spiffe_id::SpiffeId,
    svid::{Svid, SvidError},
};

/// How long [`DevCaSource::run`] waits after a renewal failed.
const RETRY: Duration = Duration::from_secs(5);

/// A development authority as a source: it issues SVIDs anew before they expire, and its root can
/// be replaced without anybody noticing.
///
/// A root is replaced in three steps, and each has to have reached every process before the next:
///
/// 1. [`prepare`](Self::prepare): the next root is believed and signs nothing.
/// 2. [`activate`](Self::activate): the next root signs, and all SVIDs are issued anew. The last
///    root is believed as long as its SVIDs are in use.
/// 3. [`revoke`](Self::revoke): the last root is not believed any more.
pub struct DevCaSource {
    provider: Arc<CryptoProvider>,
    ids: Vec<SpiffeId>,
    lifetime: Duration,
    publisher: Publisher,
    state: Mutex<State>,
}

struct State {
    active: DevCa,
    prepared: Option<DevCa>,
    retired: Option<DevCa>,
    svids: Vec<Arc<Svid>>,
    trust: Arc<TrustBundles>,
    due: UnixTime,
}

impl DevCaSource {
    /// A source of SVIDs for `ids`, the default one first, that `ca` signs for `lifetime` each.
    ///
    /// `random` is any number; it spreads the first renewal, as in [`renew`](Self::renew).
    ///
    /// # Errors
    ///
    /// An ID that is no workload of the authority's trust domain, an authority that cannot issue,
    /// or a provider that cannot use its keys.
    pub fn new(
        ca: DevCa,
        ids: impl IntoIterator<Item = SpiffeId>,
        lifetime: Duration,
        provider: Arc<CryptoProvider>,
        now: UnixTime,
        random: u32,
    ) -> Result<Self, RotationError> {
        let ids: Vec<_> = ids.into_iter().collect();
        let svids = issue(&ca, &ids, lifetime, &provider, now)?;
        let source = Self {
            provider,
            ids,
            lifetime,
            publisher: Publisher::new(),
            state: Mutex::new(State {
                trust: Arc::new(ca.bundle()?.into()),
                active: ca,
                prepared: None,
                retired: None,
                svids,
                due: renewal(now, lifetime, random),
            }),
        };
        source.publish(&source.state());
        Ok(source)
    }

    /// Issues all SVIDs anew. The next time is between 45 % and 50 % of their life; `random`, which
    /// is any number, says where, so that processes that started together part.
    ///
    /// # Errors
    ///
    /// The authority cannot issue. What was published stays, with the error as the source's
    /// problem, and the renewal stays due.
    pub fn renew(&self, now: UnixTime, random: u32) -> Result<(), RotationError> {
        let mut state = self.state();
        match issue(&state.active, &self.ids, self.lifetime, &self.provider, now) {
            Ok(svids) => {
                state.svids = svids;
                state.due = renewal(now, self.lifetime, random);
                self.publish(&state);
                Ok(())
            }
            Err(error) => {
                self.publisher.report(error.clone());
                Err(error)
            }
        }
    }

    /// Has the root of `next` believed besides the active one. `next` signs nothing yet, and takes
    /// the place of another authority that was prepared.
    ///
    /// # Errors
    ///
    /// `next` is of another trust domain, or its root breaks a rule.
    pub fn prepare(&self, next: DevCa) -> Result<(), RotationError> {
        let mut state = self.state();
        if next.trust_domain() != state.active.trust_domain() {
            return Err(RotationError::OtherTrustDomain);
        }
        let trust = trust(&state.active, [&next].into_iter().chain(&state.retired))?;
        state.prepared = Some(next);
        state.trust = trust;
        self.publish(&state);
        Ok(())
    }

    /// Has the prepared authority sign, and issues all SVIDs anew. The root of the one before stays
    /// believed.
    ///
    /// # Errors
    ///
    /// No authority is prepared, the last root has not been revoked yet, or the prepared authority
    /// cannot issue. Nothing has changed then.
    pub fn activate(&self, now: UnixTime, random: u32) -> Result<(), RotationError> {
        let mut state = self.state();
        if state.retired.is_some() {
            return Err(RotationError::StillRetiring);
        }
        let next = state.prepared.as_ref().ok_or(RotationError::NotPrepared)?;
        let svids = issue(next, &self.ids, self.lifetime, &self.provider, now)?;
        if let Some(next) = state.prepared.take() {
            state.retired = Some(std::mem::replace(&mut state.active, next));
        }
        state.svids = svids;
        state.due = renewal(now, self.lifetime, random);
        self.publish(&state);
        Ok(())
    }

    /// Has the root that was active before no longer believed.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn revoke(&self) -> Result<(), RotationError> {
        let mut state = self.state();
        if state.retired.is_none() {
            return Err(RotationError::NothingRetired);
        }
        state.trust = trust(&state.active, state.prepared.iter())?;
        state.retired = None;
        self.publish(&state);
        Ok(())
    }

    /// A certificate made after `template` for the key of `request`, as Istio's authority answers:
    /// PEM texts, the leaf first, and in the last one all roots that are believed, the one that
    /// signs at the front. As with [`DevCa::certify`], nothing is checked.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn certify(&self, request: &CertificateRequest, template: Template) -> Result<Vec<String>, DevCaError> {
        let state = self.state();
        let chain = state.active.certify(request, template)?;
        let chain = chain.iter().map(|certificate| encode::pem("CERTIFICATE", certificate));
        Ok(chain.chain([state.roots_pem()]).collect())
    }

    /// A certificate made after `template`, with a new key, by the authority that signs now. Nothing
    /// is checked.
    ///
    /// # Errors
    ///
    /// The generator fails, or cannot express the template.
    pub fn issue_with(&self, template: Template) -> Result<Issued, DevCaError> {
        self.state().active.issue_with(template)
    }

    /// All roots that are believed as PEM text, the one that signs first.
    pub fn roots_pem(&self) -> String {
        self.state().roots_pem()
    }

    /// When [`renew`](Self::renew) is to be called next.
    pub fn due(&self) -> UnixTime {
        self.state().due
    }

    /// Renews whenever it is due, by this clock and with these random numbers; after a failure
    /// every five seconds. Never completes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost: another call goes on.
    pub async fn run(&self, clock: &dyn TimeProvider, mut random: impl FnMut() -> u32 + Send) {
        loop {
            let now = reached(clock, self.due()).await;
            if self.renew(now, random()).is_err() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn publish(&self, state: &State) {
        let svids = state.svids.iter().cloned();
        self.publisher.publish(Snapshot::new(svids, Arc::clone(&state.trust)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn roots_pem(&self) -> String {
        let authorities = [&self.active].into_iter().chain(&self.prepared).chain(&self.retired);
        authorities.map(DevCa::roots_pem).collect()
    }
}

impl Source for DevCaSource {
    fn follow(&self) -> Follower {
        self.publisher.follow()
    }
}

impl fmt::Debug for DevCaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevCaSource")
            .field("ids", &self.ids)
            .finish_non_exhaustive()
    }
}

/// Why a [`DevCaSource`] did not take a step.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The authority did not issue.
    #[error(transparent)]
    Issue(#[from] DevCaError),
    /// What the authority issued is no identity.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// A root makes no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The next authority is one of another trust domain.
    #[error("the next authority is one of another trust domain")]
    OtherTrustDomain,
    /// There is no next authority.
    #[error("no authority is prepared")]
    NotPrepared,
    /// The root before the active one is still believed.
    #[error("the last root has not been revoked")]
    StillRetiring,
    /// There is no root before the active one.
    #[error("there is no last root")]
    NothingRetired,
}

fn issue(
    ca: &DevCa,
    ids: &[SpiffeId],
    lifetime: Duration,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<Vec<Arc<Svid>>, RotationError> {
    ids.iter()
        .map(|id| {
            ca.check_ours(id)?;
            let issued = ca.issue_with(Template {
                not_after: later(now, lifetime),
                ..Template::leaf(id, now)
            })?;
            Ok(Arc::new(issued.svid(provider, now)?))
        })
        .collect()
}

fn trust<'a>(active: &'a DevCa, others: impl Iterator<Item = &'a DevCa>) -> Result<Arc<TrustBundles>, RotationError> {
    let roots = [active.root_certificate()]
        .into_iter()
        .chain(others.map(DevCa::root_certificate));
    let bundle = TrustBundle::new(active.trust_domain().clone(), roots.cloned())?;
    Ok(Arc::new(bundle.into()))
}

/// When SVIDs that were issued at `now` are to be issued anew.
fn renewal(now: UnixTime, lifetime: Duration, random: u32) -> UnixTime {
    let twentieth = u64::from(random).saturating_mul(lifetime.as_secs() / 20) / u64::from(u32::MAX);
    later(now, lifetime / 2 - Duration::from_secs(twentieth))
}

fn later(now: UnixTime, span: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()).saturating_add(span))
}
