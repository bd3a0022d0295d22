//! A fake Istio CA: `istio.v1.auth.IstioCertificateService` over gRPC, which may be told to answer anything.
//!
//! It is reached by the [`Dialer`] that [`FakeIstioCa::dialer`] gives, over pipes in memory, so
//! that it lives in tokio's paused time. Everything about it may be changed while clients speak to it; a change is
//! about the calls that arrive after it.

mod accounts;
mod answer;
mod service;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_identity::source::dev_ca::{DevCa, Extension, Name, Template};
use mesh_identity::{Dialer, SpiffeId, TrustDomain, provider};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::answer::{Answer, Change};
use self::service::State;
use crate::clock::Calendar;

/// A certificate authority of one trust domain, as istiod is one.
///
/// It serves for as long as it lives; its connections end with it.
#[derive(Debug)]
pub struct FakeIstioCa {
    state: Arc<Mutex<State>>,
    arrived: watch::Receiver<usize>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

/// What a call brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The bearer token.
    pub token: Option<String>,
    /// The `clusterid` header.
    pub cluster: Option<String>,
    /// The metadata `ImpersonatedIdentity`.
    pub impersonated: Option<String>,
    /// The metadata `CertSigner`.
    pub signer: Option<String>,
    /// How long the certificate is asked to live.
    pub validity: Duration,
    /// The PEM text of the request.
    pub csr: String,
}

impl FakeIstioCa {
    /// An honest authority with a new root, that knows no caller yet and goes by this calendar.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, calendar: Calendar) -> Self {
        let (state, arrived) = State::new(trust_domain, calendar);
        Self {
            state: Arc::new(Mutex::new(state)),
            arrived,
            connections: Arc::default(),
        }
    }

    /// Makes a connection to the authority, whatever the address.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        let (state, connections) = (Arc::clone(&self.state), Arc::downgrade(&self.connections));
        Dialer::new(move |_, _| {
            let accepted = match connections.upgrade() {
                Some(connections) => accept(&state, &connections),
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            };
            async move { accepted }
        })
    }

    /// A connection to the authority, for whoever brings one from elsewhere.
    ///
    /// # Errors
    ///
    /// While the authority is not [reachable](Self::reachable).
    pub fn connect(&self) -> io::Result<tokio::io::DuplexStream> {
        accept(&self.state, &self.connections)
    }

    /// From now on speaks TLS only, as a server of this DNS name; answers with the PEM text of the root to believe.
    pub fn require_tls(&self, name: &str) -> String {
        let now = self.state().calendar.now();
        let web = DevCa::new("web.example".parse().unwrap(), now).unwrap();
        let mut template = Template::leaf(&"spiffe://web.example/istiod".parse().unwrap(), now);
        template.names = Some(Extension::names(&[Name::Dns(name.to_owned())]));
        let issued = web.issue_with(template).unwrap();
        let mut config =
            ServerConfig::builder_with_details(provider::aws_lc_rs(), Arc::new(self.state().calendar.clone()))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(issued.chain().to_vec(), issued.key())
                .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        self.state().tls = Some(Arc::new(config));
        web.roots_pem()
    }

    /// Lets the bearer of `token` have certificates of its own identity.
    pub fn admit(&self, token: &str, id: SpiffeId) {
        self.state().accounts.admit(token, id);
    }

    /// Lets the bearer of `token`, a trusted node account, have certificates of the workloads of its node.
    pub fn admit_node(&self, token: &str, ids: impl IntoIterator<Item = SpiffeId>) {
        self.state().accounts.admit_node(token, ids);
    }

    /// Knows the bearer of `token` no more.
    pub fn revoke(&self, token: &str) {
        self.state().accounts.revoke(token);
    }

    /// Answers like this from now on.
    pub fn answer(&self, answer: Answer) {
        self.state().answer = answer;
    }

    /// Lets every caller wait this long for its answer.
    pub fn delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Gives certificates this long to live; a day at first.
    pub fn lifetime(&self, lifetime: Duration) {
        self.state().lifetime = lifetime;
    }

    /// Refuses connections, or takes them again.
    pub fn reachable(&self, reachable: bool) {
        self.state().reachable = reachable;
    }

    /// Signs with a new root, and from now on hands out that one alone. Answers with it.
    pub fn rotate(&self) -> CertificateDer<'static> {
        let mut state = self.state();
        let authority = DevCa::new(state.authority.trust_domain().clone(), state.calendar.now()).unwrap();
        state.roots = vec![authority.root_certificate().clone()];
        state.authority = authority;
        authority_root(&state)
    }

    /// Hands out these roots, in one element of the answer, whoever signs.
    pub fn hand_out(&self, roots: Vec<CertificateDer<'static>>) {
        self.state().roots = roots;
    }

    /// Signs with an intermediate from now on.
    pub fn delegate(&self) {
        let mut state = self.state();
        state.authority = state.authority.intermediate(state.calendar.now()).unwrap();
    }

    /// The root that signs, be it by way of intermediates.
    #[must_use]
    pub fn root(&self) -> CertificateDer<'static> {
        authority_root(&self.state())
    }

    /// All calls so far, in the order of their arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The most calls that waited for their answers at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    /// Waits until this many calls have arrived since the beginning.
    pub async fn called(&self, times: usize) {
        let mut arrived = self.arrived.clone();
        arrived.wait_for(|arrived| *arrived >= times).await.unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn accept(state: &Arc<Mutex<State>>, connections: &Mutex<JoinSet<()>>) -> io::Result<tokio::io::DuplexStream> {
    const BUFFER: usize = 64 * 1024;
    if !lock(state).reachable {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (near, far) = tokio::io::duplex(BUFFER);
    let mut connections = lock(connections);
    while connections.try_join_next().is_some() {}
    connections.spawn(service::serve(Arc::clone(state), far));
    Ok(near)
}

fn authority_root(state: &State) -> CertificateDer<'static> {
    state.authority.root_certificate().clone()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
