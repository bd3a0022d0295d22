//! Files that are followed: what is taken, what is refused and kept, and what is said about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]
#![cfg(unix)]

mod support;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mesh_identity::{
    Role, SpiffeId, TrustBundle, VerifiedPeer, VerifyError, pem, provider,
    source::{
        Follower, MergedSource, Publisher, Share, Snapshot, Source,
        dev_ca::{DevCa, Issued, Template},
        files::{FileLayout, FileSource},
    },
    verify,
};
use mesh_testkit::clock::Calendar;
use support::*;
use tokio::task::JoinSet;

const INTERVAL: Duration = Duration::from_secs(5);

/// A folder with Istio's files, and a source that follows them in virtual time.
struct World {
    folder: PathBuf,
    ca: DevCa,
    follower: Follower,
    _source: FileSource,
    /// Stops the driver when it is dropped.
    _driver: JoinSet<()>,
}

impl World {
    async fn new(name: &str) -> Self {
        Self::with(name, |layout, _| layout).await
    }

    async fn with(name: &str, layout: impl FnOnce(FileLayout, &Path) -> FileLayout) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("following-{name}"));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let ca = ca(TD);
        write(&folder, &ca, &ca.issue(&workload(), now()).unwrap());
        let layout = layout(FileLayout::istio(td(TD), &folder), &folder);
        let (source, driver) = FileSource::builder(layout, provider::aws_lc_rs())
            .interval(INTERVAL)
            .clock(Arc::new(Calendar::new()))
            .build();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let world = Self {
            folder,
            ca,
            follower: source.follow(),
            _source: source,
            _driver: tasks,
        };
        world.settle().await;
        world
    }

    /// Lets the files be read twice and more.
    async fn settle(&self) {
        tokio::time::sleep(INTERVAL * 3).await;
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// What is said about the files, the folder left out.
    fn problem(&self) -> Option<String> {
        let problem = self.follower.problem()?.to_string();
        assert!(!problem.contains('\n'));
        let folder = format!("{}/", self.folder.display());
        Some(problem.strip_prefix(&folder).expect("names the file").to_owned())
    }

    fn chain(&self) -> Vec<u8> {
        self.follower.snapshot().default_svid().unwrap().chain()[0].to_vec()
    }
}

impl World {
    /// Puts a peer's certificate onto the revocation list.
    fn revoke_a_peer(&self) -> Issued {
        let template = Template {
            serial: Some(vec![7]),
            ..Template::leaf(&id("spiffe://cluster.local/peer"), now())
        };
        let peer = self.ca.issue_with(template).unwrap();
        assert!(self.judge(&peer).is_ok());
        self.put("ca-crl.pem", crl_pem(&self.ca, &[&[7]]));
        peer
    }

    fn judge(&self, peer: &Issued) -> Result<VerifiedPeer, VerifyError> {
        let algorithms = provider::aws_lc_rs().signature_verification_algorithms.all;
        verify(
            peer.chain(),
            Role::Client,
            self.follower.snapshot().trust(),
            now(),
            algorithms,
        )
    }
}

