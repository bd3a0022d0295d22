//! What identity costs: verifying a chain, a handshake beside one of bare rustls, keeping ten
//! thousand connections to the trust they began with, and memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark ends with its first failure, and reports what criterion cannot measure"
)]

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mesh_identity::live::{Guard, Live};
use mesh_identity::source::dev_ca::{DevCa, Extension, Issued, Name, Template};
use mesh_identity::source::{FixedSource, Publisher, Snapshot, Source};
use mesh_identity::tls::{ClientTls, Identities, ServerTls};
use mesh_identity::{
    PeerPolicy, RevocationList, Role, SpiffeId, Svid, TrustBundle, TrustBundles, VerifiedPeer, provider, verify,
};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

const CONNECTIONS: usize = 10_000;
/// Different peers among them.
const PEERS: usize = 500;
/// Identities in the measurement of memory.
const IDENTITIES: usize = 1000;

fn benches(c: &mut Criterion) {
    // First, while the process has no freed memory to use again.
    memory();
    verification(c);
    handshakes(c);
    rechecks(c);
}

fn verification(c: &mut Criterion) {
    let (now, ca) = authority();
    let chain = ca
        .intermediate(now)
        .unwrap()
        .issue(&id("cart"), now)
        .unwrap()
        .chain()
        .to_vec();
    assert_eq!(chain.len(), 2);
    let trust = TrustBundles::from(ca.bundle().unwrap());
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    c.bench_function("verify a chain of 2 certificates", |b| {
        b.iter(|| verify(black_box(&chain), Role::Client, &trust, now, algorithms).unwrap());
    });
}

fn handshakes(c: &mut Criterion) {
    let (now, ca) = authority();
    let issuer = ca.intermediate(now).unwrap();
    let (client, server) = (named(&issuer, "client", now), named(&issuer, "server", now));
    let mut group = c.benchmark_group("mutual handshake");
    let bare = (bare_client(&ca, &client), bare_server(&ca, &server));
    let name = ServerName::try_from("server").unwrap();
    group.bench_function("bare rustls", |b| {
        b.iter(|| black_box(shake(&bare.0, &bare.1, &name)));
    });
    let (client, server) = mesh(&ca, &client, &server, now);
    let (near, far) = (client.config(), server.config());
    group.bench_function("mesh", |b| {
        b.iter(|| {
            let (near, far) = shake(&near, &far, &client.server_name());
            black_box((
                client.verified_peer(&near).unwrap(),
                server.verified_peer(&far).unwrap(),
            ))
        });
    });
    group.finish();
}

fn rechecks(c: &mut Criterion) {
    let (now, ca) = authority();
    let next = DevCa::new("cluster.local".parse().unwrap(), now).unwrap();
    let both = bundle(&[ca.root_certificate(), next.root_certificate()]);
    let mut world = World::new(&ca, now);
    let mut group = c.benchmark_group(format!("recheck of {CONNECTIONS} connections"));
    let alone = ca.bundle().unwrap();
    group.bench_function("a root beside theirs comes or goes", |b| {
        let mut bundles = [&both, &alone].into_iter().cycle();
        b.iter(|| world.publish(bundles.next().unwrap().clone()));
    });
    let lists = [[1u8].as_slice(), &[2]].map(|serial| {
        let list = ca.revocation_list([serial], now, later(now)).unwrap();
        let list = RevocationList::from_der(&list).unwrap();
        alone.clone().with_revocation_lists([list]).unwrap()
    });
    group.bench_function("another list of their issuer", |b| {
        let mut bundles = lists.iter().cycle();
        b.iter(|| world.publish(bundles.next().unwrap().clone()));
    });
    let renewed = ca.renew(Template::authority(ca.trust_domain(), now)).unwrap();
    let renewed = bundle(&[&renewed]);
    group.sample_size(10);
    group.bench_function("their root is another certificate, so all are verified", |b| {
        let mut bundles = [&renewed, &alone].into_iter().cycle();
        b.iter(|| world.publish(bundles.next().unwrap().clone()));
    });
    group.finish();
    assert_eq!(world.live.connections(), CONNECTIONS);
}

fn memory() {
    let (now, ca) = authority();
    let provider = provider::aws_lc_rs();
    let issued: Vec<_> = (0..IDENTITIES)
        .map(|n| ca.issue(&id(&n.to_string()), now).unwrap())
        .collect();
    let trust = Arc::new(TrustBundles::from(ca.bundle().unwrap()));
    let before = resident();
    let svids = issued
        .iter()
        .map(|issued| Arc::new(issued.svid(&provider, now).unwrap()));
    let source = FixedSource::new(Snapshot::new(svids, trust));
    let identities = Identities::new(source.follow(), provider).capacity(IDENTITIES);
    let policy = PeerPolicy::member_of(ca.trust_domain().clone());
    for svid in source.follow().snapshot().svids() {
        identities.client(Some(svid.id()), &policy).unwrap();
        identities.server(Some(svid.id()), &policy).unwrap();
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before) / IDENTITIES;
        println!("memory per local identity, with one configuration of each side: {each} bytes");
    }
}

