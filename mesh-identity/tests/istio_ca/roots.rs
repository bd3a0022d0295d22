//! Roots: of the certificates, and of the authority itself.

use std::path::Path;

use mesh_identity::{
    BundleError, TrustBundle,
    source::{
        Follower, Source,
        dev_ca::DevCa,
        istio_ca::{AnswerError, CaAddress, CaConfig, CaError, CaRoots, ConnectError, Priority},
    },
};
use rustls_pki_types::CertificateDer;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn roots_are_those_of_the_certificates_in_use() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.node_agent();
    let ca = world.start(config);
    let mut old = ca.request(&workload(0), Priority::RealTime).unwrap();
    old.svid().await.unwrap();
    let before = world.authority.root();
    let after = world.authority.rotate();
    let mut new = ca.request(&workload(1), Priority::RealTime).unwrap();
    new.svid().await.unwrap();
    let mut follower = ca.follow();
    while follower.snapshot().svids().len() < 2 {
        follower.changed().await.unwrap();
    }
    assert!(trusts(&follower, &before) && trusts(&follower, &after));
    drop(old);
    follower.changed().await.unwrap();
    assert!(!trusts(&follower, &before) && trusts(&follower, &after));
}

/// Each answer alone would do. Were the last one held, nothing could be published any more, and what has to go
/// would stay.
#[tokio::test(start_paused = true)]
async fn an_answer_whose_roots_are_too_many_together_with_the_others_is_refused() {
    let mut world = World::new();
    let roots = |count: usize| {
        let mut roots = vec![world.authority.root()];
        roots.extend((0..count).map(|_| {
            let root = DevCa::new(trust_domain(), world.calendar.now()).unwrap();
            root.root_certificate().clone()
        }));
        roots
    };
    let (first, second) = (roots(150), roots(150));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut follower = ca.follow();
    world.authority.hand_out(first.clone());
    let mut kept = ca.request(&workload(0), Priority::RealTime).unwrap();
    let mut released = ca.request(&workload(1), Priority::RealTime).unwrap();
    kept.svid().await.unwrap();
    released.svid().await.unwrap();

    world.authority.hand_out(second.clone());
    let mut excess = ca.request(&workload(2), Priority::RealTime).unwrap();
    let error = failure(excess.svid().await.unwrap_err());
    assert!(
        matches!(*error, CaError::Answer(AnswerError::Roots(BundleError::TooManyRoots))),
        "{error}"
    );
    assert!(trusts(&follower, &first[150]) && !trusts(&follower, &second[150]));
    drop(released);
    while follower.snapshot().svids().len() != 1 {
        follower.changed().await.unwrap();
    }
    drop(kept);
    while follower.snapshot().svid(&workload(2)).is_none() {
        follower.changed().await.unwrap();
    }
    assert!(!trusts(&follower, &first[150]) && trusts(&follower, &second[150]));
}

#[tokio::test(start_paused = true)]
async fn several_roots_may_come_in_one_element() {
    let mut world = World::new();
    let next = DevCa::new(trust_domain(), world.calendar.now()).unwrap();
    let roots = vec![next.root_certificate().clone(), world.authority.root()];
    world.authority.hand_out(roots.clone());
    world.authority.delegate();
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    let snapshot = follower.ready().await.unwrap();
    assert_eq!(snapshot.default_svid().unwrap().chain().len(), 2);
    assert!(roots.iter().all(|root| trusts(&follower, root)));
}

#[tokio::test(start_paused = true)]
async fn configured_roots_are_believed_in_place_of_those_in_the_answer() {
    let mut world = World::new();
    let other = DevCa::new(trust_domain(), world.calendar.now()).unwrap();
    let config = world.workload().roots(other.bundle().unwrap());
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let error = failure(lease.svid().await.unwrap_err());
    assert!(matches!(*error, CaError::Answer(AnswerError::Verify(_))), "{error}");
    let mut world = World::new();
    let own = TrustBundle::new(trust_domain(), [world.authority.root()]).unwrap();
    world.authority.hand_out(vec![other.root_certificate().clone()]);
    let config = world.workload().roots(own);
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    assert!(trusts(&follower, &world.authority.root()));
    assert!(!trusts(&follower, other.root_certificate()));
}

/// Whether a certificate under `root` would be believed, told by the root's key.
fn trusts(follower: &Follower, root: &CertificateDer<'_>) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let (_, certificate) = X509Certificate::from_der(root).unwrap();
    let snapshot = follower.snapshot();
    let bundle = snapshot.trust().get(&trust_domain()).unwrap();
    bundle.has_anchor(certificate.public_key().raw)
}

fn secure(world: &World, roots: CaRoots, name: Option<&str>) -> CaConfig {
    let mut address = CaAddress::new("istiod.istio-system.svc", 15012, roots).unwrap();
    if let Some(name) = name {
        address = address.server_name(name).unwrap();
    }
    world.write_token("own-token");
    world.complete(CaConfig::workload(address, world.token.path(), workload(0)))
}

#[tokio::test(start_paused = true)]
async fn the_authority_is_known_by_name_and_root() {
    let mut world = World::new();
    let text = world.authority.require_tls("istiod.istio-system.svc");
    let roots = || CaRoots::from_pem(text.as_bytes()).unwrap();
    let config = secure(&world, roots(), None);
    world.start(config).follow().ready().await.unwrap();
    let stranger = DevCa::new("web.example".parse().unwrap(), world.calendar.now()).unwrap();
    let other = CaRoots::from_pem(stranger.roots_pem().as_bytes()).unwrap();
    for (roots, name) in [
        (other, None),
        (roots(), Some("istiod.other.svc")),
        (roots(), Some("10.0.0.1")),
    ] {
        let config = secure(&world, roots, name);
        let ca = world.start(config);
        let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
        let error = failure(lease.svid().await.unwrap_err());
        assert!(matches!(&*error, CaError::Connect(ConnectError::Tls(_))), "{error}");
    }
    // The token went nowhere but to the authority.
    assert_eq!(world.authority.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_file_of_the_authoritys_roots_is_read_for_every_connection() {
    let mut world = World::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(Path::new(file.path()), text).unwrap();
    write("");
    let config = secure(&world, CaRoots::file(file.path()), None);
    let ca = world.start(config);
    let mut follower = ca.follow();
    let shown = next_problem(&mut follower).await;
    assert!(shown.ends_with("no certificate found"), "{shown}");
    for name in ["istiod.istio-system.svc"; 2] {
        let calls = world.authority.calls().len();
        write(&world.authority.require_tls(name));
        world.authority.lifetime(HOUR);
        world.authority.called(calls + 1).await;
    }
}
