//! Files that are replaced under a program that runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mesh_identity::PeerPolicy;
use mesh_identity::source::dev_ca::DevCa;
use mesh_testkit::ca::{client, server};
use rustls::pki_types::UnixTime;
use tokio::time::Instant;

use crate::pair::Served;
use crate::world::{App, Files, Tunnel, look};

/// Writes a new certificate of `authority` over the server's, as an agent's helper does.
fn renew(files: &Files, authority: &DevCa) {
    let (folder, cert) = (files.cert.parent().unwrap(), &files.cert);
    let new = authority.issue(&server(), UnixTime::now()).unwrap();
    let written = new.write(folder, "renewed").unwrap();
    fs::rename(written.key, &files.key).unwrap();
    fs::rename(written.chain, cert).unwrap();
}

fn authority(served: &Served) -> &DevCa {
    served.pki.mesh.authority(server().trust_domain())
}

#[tokio::test]
async fn a_renewed_certificate_reaches_new_connections_and_leaves_tunnels_alone() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let dialing = served.listen(echo.addr).await;
    let mut tunnel = Tunnel::open(dialing.addr).await;
    let tls = served.pki.mesh.client_tls(&client(), PeerPolicy::exact(server()));
    let before = look(served.addr, &tls).await.unwrap();
    renew(&served.server_files, authority(&served));
    let line = served.server.says("svid rotated: ").await;
    assert!(line.contains(&server().to_string()), "{line}");
    let after = look(served.addr, &tls).await.unwrap();
    assert_ne!(before.chain()[0], after.chain()[0]);
    tunnel.exchange().await;
    tunnel.finish().await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_named() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let dialing = served.listen(echo.addr).await;
    let mut tunnel = Tunnel::open(dialing.addr).await;
    let path: &Path = &served.server_files.cert;
    let good = fs::read(path).unwrap();
    fs::write(path, "no certificate").unwrap();
    let line = served.server.says(&path.display().to_string()).await;
    assert!(line.contains("identity=\"kept\""), "{line}");
    tunnel.exchange().await;
    dialing.exchange(1000).await;

    fs::write(path, good).unwrap();
    renew(&served.server_files, authority(&served));
    served.server.says("svid rotated: ").await;
    dialing.exchange(1000).await;
    tunnel.finish().await;
}

#[tokio::test]
async fn tunnels_end_within_a_second_of_the_root_that_vouched_for_their_peer() {
    let (served, echo) = (Served::start().await, App::echo().await);
    let dialing = served.listen(echo.addr).await;
    let mut tunnel = Tunnel::open(dialing.addr).await;
    let new = DevCa::new(server().trust_domain().clone(), UnixTime::now()).unwrap();
    renew(&served.server_files, &new);
    fs::write(&served.server_files.roots, new.roots_pem()).unwrap();
    let written = Instant::now();
    tunnel.is_reset().await;
    assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
    let line = served.server.says("connection aborted").await;
    assert!(
        line.contains("reason=no trusted root vouches for the peer any more"),
        "{line}"
    );
    let tls = served.pki.mesh.client_tls(&client(), PeerPolicy::exact(server()));
    assert!(look(served.addr, &tls).await.is_none());
}