/// Registered connections, and the driver that re-checks them.
struct World {
    own: Arc<Svid>,
    publisher: Publisher,
    live: Live,
    driver: Pin<Box<dyn Future<Output = ()>>>,
    /// The driver's timers.
    runtime: tokio::runtime::Runtime,
    _guards: Vec<Guard>,
}

impl World {
    fn new(ca: &DevCa, now: UnixTime) -> Self {
        let provider = provider::aws_lc_rs();
        let own = Arc::new(ca.issue(&id("own"), now).unwrap().svid(&provider, now).unwrap());
        let publisher = Publisher::new();
        let trust = TrustBundles::from(ca.bundle().unwrap());
        publisher.publish(Snapshot::new([Arc::clone(&own)], Arc::new(trust.clone())));
        let (live, driver) = Live::builder(publisher.follow(), provider).build();
        let scope = live.scope(PeerPolicy::any_authenticated());
        let peers: Vec<_> = (0..PEERS).map(|n| peer(ca, &n.to_string(), &trust, now)).collect();
        let guards = peers
            .iter()
            .cycle()
            .take(CONNECTIONS)
            .map(|peer| scope.register(own.id(), peer.clone()).unwrap())
            .collect();
        Self {
            own,
            publisher,
            live,
            driver: Box::pin(driver),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap(),
            _guards: guards,
        }
    }

    /// Publishes a bundle and has all connections re-checked that it concerns.
    fn publish(&mut self, bundle: TrustBundle) {
        let _timers = self.runtime.enter();
        let snapshot = Snapshot::new([Arc::clone(&self.own)], Arc::new(bundle.into()));
        self.publisher.publish(snapshot);
        // The driver yields between batches and says so by waking.
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            assert!(self.driver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            if !woken.0.swap(false, std::sync::atomic::Ordering::Relaxed) {
                return;
            }
        }
    }
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn authority() -> (UnixTime, DevCa) {
    let now = UnixTime::now();
    (now, DevCa::new("cluster.local".parse().unwrap(), now).unwrap())
}

fn id(name: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/bench/sa/{name}").parse().unwrap()
}

fn peer(ca: &DevCa, name: &str, trust: &TrustBundles, now: UnixTime) -> VerifiedPeer {
    let issued = ca.issue(&id(name), now).unwrap();
    let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
    verify(issued.chain(), Role::Client, trust, now, algorithms).unwrap()
}

/// A certificate with a DNS name as well, by which bare rustls knows servers.
fn named(ca: &DevCa, name: &str, now: UnixTime) -> Issued {
    let names = Extension::names(&[Name::Uri(id(name).to_string()), Name::Dns(name.to_owned())]);
    ca.issue_with(Template {
        names: Some(names.critical(true)),
        ..Template::leaf(&id(name), now)
    })
    .unwrap()
}

fn bundle(roots: &[&CertificateDer<'static>]) -> TrustBundle {
    TrustBundle::new(
        "cluster.local".parse().unwrap(),
        roots.iter().map(|root| (*root).clone()),
    )
    .unwrap()
}

fn later(now: UnixTime) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 3600))
}

fn mesh(ca: &DevCa, client: &Issued, server: &Issued, now: UnixTime) -> (ClientTls, ServerTls) {
    let provider = provider::aws_lc_rs();
    let trust = Arc::new(TrustBundles::from(ca.bundle().unwrap()));
    let svid = |issued: &Issued| Arc::new(issued.svid(&provider, now).unwrap());
    let client = ClientTls::builder(Arc::clone(&provider))
        .identity(svid(client))
        .trust(Arc::clone(&trust))
        .authorize(PeerPolicy::exact(id("server")))
        .build();
    let server = ServerTls::builder(Arc::clone(&provider))
        .identity(svid(server))
        .trust(trust)
        .authorize(PeerPolicy::exact(id("client")))
        .build();
    (client.unwrap(), server.unwrap())
}

fn roots(ca: &DevCa) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root_certificate().clone()).unwrap();
    Arc::new(roots)
}

/// What somebody gets who asks rustls for mutual TLS and no more, with the same settings.
fn bare_client(ca: &DevCa, issued: &Issued) -> Arc<ClientConfig> {
    let provider = provider::aws_lc_rs();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), Arc::clone(&provider));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_client_auth_cert(issued.chain().to_vec(), issued.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Arc::new(config)
}

fn bare_server(ca: &DevCa, issued: &Issued) -> Arc<ServerConfig> {
    let provider = provider::aws_lc_rs();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.clear_root_hint_subjects().build().unwrap())
        .with_single_cert(issued.chain().to_vec(), issued.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &ServerName<'static>,
) -> (ClientConnection, ServerConnection) {
    let mut near = ClientConnection::new(Arc::clone(client), name.clone()).unwrap();
    let mut far = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut wire = Vec::with_capacity(8192);
    while near.wants_write() || far.wants_write() {
        wire.clear();
        while near.wants_write() {
            near.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            far.read_tls(&mut bytes).unwrap();
        }
        far.process_new_packets().unwrap();
        wire.clear();
        while far.wants_write() {
            far.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            near.read_tls(&mut bytes).unwrap();
        }
        near.process_new_packets().unwrap();
    }
    assert!(!near.is_handshaking() && !far.is_handshaking());
    (near, far)
}

/// Bytes of memory that the process occupies, where the system tells.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

criterion_group!(group, benches);
criterion_main!(group);
