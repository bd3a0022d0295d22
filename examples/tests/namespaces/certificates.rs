//! Certificates of who comes and goes, and such as are revoked.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_testkit::clock::Calendar;
use mesh_testkit::istio_ca::FakeIstioCa;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use x509_parser::parse_x509_certificate;

use crate::cluster::{Cluster, Setup, is_reset, residents, section};
use crate::mesh::{ADMIN_PORT, echo, identity, mesh};
use crate::net::{FAR, Host, NEAR, Net};
use crate::world::{App, Pki, eventually, exchange, soon};

/// Identities in files, with lists of those that a node takes for revoked.
fn with_lists(_: &Net, pki: &Pki, host: Host) -> String {
    revoke(pki, host, &[]);
    let sections = residents(host).map(|account| {
        let files = pki.issue(&identity(&account));
        fs::copy(&files.cert, certificate(pki, &account)).unwrap();
        section(&files, &format!("crl = {:?}\n", lists(pki, host)))
    });
    sections.collect()
}

fn lists(pki: &Pki, host: Host) -> PathBuf {
    pki.path().join(format!("{}-crl.pem", host.name))
}

fn certificate(pki: &Pki, account: &str) -> PathBuf {
    pki.path().join(format!("{account}.pem"))
}

/// Has a node take the certificates of these accounts for revoked.
fn revoke(pki: &Pki, host: Host, accounts: &[&str]) {
    let chains = accounts
        .iter()
        .map(|account| CertificateDer::from_pem_file(certificate(pki, account)).unwrap());
    let serials: Vec<_> = chains
        .map(|leaf| parse_x509_certificate(&leaf).unwrap().1.raw_serial().to_vec())
        .collect();
    let now = UnixTime::now();
    let tomorrow = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs() + 86_400));
    let authority = pki.mesh.authority(identity("cart").trust_domain());
    let list = authority
        .revocation_list(serials.iter().map(Vec::as_slice), now, tomorrow)
        .unwrap();
    let text = format!(
        "-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n",
        STANDARD.encode(list)
    );
    let new = lists(pki, host).with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, lists(pki, host)).unwrap();
}

async fn start() -> Cluster {
    let setup = Setup {
        identities: &with_lists,
        ..Setup::default()
    };
    Cluster::with(&setup).await
}

/// Waits until nobody in `from` reaches `to` any more.
async fn is_cut_off(cluster: &Cluster, from: &str, to: &str) {
    eventually("refusal", async || {
        let mut tcp = cluster.net.connect(from, echo(to)).ok()?;
        tcp.write_all(b"1").await.ok();
        soon("answer", tcp.read_exact(&mut [0])).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn crl_inbound_rejects_revoked_cert() {
    let cluster = start().await;
    revoke(&cluster.pki, FAR, &["cart"]);
    is_cut_off(&cluster, "cart", "till").await;
    exchange(cluster.connect("spy", echo("till")), 1, 1000).await;
}

#[tokio::test]
async fn crl_outbound_rejects_revoked_cert() {
    let cluster = start().await;
    revoke(&cluster.pki, NEAR, &["till"]);
    is_cut_off(&cluster, "cart", "till").await;
    exchange(cluster.connect("cart", echo("bank")), 1, 1000).await;
}

#[tokio::test]
async fn crl_inbound_terminates_existing_connection_on_revocation() {
    let cluster = start().await;
    let (lost, kept) = (cluster.open("cart", "till").await, cluster.open("spy", "till").await);
    revoke(&cluster.pki, FAR, &["cart"]);
    is_reset(lost).await;
    exchange(kept, 1, 1000).await;
}

#[tokio::test]
async fn crl_outbound_terminates_existing_connection_on_revocation() {
    let cluster = start().await;
    let (lost, kept) = (cluster.open("cart", "till").await, cluster.open("cart", "bank").await);
    revoke(&cluster.pki, NEAR, &["till"]);
    is_reset(lost).await;
    exchange(kept, 1, 1000).await;
}

/// An authority that is asked from within both nodes.
struct Asked {
    ca: Arc<FakeIstioCa>,
    fronts: Mutex<Vec<App>>,
}

impl Asked {
    fn section(&self, net: &Net, pki: &Pki, host: Host) -> String {
        let addr: SocketAddr = "127.0.0.1:15012".parse().unwrap();
        let token = pki.path().join(format!("{}.token", host.name));
        fs::write(&token, host.name).unwrap();
        self.ca
            .admit_node(host.name, residents(host).map(|account| identity(&account)));
        let ca = Arc::clone(&self.ca);
        let front = App::start_on(net.listen(host.name, addr), move |mut tcp| {
            let ca = Arc::clone(&ca);
            async move {
                if let Ok(mut authority) = ca.connect() {
                    drop(copy_bidirectional(&mut tcp, &mut authority).await);
                }
            }
        });
        self.fronts.lock().unwrap().push(front);
        format!("[identity.istio_ca]\naddress = \"{addr}\"\ntoken = {token:?}\n")
    }
}

/// The identities that a node has certificates for.
async fn known(cluster: &Cluster, host: Host) -> String {
    let mut tcp = cluster
        .net
        .connect(host.name, SocketAddr::new(host.ip.into(), ADMIN_PORT))
        .unwrap();
    let request = "GET /config_dump HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("dump", tcp.read_to_string(&mut answer)).await.unwrap();
    let dump: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    dump["certificates"].to_string()
}

#[tokio::test]
async fn prefetch_forget_certs() {
    let asked = Asked {
        ca: Arc::new(FakeIstioCa::new("cluster.local".parse().unwrap(), Calendar::of_today())),
        fronts: Mutex::default(),
    };
    let setup = Setup {
        identities: &|net, pki, host| asked.section(net, pki, host),
        ..Setup::default()
    };
    let cluster = Cluster::with(&setup).await;
    for host in [NEAR, FAR] {
        eventually("certificates", async || {
            let known = known(&cluster, host).await;
            residents(host)
                .all(|account| known.contains(&format!("{}\"", identity(&account))))
                .then_some(())
        })
        .await;
    }
    let bank = format!("{}\"", identity("bank"));
    let without: String = mesh(FAR, "")
        .lines()
        .filter(|line| !line.contains("uid: bank"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(cluster.pki.path().join("far.yaml"), without).unwrap();
    eventually("an end", async || {
        (!known(&cluster, FAR).await.contains(&bank)).then_some(())
    })
    .await;
    let till = format!("{}\"", identity("till"));
    assert!(known(&cluster, FAR).await.contains(&till));
    exchange(cluster.connect("cart", echo("till")), 1, 1000).await;
}
