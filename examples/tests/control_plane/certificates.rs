//! Certificates, as mesh-identity's own client of Istio's protocol gets them.

use std::sync::Arc;

use mesh_identity::source::istio_ca::{CaAddress, CaConfig, CaRoots, IstioCa, LeaseError, Priority};
use mesh_identity::{Role, SpiffeId, Svid, TrustBundle, provider, verify};
use tokio::task::JoinSet;

use crate::plane::{FAR, NEAR, Plane, control_plane, pod};
use crate::world::{Process, eventually, soon};

fn identity(account: &str) -> SpiffeId {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

struct Agent {
    ca: IstioCa,
    _task: JoinSet<()>,
}

impl Agent {
    fn new(plane: &Plane, address: CaAddress, token: &str) -> Self {
        let config = CaConfig::node_agent(address, plane.token(token), "cluster.local".parse().unwrap());
        let (ca, driver) = IstioCa::new(config, provider::aws_lc_rs());
        let mut task = JoinSet::new();
        task.spawn(driver.run());
        Self { ca, _task: task }
    }

    async fn ask(&self, account: &str) -> Result<Arc<Svid>, LeaseError> {
        let mut lease = self.ca.request(&identity(account), Priority::RealTime).unwrap();
        soon("answer", lease.svid()).await
    }
}

fn plaintext(plane: &Plane) -> CaAddress {
    CaAddress::dangerous_plaintext("127.0.0.1", plane.addr.port()).unwrap()
}

#[tokio::test]
async fn a_node_gets_certificates_of_its_own_workloads_only() {
    let objects = pod("cart", "10.0.0.1", "near") + &pod("till", "10.0.0.2", "far");
    let plane = Plane::start(&objects).await;
    let near = Agent::new(&plane, plaintext(&plane), NEAR);
    assert_eq!(near.ask("cart").await.unwrap().id(), &identity("cart"));

    let refusal = near.ask("till").await.unwrap_err().to_string();
    assert!(refusal.contains("does not run on node `near`"), "{refusal}");
    let logged = plane.process.says("certificate refused").await;
    assert!(
        logged.contains("istio-system/ztunnel") && logged.contains("`spiffe://cluster.local/ns/shop/sa/till`"),
        "{logged}"
    );
    let far = Agent::new(&plane, plaintext(&plane), FAR);
    assert!(far.ask("till").await.is_ok());
    let stranger = Agent::new(&plane, plaintext(&plane), "not-a-token-of-anybody");
    let refusal = stranger.ask("cart").await.unwrap_err().to_string();
    assert!(refusal.contains("no valid bearer token"), "{refusal}");

    // A workload that is gone has no certificate any more.
    plane.change(&pod("till", "10.0.0.2", "far")).await;
    let refusal = Agent::new(&plane, plaintext(&plane), NEAR)
        .ask("cart")
        .await
        .unwrap_err();
    assert!(refusal.to_string().contains("does not run on node `near`"));
}

#[tokio::test]
async fn a_service_account_gets_its_own_certificate_and_no_other() {
    let secret = "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
                  metadata: {name: cart, namespace: shop, annotations: {kubernetes.io/service-account.name: cart}}\n\
                  stringData: {token: token-of-the-cart}\n";
    let plane = Plane::start(&(pod("cart", "10.0.0.1", "near") + secret)).await;
    let own = CaConfig::workload(plaintext(&plane), plane.token("token-of-the-cart"), identity("cart"));
    let (ca, driver) = IstioCa::new(own, provider::aws_lc_rs());
    let mut task = JoinSet::new();
    task.spawn(driver.run());
    let mut lease = ca.request(&identity("cart"), Priority::RealTime).unwrap();
    assert_eq!(soon("certificate", lease.svid()).await.unwrap().id(), &identity("cart"));
    let agent = Agent::new(&plane, plaintext(&plane), "token-of-the-cart");
    assert_eq!(agent.ask("cart").await.unwrap().id(), &identity("cart"));
    let refusal = agent.ask("till").await;
    assert!(refusal.unwrap_err().to_string().contains("speaks for no node"));
}

#[tokio::test]
async fn the_root_is_replaced_in_three_steps_while_it_serves_tls() {
    let roots = |dir: &tempfile::TempDir| dir.path().join("roots.pem").to_str().unwrap().to_owned();
    let plane = Plane::start_with(&pod("cart", "10.0.0.1", "near"), |dir| {
        vec!["--tls".into(), "control.mesh".into(), "--roots".into(), roots(dir)]
    })
    .await;
    let file = roots(&plane.dir);
    let count = || std::fs::read_to_string(&file).unwrap().matches("BEGIN").count();
    let ask = async || {
        let address = CaAddress::new("127.0.0.1", plane.addr.port(), CaRoots::file(&file))
            .and_then(|address| address.server_name("control.mesh"))
            .unwrap();
        Agent::new(&plane, address, NEAR).ask("cart").await
    };
    let step = async |step: &str| {
        plane
            .ask(&format!("POST /authority?step={step} HTTP/1.1\r\nhost: 127.0.0.1"))
            .await
            .0
    };
    ask().await.unwrap();
    assert_eq!((count(), step("activate").await), (1, 409));
    assert_eq!((step("prepare").await, count()), (200, 2));
    ask().await.unwrap();
    let old = std::fs::read_to_string(&file).unwrap();
    assert_eq!((step("activate").await, count()), (200, 2));
    assert_ne!(old, std::fs::read_to_string(&file).unwrap());
    ask().await.unwrap();
    assert_eq!((step("revoke").await, count()), (200, 1));
    ask().await.unwrap();
    assert_eq!(step("revoke").await, 409);
    eventually("log", async || {
        let steps = plane.process.says_times("root replaced in part", 3).await;
        (steps.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_root_that_is_kept_is_the_root_after_a_restart() {
    let mut plane = Plane::start_with(&pod("cart", "10.0.0.1", "near"), |dir| {
        vec!["--state".into(), dir.path().join("state").display().to_string()]
    })
    .await;
    let cart = async |plane: &Plane| {
        let agent = Agent::new(plane, plaintext(plane), NEAR);
        let mut lease = agent.ca.request(&identity("cart"), Priority::RealTime).unwrap();
        let svid = soon("answer", lease.svid()).await.unwrap();
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        let now = rustls_pki_types::UnixTime::now();
        let roots = plane.dump().await["roots"].as_str().unwrap().to_owned();
        (svid, roots, now, algorithms)
    };
    let (before, roots_before, ..) = cart(&plane).await;
    assert_eq!(
        plane
            .ask("POST /authority?step=prepare HTTP/1.1\r\nhost: 127.0.0.1")
            .await
            .0,
        200
    );
    assert_eq!(
        plane
            .ask("POST /authority?step=activate HTTP/1.1\r\nhost: 127.0.0.1")
            .await
            .0,
        200
    );

    // In the middle of a replacement, too: both are believed, and the new one signs.
    plane.restart(async |_| {}).await;
    let (_, roots, now, algorithms) = cart(&plane).await;
    let believed = TrustBundle::from_pem("cluster.local".parse().unwrap(), roots.as_bytes()).unwrap();
    assert_eq!(roots.matches("BEGIN").count(), 2);
    assert!(roots.ends_with(&roots_before));
    verify(before.chain(), Role::Client, &believed.into(), now, algorithms).unwrap();
    assert_eq!(
        plane
            .ask("POST /authority?step=revoke HTTP/1.1\r\nhost: 127.0.0.1")
            .await
            .0,
        200
    );

    let dir = plane.dir.path().to_str().unwrap();
    let state = format!("{dir}/state");
    let mut second = Process::start(control_plane().args(["--bind", "127.0.0.1:0", "--dir", dir, "--state", &state]));
    let (code, lines) = second.end().await;
    assert_eq!(code, Some(2));
    assert!(lines[0].ends_with("state: another control plane uses it"), "{lines:?}");
}

#[tokio::test]
async fn a_step_whose_roots_cannot_be_written_is_said_and_written_later() {
    let plane = Plane::start_with("", |dir| {
        vec!["--roots".into(), dir.path().join("roots.pem").display().to_string()]
    })
    .await;
    let step = async |step: &str| {
        let request = format!("POST /authority?step={step} HTTP/1.1\r\nhost: 127.0.0.1");
        plane.ask(&request).await
    };
    let block = plane.dir.path().join("roots.pem.partial");
    std::fs::create_dir(&block).unwrap();
    let (status, says) = step("prepare").await;
    assert!(status == 500 && says.contains("the step is taken"), "{status} {says}");
    plane.process.says("the roots in force are not in their files").await;
    let (status, says) = step("activate").await;
    assert!(
        status == 409 && says.contains("the last step is not in the files yet"),
        "{status} {says}"
    );
    let dump = plane.dump().await;
    assert!(dump["rootsProblem"].as_str().unwrap().contains("roots.pem: "));

    std::fs::remove_dir(&block).unwrap();
    plane.process.says("the roots in force are in their files").await;
    let written = std::fs::read_to_string(plane.dir.path().join("roots.pem")).unwrap();
    assert_eq!(written.matches("BEGIN").count(), 2);
    assert_eq!(plane.dump().await["rootsProblem"], serde_json::Value::Null);
    assert_eq!(step("activate").await.0, 200);
}