fn write(folder: &Path, ca: &DevCa, issued: &Issued) {
    fs::write(folder.join("cert-chain.pem"), issued.chain_pem()).unwrap();
    fs::write(folder.join("key.pem"), issued.key_pem()).unwrap();
    fs::write(folder.join("root-cert.pem"), ca.roots_pem()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_that_are_written_over_are_taken() {
    let world = World::new("rewritten").await;
    let (before, chain) = (world.follower.generation().0, world.chain());
    assert_eq!(before, 1);
    world.settle().await;
    assert_eq!(world.follower.generation().0, before, "nothing changed");
    let next = world.ca.issue(&workload(), now()).unwrap();
    write(&world.folder, &world.ca, &next);
    world.settle().await;
    assert_eq!(world.follower.generation().0, before + 1);
    assert_ne!(world.chain(), chain);
    assert_eq!(world.chain(), next.chain()[0].to_vec());
    assert_eq!(world.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn half_a_set_is_refused_and_the_old_one_kept_until_it_is_whole() {
    let world = World::new("half").await;
    let chain = world.chain();
    let next = world.ca.issue(&workload(), now()).unwrap();
    world.put("cert-chain.pem", next.chain_pem());
    world.settle().await;
    assert_eq!(world.chain(), chain);
    assert_eq!(
        world.problem().unwrap(),
        "key.pem: the key does not match the certificate"
    );
    world.put("key.pem", next.key_pem());
    world.settle().await;
    assert_eq!(world.chain(), next.chain()[0].to_vec());
    assert_eq!(world.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn each_fault_names_its_file_and_leaves_the_old_set() {
    let world = World::with("faults", |layout, folder| {
        let crl = folder.join("ca-crl.pem");
        fs::write(&crl, crl_pem(&ca(TD), &[])).unwrap();
        layout.with_revocation_lists(crl)
    })
    .await;
    let stranger = ca(TD);
    let renamed = world.ca.issue(&id("spiffe://cluster.local/other"), now()).unwrap();
    let abroad = Template::leaf(&id("spiffe://other/a"), now());
    let abroad = world.ca.issue_with(abroad).unwrap();
    let unbelieved = "cert-chain.pem: peers would not believe this chain: \
                      the certificate was not issued by a root of trust domain `cluster.local`";
    let faults: Vec<(&str, String, &str)> = vec![
        ("root-cert.pem", stranger.roots_pem(), unbelieved),
        ("root-cert.pem", String::new(), "root-cert.pem: no certificate found"),
        (
            "cert-chain.pem",
            "rubbish".into(),
            "cert-chain.pem: no certificate found",
        ),
        ("key.pem", "rubbish".into(), "key.pem: no private key found"),
        ("ca-crl.pem", String::new(), "ca-crl.pem: no revocation list found"),
    ];
    for (file, text, expected) in faults {
        let before = fs::read(world.folder.join(file)).unwrap();
        let (generation, chain) = (world.follower.generation().0, world.chain());
        world.put(file, text);
        world.settle().await;
        assert_eq!(world.problem().as_deref(), Some(expected));
        fs::remove_file(world.folder.join(file)).unwrap();
        world.settle().await;
        assert_eq!(world.problem().unwrap(), format!("{file}: entity not found"));
        assert_eq!((world.follower.generation().0, world.chain()), (generation, chain));
        world.put(file, before);
        world.settle().await;
        assert_eq!(world.problem(), None);
    }
    for (issued, expected) in [
        (
            renamed,
            "cert-chain.pem: the identity was `spiffe://cluster.local/ns/shop/sa/cart` and is now \
             `spiffe://cluster.local/other`",
        ),
        (
            abroad,
            "cert-chain.pem: `spiffe://other/a` is no member of trust domain `cluster.local`",
        ),
    ] {
        write(&world.folder, &world.ca, &issued);
        world.settle().await;
        assert_eq!(world.problem().as_deref(), Some(expected));
    }
}

/// Of a size that no other file of an identity may have.
#[tokio::test(start_paused = true)]
async fn a_large_revocation_list_is_taken() {
    let serials: Vec<[u8; 4]> = (1..40_000_u32).map(u32::to_be_bytes).collect();
    let serials: Vec<&[u8]> = serials.iter().map(<[u8; 4]>::as_slice).collect();
    let list = crl_pem(&ca(TD), &serials);
    assert!(list.len() > pem::MAX_PEM_BYTES);
    let world = World::with("large", |layout, folder| {
        fs::write(folder.join("ca-crl.pem"), &list).unwrap();
        layout.with_revocation_lists(folder.join("ca-crl.pem"))
    })
    .await;
    assert_eq!(world.problem(), None);
    world.put("root-cert.pem", &list);
    world.settle().await;
    assert_eq!(world.problem().unwrap(), "root-cert.pem: larger than 1048576 bytes");
}

fn crl_pem(ca: &DevCa, serials: &[&[u8]]) -> String {
    let der = ca
        .revocation_list(serials.iter().copied(), now(), at(now().as_secs() + 3600))
        .unwrap();
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", base64(&der))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_folder_swapped_behind_a_link_is_taken() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("following-swapped");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    let ca = ca(TD);
    // As the kubelet does: a dated folder, `..data` that points to it, and files that point into that.
    let stage = |date: &str, issued: &Issued| {
        fs::create_dir(folder.join(date)).unwrap();
        write(&folder.join(date), &ca, issued);
        symlink(date, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let first = ca.issue(&workload(), now()).unwrap();
    stage("..2030_01", &first);
    for name in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    let (source, driver) = FileSource::builder(FileLayout::istio(td(TD), &folder), provider::aws_lc_rs())
        .clock(Arc::new(Still(now())))
        .build();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    let mut follower = source.follow();
    let ready = follower.ready().await.unwrap();
    assert_eq!(ready.default_svid().unwrap().chain(), first.chain());
    let second = ca.issue(&workload(), now()).unwrap();
    stage("..2030_02", &second);
    fs::remove_dir_all(folder.join("..2030_01")).unwrap();
    follower.changed().await.unwrap();
    assert_eq!(follower.snapshot().default_svid().unwrap().chain(), second.chain());
    assert_eq!(follower.generation().0, 2);
}

#[tokio::test(start_paused = true)]
async fn files_that_come_late_are_waited_for() {
    let world = World::with("late", |layout, folder| {
        fs::rename(folder.join("key.pem"), folder.join("elsewhere")).unwrap();
        layout
    })
    .await;
    assert_eq!(world.follower.generation().0, 0);
    assert_eq!(world.problem().unwrap(), "key.pem: entity not found");
    fs::rename(world.folder.join("elsewhere"), world.folder.join("key.pem")).unwrap();
    world.settle().await;
    assert_eq!(world.follower.generation().0, 1);
    assert_eq!(world.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn files_that_no_clock_can_judge_are_reported_and_taken_when_one_can() {
    let world = World::new("clock").await;
    let layout = FileLayout::istio(td(TD), &world.folder);
    let clock = Arc::new(Manual::default());
    let (source, driver) = FileSource::builder(layout, provider::aws_lc_rs())
        .clock(clock.clone())
        .build();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    let follower = source.follow();
    world.settle().await;
    assert_eq!(follower.generation().0, 0);
    let said = follower.problem().map(|problem| problem.to_string());
    assert_eq!(said.as_deref(), Some("the clock could not be read"));
    clock.set(Some(now()));
    world.settle().await;
    assert_eq!(follower.generation().0, 1);
    assert!(follower.problem().is_none());
    clock.set(None);
    world.settle().await;
    assert_eq!(follower.generation().0, 1);
    assert!(follower.problem().is_some());
    clock.set(Some(now()));
    world.settle().await;
    assert!(follower.problem().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_nobody_prevented_is_reported_and_a_fault_of_time_heals() {
    let world = World::new("time").await;
    let later = |seconds| at(now().as_secs() + seconds);
    let short = Template {
        not_after: later(200),
        ..leaf()
    };
    write(&world.folder, &world.ca, &world.ca.issue_with(short).unwrap());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.follower.generation().0, 2);
    let expired = "cert-chain.pem: the certificate expired at 2030-03-17T17:50:00Z";
    assert_eq!(world.problem().as_deref(), Some(expired));
    let early = Template {
        not_before: later(600),
        ..leaf()
    };
    write(&world.folder, &world.ca, &world.ca.issue_with(early).unwrap());
    world.settle().await;
    let early = "cert-chain.pem: the certificate is not valid before 2030-03-17T17:56:40Z";
    assert_eq!(world.problem().as_deref(), Some(early));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.problem(), None);
    assert_eq!(world.follower.generation().0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_names_ones_own_certificate_is_used_against_others_all_the_same() {
    let world = World::with("crl", |layout, folder| {
        layout.with_revocation_lists(folder.join("ca-crl.pem"))
    })
    .await;
    assert_eq!(world.problem().unwrap(), "ca-crl.pem: entity not found");
    let issued = world.ca.issue(&workload(), now()).unwrap();
    let serial = x509_parser::parse_x509_certificate(&issued.chain()[0]).unwrap().1;
    write(&world.folder, &world.ca, &issued);
    world.put("ca-crl.pem", crl_pem(&world.ca, &[serial.raw_serial()]));
    world.settle().await;
    assert_eq!(world.problem(), None);
    let snapshot = world.follower.snapshot();
    assert_eq!(snapshot.trust().get(&td(TD)).unwrap().revocation_lists().len(), 1);
}

/// Whom the files revoke, whatever is wrong with one's own chain.
#[tokio::test(start_paused = true)]
async fn a_fault_in_ones_own_chain_holds_up_no_revocation() {
    let stranger = ca(TD);
    let broken = [
        stranger.issue(&workload(), now()).unwrap().chain_pem(),
        "rubbish".to_owned(),
    ];
    for (place, broken) in broken.into_iter().enumerate() {
        let world = World::with(&format!("broken-chain-{place}"), with_empty_list).await;
        let (generation, chain) = (world.follower.generation().0, world.chain());
        world.put("cert-chain.pem", broken);
        world.settle().await;
        let fault = world.problem().unwrap();
        assert!(
            fault.starts_with("cert-chain.pem: ") || fault.starts_with("key.pem: "),
            "{fault}"
        );
        assert_eq!(
            world.follower.generation().0,
            generation,
            "nobody is to be believed less"
        );

        let peer = world.revoke_a_peer();
        world.settle().await;
        assert!(matches!(world.judge(&peer), Err(VerifyError::Revoked { .. })));
        assert_eq!(world.chain(), chain, "what is good for the roots stays in use");
        assert_eq!(world.problem(), Some(fault), "and the fault is still one");
        assert_eq!(world.follower.generation().0, generation + 1);
        world.settle().await;
        assert_eq!(world.follower.generation().0, generation + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_chain_holds_up_no_revocation_and_is_no_identity() {
    let world = World::with("expired-chain", with_empty_list).await;
    let short = Template {
        not_after: at(now().as_secs() + 200),
        ..leaf()
    };
    write(&world.folder, &world.ca, &world.ca.issue_with(short).unwrap());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let peer = world.revoke_a_peer();
    world.settle().await;
    assert!(matches!(world.judge(&peer), Err(VerifyError::Revoked { .. })));
    assert!(world.follower.snapshot().is_empty());
    let expired = "cert-chain.pem: the certificate expired at 2030-03-17T17:50:00Z";
    assert_eq!(world.problem().as_deref(), Some(expired));
    // Who the process is stays what it was.
    let renamed = world.ca.issue(&id("spiffe://cluster.local/other"), now()).unwrap();
    write(&world.folder, &world.ca, &renamed);
    world.settle().await;
    assert!(world.follower.snapshot().is_empty());
    write(&world.folder, &world.ca, &world.ca.issue(&workload(), now()).unwrap());
    world.settle().await;
    assert_eq!(world.follower.snapshot().svids().len(), 1);
    assert_eq!(world.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn roots_that_ones_own_certificate_is_not_under_wait_for_one_that_is() {
    let world = World::with("other-roots", with_empty_list).await;
    let (generation, chain) = (world.follower.generation().0, world.chain());
    let next = ca(TD);
    world.put("root-cert.pem", next.roots_pem());
    world.put("ca-crl.pem", crl_pem(&next, &[]));
    world.settle().await;
    assert_eq!((world.follower.generation().0, world.chain()), (generation, chain));
    write(&world.folder, &next, &next.issue(&workload(), now()).unwrap());
    world.settle().await;
    assert_eq!(world.follower.generation().0, generation + 1);
    assert_eq!(world.problem(), None);
}

fn with_empty_list(layout: FileLayout, folder: &Path) -> FileLayout {
    let list = folder.join("ca-crl.pem");
    fs::write(&list, crl_pem(&ca(TD), &[])).unwrap();
    layout.with_revocation_lists(list)
}

#[tokio::test(start_paused = true)]
async fn roots_from_files_and_an_identity_from_elsewhere() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("following-merged");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    let (ca, other, theirs) = (ca(TD), ca("other"), ca(TD));
    fs::write(folder.join("roots.pem"), ca.roots_pem()).unwrap();
    fs::write(folder.join("other.pem"), other.roots_pem()).unwrap();
    let layout = FileLayout::roots(td(TD), folder.join("roots.pem")).with_bundle(td("other"), folder.join("other.pem"));
    let (files, driver) = FileSource::builder(layout, provider::aws_lc_rs()).build();
    let authority = Publisher::new();
    let svid = svid(&ca.issue(&workload(), now()).unwrap(), &provider::aws_lc_rs());
    authority.publish(Snapshot::new([svid], Arc::new(theirs.bundle().unwrap().into())));
    let (merged, merging) =
        MergedSource::new([(Share::Trust, files.follow()), (Share::Identities, authority.follow())]);
    let mut tasks = JoinSet::new();
    tasks.spawn(driver);
    tasks.spawn(merging);
    let ready = merged.follow().ready().await.unwrap();
    assert_eq!(ready.default_svid().unwrap().id(), &workload());
    assert_eq!(ready.trust().get(&td(TD)), Some(&ca.bundle().unwrap()));
    assert_eq!(ready.trust().get(&td("other")), Some(&other.bundle().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn layouts_name_the_files_of_those_who_write_them() {
    type Make = fn(mesh_identity::TrustDomain, &Path) -> FileLayout;
    let layouts: [(Make, [&str; 3]); 4] = [
        (FileLayout::istio, ["cert-chain.pem", "key.pem", "root-cert.pem"]),
        (
            FileLayout::gke,
            ["certificates.pem", "private_key.pem", "ca_certificates.pem"],
        ),
        (
            FileLayout::spiffe_helper,
            ["svid.pem", "svid_key.pem", "svid_bundle.pem"],
        ),
        (FileLayout::kubernetes_tls, ["tls.crt", "tls.key", "ca.crt"]),
    ];
    let ca = ca(TD);
    let issued = ca.issue(&workload(), now()).unwrap();
    for (place, (layout, names)) in layouts.into_iter().enumerate() {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("following-layout-{place}"));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let texts = [issued.chain_pem(), issued.key_pem(), ca.roots_pem()];
        for (name, text) in names.iter().zip(texts) {
            fs::write(folder.join(name), text).unwrap();
        }
        let (source, driver) = FileSource::builder(layout(td(TD), &folder), provider::aws_lc_rs())
            .clock(Arc::new(Still(now())))
            .build();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        let ready = source.follow().ready().await.unwrap();
        let id: &SpiffeId = ready.default_svid().unwrap().id();
        assert_eq!(id, &workload());
        assert_eq!(ready.trust().iter().map(TrustBundle::len).sum::<usize>(), 1);
    }
}
