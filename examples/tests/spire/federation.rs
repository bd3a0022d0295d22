//! Two trust domains.

use std::collections::BTreeSet;
use std::fs;

use mesh_identity::federation::{EndpointProfile, Federation, FederationConfig, Relationship};
use mesh_identity::{BundleDocument, PeerPolicy, provider};
use tokio::task::JoinSet;

use crate::spire::{Server, Workload};
use crate::world::{App, Tunnel, eventually, listen_by, look, serve_by};

/// Has `server` trust `other` for as long as it publishes a bundle.
fn federate(server: &Server, other: &Server) {
    let bundle = tempfile::NamedTempFile::new().unwrap();
    fs::write(bundle.path(), other.run("bundle show", &["-format", "spiffe"])).unwrap();
    let (endpoint, url) = other.bundle_endpoint();
    let profile = [
        "-bundleEndpointProfile",
        "https_spiffe",
        "-endpointSpiffeID",
        &endpoint.to_string(),
    ];
    let place = ["-trustDomain", other.trust_domain.as_str(), "-bundleEndpointURL", &url];
    let start = [
        "-trustDomainBundlePath",
        bundle.path().to_str().unwrap(),
        "-trustDomainBundleFormat",
        "spiffe",
    ];
    server.run("federation create", &[&profile[..], &place[..], &start[..]].concat());
}

#[tokio::test]
async fn tunnels_cross_trust_domains_for_as_long_as_both_federate() {
    let (here, there, echo) = (
        Server::start("here.example").await,
        Server::start("there.example").await,
        App::echo().await,
    );
    federate(&here, &there);
    federate(&there, &here);
    let (near, far) = (here.agent("/near").await, there.agent("/far").await);
    let (client, server) = (here.id("/client"), there.id("/server"));
    here.register("/near", &client, 3600, &["-federatesWith", "spiffe://there.example"]);
    there.register("/far", &server, 3600, &["-federatesWith", "spiffe://here.example"]);
    let (_serving, peer) = serve_by(&far.socket, &client).await;
    let (_dialing, addr) = listen_by(&near.socket, peer, &server, echo.addr).await;
    let mut tunnel = Tunnel::open(addr).await;
    let workload = Workload::of(&near).await;
    let tls = workload.tls(PeerPolicy::exact(server));
    assert!(look(peer, &tls).await.is_some());

    there.run("federation delete", &["-id", "spiffe://here.example"]);
    there.run(
        "bundle delete",
        &["-id", "spiffe://here.example", "-mode", "dissociate"],
    );
    tunnel.is_reset().await;
    assert!(look(peer, &tls).await.is_none());
}

#[tokio::test]
async fn a_bundle_is_fetched_from_the_endpoint_of_a_server() {
    let partner = Server::start("there.example").await;
    let (trust_domain, (endpoint, url)) = (&partner.trust_domain, partner.bundle_endpoint());
    let document = || {
        let text = partner.run("bundle show", &["-format", "spiffe"]);
        BundleDocument::parse(trust_domain.clone(), text.as_bytes()).unwrap()
    };
    let relationship = Relationship::new(
        trust_domain.clone(),
        url.parse().unwrap(),
        EndpointProfile::HttpsSpiffe { endpoint },
    );
    let old = document();
    partner.run("localauthority x509 prepare", &[]);
    partner.run("localauthority jwt prepare", &[]);
    let config = FederationConfig::new("here.example".parse().unwrap()).relate(relationship.bootstrap(old.clone()));
    let (federation, driver) = Federation::new(config, provider::aws_lc_rs()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());

    let newer = async || federation.documents().into_iter().find(|found| **found != old);
    let fetched = eventually("the bundle", newer).await;
    assert_eq!(
        (fetched.x509_authorities().count(), fetched.jwt_authorities().len()),
        (2, 2)
    );
    assert!(fetched.refresh_hint().is_some(), "endpoints say how often to ask");
    assert_eq!(contents(&fetched), contents(&document()));
    assert!(fetched.supersedes(&old));
}

/// What a document holds: SPIRE writes keys in any order.
fn contents(document: &BundleDocument) -> (Option<u64>, BTreeSet<String>, BTreeSet<Vec<u8>>) {
    let keys = document.jwt_authorities().iter();
    let roots = document.x509_authorities();
    (
        document.sequence(),
        keys.map(|key| key.key_id().to_owned()).collect(),
        roots.map(|root| root.to_vec()).collect(),
    )
}
