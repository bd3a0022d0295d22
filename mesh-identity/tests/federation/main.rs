//! Bundles fetched from endpoints that may answer anything, in tokio's paused time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod endpoints;
mod responses;
mod world;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_identity::{
    BundleDocument, TrustDomain,
    federation::{
        BundleEndpoint, BundleStore, EndpointProfile, EndpointUrlError, Federation, FederationConfig, FederationError,
        Relationship,
    },
    provider,
    source::{FixedSource, MergedSource, Share, Snapshot, Source, dev_ca::DevCa},
};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_web_endpoint_is_asked_as_often_as_its_bundle_says() {
    let mut world = World::new();
    let endpoint = Arc::new(BundleEndpoint::new(world.document(1)));
    world.site("b-web.example", serving(&endpoint));
    let config = world.config().relate(by_web());
    let federation = world.start(config);
    assert_eq!(published(&federation, 1).await, 1);
    assert_eq!(world.web.asked(), ["b-web.example/bundle"]);
    endpoint
        .publish(world.document(2).with_refresh_hint(MINUTE * 10))
        .unwrap();
    published(&federation, 2).await;
    endpoint.publish(world.document(3)).unwrap();
    published(&federation, 3).await;
    let times = world.web.times();
    for (pair, hint) in times.windows(2).zip([MINUTE, MINUTE * 10]) {
        let interval = pair[1] - pair[0];
        assert!(
            interval >= hint * 9 / 10 && interval <= hint + Duration::from_secs(1),
            "{interval:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_no_reason_to_ask_more_often() {
    let mut world = World::new();
    world.site("b-web.example", |_| {
        Some(b"HTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n".to_vec())
    });
    let config = world.config().relate(by_web());
    let federation = world.start(config);
    tokio::time::sleep(MINUTE * 60).await;
    assert!(federation.follow().problem().is_some());
    // Every five minutes, up to a tenth sooner.
    let asked = world.web.asked().len();
    assert!((12..=14).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_bundle_takes_the_place_of_roots() {
    let mut world = World::new();
    let endpoint = Arc::new(BundleEndpoint::new(world.document(1)));
    world.site("b-web.example", serving(&endpoint));
    let config = world.config().relate(by_web());
    let federation = world.start(config);
    published(&federation, 1).await;
    let empty = BundleDocument::new(td("b.example"), [], []).unwrap().with_sequence(2);
    endpoint.publish(empty).unwrap();
    assert_eq!(published(&federation, 2).await, 0);
}

/// A store in memory, that fails when told to.
#[derive(Default)]
struct Shelf {
    texts: Mutex<HashMap<TrustDomain, Vec<u8>>>,
    full: Mutex<bool>,
    saved: Mutex<usize>,
}

impl BundleStore for Shelf {
    fn load(&self, trust_domain: &TrustDomain) -> io::Result<Option<Vec<u8>>> {
        Ok(self.texts.lock().unwrap().get(trust_domain).cloned())
    }

    fn save(&self, document: &BundleDocument) -> io::Result<()> {
        if *self.full.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *self.saved.lock().unwrap() += 1;
        let text = document.to_json().into_bytes();
        self.texts.lock().unwrap().insert(document.trust_domain().clone(), text);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_good_bundle_outlives_the_process() {
    let mut world = World::new();
    let serving = SelfServing::new(&world);
    serving.endpoint.publish(world.document(6)).unwrap();
    let shelf = Arc::new(Shelf::default());
    let store = || Arc::clone(&shelf) as Arc<dyn BundleStore>;
    let config = world
        .config()
        .store(store())
        .relate(by_spiffe().bootstrap(world.document(1)));
    let federation = world.start(config);
    published(&federation, 6).await;
    drop(federation);
    world.driver.join_next().await.unwrap().unwrap();

    world.web.close("b-spiffe.example");
    // Without the bundle to begin with: what is stored replaces it.
    let config = world.config().store(store()).relate(by_spiffe());
    let federation = world.start(config);
    assert_eq!(federation.documents()[0].sequence(), Some(6));
    assert_eq!(
        federation
            .follow()
            .snapshot()
            .trust()
            .get(&td("b.example"))
            .unwrap()
            .len(),
        1
    );
    // Nor is an older one taken after the restart.
    let old = world.document(5).to_json();
    let certificate = world
        .ca
        .issue(&id("spiffe://b.example/endpoint"), world.calendar.now())
        .unwrap();
    world
        .web
        .open("b-spiffe.example", &certificate, move |_| Some(ok(&old)));
    let mut follower = federation.follow();
    loop {
        if problem(&mut follower)
            .await
            .ends_with("sequence number 5, and 6 was seen before")
        {
            break;
        }
        follower.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_reported_and_stops_nothing() {
    let mut world = World::new();
    let endpoint = Arc::new(BundleEndpoint::new(world.document(1)));
    world.site("b-web.example", serving(&endpoint));
    let shelf = Arc::new(Shelf::default());
    shelf.texts.lock().unwrap().insert(td("b.example"), b"rotten".to_vec());
    *shelf.full.lock().unwrap() = true;
    let config = world.config().store(Arc::clone(&shelf) as _).relate(by_web());
    let federation = world.start(config);
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the bundle store holds no bundle"), "{shown}");
    published(&federation, 1).await;
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the bundle store failed"), "{shown}");
    // The same bundle again is no reason to forget that it was not saved.
    tokio::time::sleep(MINUTE * 2).await;
    assert!(world.web.asked().len() > 1);
    let shown = federation.follow().problem().map(|problem| problem.to_string());
    assert!(shown.is_some_and(|shown| shown.contains("the bundle store failed")));
    *shelf.full.lock().unwrap() = false;
    tokio::time::sleep(MINUTE * 2).await;
    assert!(federation.follow().problem().is_none());
    assert_eq!(
        shelf.texts.lock().unwrap()[&td("b.example")],
        world.document(1).to_json().into_bytes()
    );
}

#[tokio::test(start_paused = true)]
async fn a_bundle_to_begin_with_is_saved_once_it_was_fetched_and_no_bundle_twice() {
    let mut world = World::new();
    let body = world.document(1).to_json();
    world.site("b-web.example", move |_| Some(ok(&body)));
    let shelf = Arc::new(Shelf::default());
    for start in 1..=2 {
        let config = world.config().store(Arc::clone(&shelf) as _);
        let federation = world.start(config.relate(by_web().bootstrap(world.document(1))));
        tokio::time::sleep(MINUTE * 5).await;
        assert!(federation.follow().problem().is_none());
        assert_eq!(*shelf.saved.lock().unwrap(), 1, "after start {start}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_trust_domains_success_does_not_hide_anothers_failure() {
    let mut world = World::new();
    let body = world.document(1).to_json();
    world.site("b-web.example", move |_| Some(ok(&body)));
    let url = "https://closed.example/".parse().unwrap();
    let closed = Relationship::new(td("c.example"), url, EndpointProfile::HttpsWeb);
    let config = world.config().relate(by_web()).relate(closed);
    let federation = world.start(config);
    published(&federation, 1).await;
    tokio::time::sleep(MINUTE * 3).await;
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.starts_with("trust domain `c.example`: "), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_cannot_be_reached_takes_nothing_from_ones_own_identity() {
    let mut world = World::new();
    let home = DevCa::new(td("a.example"), world.calendar.now()).unwrap();
    let own = home
        .issue(&id("spiffe://a.example/cart"), world.calendar.now())
        .unwrap();
    let own = own.svid(&provider::aws_lc_rs(), world.calendar.now()).unwrap();
    let own = FixedSource::new(Snapshot::new([Arc::new(own)], Arc::new(home.bundle().unwrap().into())));
    let alone = world.config();
    let down = world.config().relate(by_web());
    for (config, name) in [(alone, "no relationship"), (down, "a partner that is down")] {
        let federation = world.start(config);
        let (merged, driver) = MergedSource::new([(Share::All, own.follow()), (Share::Trust, federation.follow())]);
        world.driver.spawn(driver);
        tokio::time::sleep(MINUTE).await;
        let snapshot = merged.follow().snapshot();
        assert_eq!(snapshot.svids().len(), 1, "{name}");
        assert!(snapshot.trust().get(&td("a.example")).is_some(), "{name}");
        let body = world.document(1).to_json();
        world.site("b-web.example", move |_| Some(ok(&body)));
        tokio::time::sleep(MINUTE * 10).await;
        let trusted = merged.follow().snapshot().trust().iter().count();
        assert_eq!(trusted, if federation.documents().is_empty() { 1 } else { 2 }, "{name}");
        world.web.close("b-web.example");
    }
}

#[tokio::test(start_paused = true)]
async fn relationships_that_contradict_each_other_are_refused() {
    let world = World::new();
    let other = BundleDocument::new(td("c.example"), [], []).unwrap();
    let url = "https://a.example/".parse().unwrap();
    let own = Relationship::new(td("a.example"), url, EndpointProfile::HttpsWeb);
    let refused = |config: FederationConfig| Federation::new(config, provider::aws_lc_rs()).map(|_| ()).unwrap_err();
    assert_eq!(
        refused(world.config().relate(own)),
        FederationError::OwnTrustDomain {
            trust_domain: td("a.example")
        }
    );
    assert_eq!(
        refused(world.config().relate(by_web()).relate(by_spiffe())),
        FederationError::Repeated {
            trust_domain: td("b.example")
        }
    );
    assert_eq!(
        refused(world.config().relate(by_web().bootstrap(other))),
        FederationError::Bootstrap {
            trust_domain: td("b.example"),
            bundle: td("c.example")
        }
    );
    assert_eq!(
        refused(FederationConfig::new(td("a.example")).relate(by_web())),
        FederationError::NoWebRoots {
            trust_domain: td("b.example")
        }
    );
    assert_eq!(
        refused(world.config().web_roots([vec![0x30, 0].into()])),
        FederationError::WebRoot { number: 2 }
    );
    let many = (0..257).fold(world.config(), |config, count| {
        let url = "https://x.example/".parse().unwrap();
        config.relate(Relationship::new(
            td(&format!("t{count}")),
            url,
            EndpointProfile::HttpsWeb,
        ))
    });
    assert_eq!(refused(many), FederationError::TooMany);
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle() {
    let mut world = World::new();
    world.site("b-web.example", |_| None);
    let config = world.config().relate(by_web()).deadline(MINUTE * 60);
    let federation = world.start(config);
    let mut follower = federation.follow();
    let twin = federation.clone();
    drop(federation);
    tokio::time::sleep(MINUTE).await;
    assert!(world.driver.try_join_next().is_none());
    drop(twin);
    world.driver.join_next().await.unwrap().unwrap();
    assert!(follower.changed().await.is_err());
}

#[test]
fn a_url_says_what_is_wrong_with_it() {
    let error = "https://user:secret@b.example/"
        .parse::<mesh_identity::federation::EndpointUrl>()
        .unwrap_err();
    assert_eq!(error, EndpointUrlError::UserInfo);
    assert!(!error.to_string().contains("secret"));
}
