//! Certificates from an Istio CA that may answer anything, in tokio's paused time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod answers;
mod roots;
mod world;

use std::{error::Error, num::NonZeroUsize, sync::Arc, time::Duration};

use mesh_identity::{
    SpiffeId,
    source::{
        Source,
        istio_ca::{CaError, LeaseError, Priority, RequestError},
    },
};
use mesh_testkit::istio_ca::Answer;
use tokio::time::Instant;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_workload_gets_its_own_certificate() {
    let mut world = World::new();
    let config = world.workload().cluster("west").unwrap().lifetime(HOUR);
    let ca = world.start(config);
    let snapshot = ca.follow().ready().await.unwrap();
    let svid = snapshot.default_svid().unwrap();
    assert_eq!(svid.id(), &workload(0));
    let bundle = snapshot.trust().get(&trust_domain()).unwrap();
    assert_eq!(bundle.len(), 1);
    let calls = world.authority.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].token.as_deref(), Some("own-token"));
    assert_eq!(calls[0].cluster.as_deref(), Some("west"));
    assert_eq!(calls[0].impersonated, None);
    assert_eq!(calls[0].signer, None);
    assert_eq!(calls[0].validity, HOUR);
    assert!(calls[0].csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
}

#[tokio::test(start_paused = true)]
async fn a_workload_asks_for_nobody_else() {
    let mut world = World::new();
    let config = world.workload();
    let ca = world.start(config);
    assert_eq!(
        ca.request(&workload(1), Priority::RealTime).unwrap_err(),
        RequestError::NotOwn { own: workload(0) }
    );
    let mut own = ca.request(&workload(0), Priority::RealTime).unwrap();
    assert_eq!(own.svid().await.unwrap().id(), &workload(0));
    drop(own);
    // It was wanted before that lease, and still is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ca.follow().snapshot().default_svid().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_agent_names_whom_it_asks_for() {
    let mut world = World::new();
    let config = world.node_agent().signer("clusterissuers/mesh");
    let ca = world.start(config);
    assert!(world.authority.calls().is_empty());
    let mut lease = ca.request(&workload(3), Priority::Warmup).unwrap();
    assert_eq!(lease.svid().await.unwrap().id(), &workload(3));
    let call = &world.authority.calls()[0];
    assert_eq!(call.impersonated, Some(workload(3).to_string()));
    assert_eq!(call.signer.as_deref(), Some("clusterissuers/mesh"));
    assert_eq!(call.token.as_deref(), Some("node-token"));
}

#[tokio::test(start_paused = true)]
async fn a_node_agent_asks_for_workloads_of_its_trust_domain_only() {
    let mut world = World::new();
    let config = world.node_agent().identities(2);
    let ca = world.start(config);
    let foreign: SpiffeId = "spiffe://other.example/ns/shop/sa/w0".parse().unwrap();
    assert_eq!(
        ca.request(&foreign, Priority::RealTime).unwrap_err(),
        RequestError::ForeignTrustDomain {
            trust_domain: trust_domain()
        }
    );
    assert_eq!(
        ca.request(&SpiffeId::from(trust_domain()), Priority::RealTime)
            .unwrap_err(),
        RequestError::NoWorkload
    );
    let leases = [0, 1].map(|index| ca.request(&workload(index), Priority::RealTime).unwrap());
    assert_eq!(
        ca.request(&workload(2), Priority::RealTime).unwrap_err(),
        RequestError::TooMany { identities: 2 }
    );
    drop(leases);
    assert!(ca.request(&workload(2), Priority::RealTime).is_ok());
}

#[tokio::test(start_paused = true)]
async fn entitlement_is_the_authoritys_to_judge() {
    let mut world = World::new();
    let config = world.node_agent();
    let ca = world.start(config);
    let mut elsewhere = ca.request(&workload(77), Priority::RealTime).unwrap();
    let error = failure(elsewhere.svid().await.unwrap_err());
    let CaError::Status { code, message } = &*error else {
        panic!("{error}");
    };
    assert_eq!(*code, 16);
    assert_eq!(message, "the impersonated identity does not run on this node");
    world.write_token("own-token");
    let error = failure(elsewhere.svid().await.unwrap_err());
    assert!(error.to_string().contains("not a trusted node account"), "{error}");
    assert!(ca.follow().snapshot().is_empty());
    world.write_token("node-token");
    let mut here = ca.request(&workload(7), Priority::RealTime).unwrap();
    assert!(here.svid().await.is_ok());
    // One identity's success does not hide another's failure.
    let shown = next_problem(&mut ca.follow()).await;
    assert!(
        shown.starts_with("`spiffe://cluster.local/ns/shop/sa/w77`: "),
        "{shown}"
    );
    drop(elsewhere);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(problem(&ca.follow()), None);
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_half_way_with_a_new_key() {
    let mut world = World::new();
    world.authority.lifetime(Duration::from_secs(1000));
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    let mut last = Instant::now();
    for calls in 2..12 {
        world.authority.called(calls).await;
        let rest = (Instant::now() - last).as_secs_f64();
        assert!((449.0..=551.0).contains(&rest), "{rest}");
        last = Instant::now();
    }
    let calls = world.authority.calls();
    assert!(calls.windows(2).all(|pair| pair[0].csr != pair[1].csr));
}

#[tokio::test(start_paused = true)]
async fn proxies_that_start_together_do_not_stay_together() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.node_agent();
    let ca = world.start(config);
    let _leases: Vec<_> = (0..20)
        .map(|index| ca.request(&workload(index), Priority::Warmup).unwrap())
        .collect();
    world.authority.called(20).await;
    world.authority.called(21).await;
    let first = Instant::now();
    world.authority.called(40).await;
    assert!(first.elapsed() > Duration::from_secs(60), "{:?}", first.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_kept_until_it_expires_and_not_longer() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    let expiry = Instant::now() + HOUR;
    follower.ready().await.unwrap();
    world.authority.reachable(false);
    let shown = next_problem(&mut follower).await;
    assert!(shown.contains("no connection to the authority"), "{shown}");
    tokio::time::sleep_until(expiry - Duration::from_secs(2)).await;
    assert!(follower.snapshot().default_svid().is_some());
    tokio::time::sleep_until(expiry + Duration::from_secs(2)).await;
    let snapshot = follower.snapshot();
    assert!(snapshot.is_empty());
    assert_eq!(snapshot.trust().iter().count(), 0);
    assert!(problem(&follower).is_some());
    world.authority.reachable(true);
    follower.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_expired_while_the_machine_slept_is_not_used() {
    let mut world = World::new();
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    let awake = Instant::now();
    // More than half of the day that it has.
    world.calendar.skip(HOUR * 14);
    world.authority.called(2).await;
    world.authority.reachable(false);
    world.calendar.skip(HOUR * 36);
    while !follower.snapshot().is_empty() {
        follower.changed().await.unwrap();
    }
    assert!(awake.elapsed() < Duration::from_secs(180), "{:?}", awake.elapsed());
}

#[tokio::test(start_paused = true)]
async fn waits_after_failures_grow_and_a_demand_cuts_them_short() {
    let mut world = World::new();
    world.authority.answer(Answer::Status(14, "restarting".to_owned()));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::Background).unwrap();
    let mut last = Instant::now();
    for (calls, seconds) in [(2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), (6, 8.0), (7, 16.0), (8, 32.0)] {
        world.authority.called(calls).await;
        let wait = last.elapsed().as_secs_f64() / seconds;
        assert!((0.79..=1.21).contains(&wait), "{wait}");
        last = Instant::now();
    }
    // The next attempt is a minute away.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.authority.answer(Answer::Honest);
    let asked = Instant::now();
    lease.svid().await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn demands_do_not_hammer_an_authority_that_refuses() {
    let mut world = World::new();
    world.authority.answer(Answer::Status(16, String::new()));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let began = Instant::now();
    for _ in 0..50 {
        lease.svid().await.unwrap_err();
    }
    let least = Duration::from_millis(500) * 48;
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_token_is_read_for_every_call() {
    let mut world = World::new();
    world.authority.lifetime(HOUR);
    world.authority.admit("next-token", workload(0));
    let config = world.workload();
    let ca = world.start(config);
    let mut follower = ca.follow();
    follower.ready().await.unwrap();
    world.write_token("next-token");
    world.authority.revoke("own-token");
    world.authority.called(2).await;
    assert_eq!(world.authority.calls()[1].token.as_deref(), Some("next-token"));
    world.write_token("");
    let shown = next_problem(&mut follower).await;
    assert!(shown.ends_with("the token is empty"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn eight_calls_at_a_time_and_the_urgent_first() {
    let mut world = World::new();
    world.authority.delay(Duration::from_secs(1));
    let config = world.node_agent();
    let ca = world.start(config);
    let mut leases: Vec<_> = (0..20)
        .map(|index| ca.request(&workload(index), Priority::Background).unwrap())
        .collect();
    world.authority.called(8).await;
    let mut urgent = ca.request(&workload(30), Priority::RealTime).unwrap();
    let warm = ca.request(&workload(31), Priority::Warmup).unwrap();
    urgent.svid().await.unwrap();
    for lease in &mut leases {
        lease.svid().await.unwrap();
    }
    assert_eq!(world.authority.most_at_once(), 8);
    let order: Vec<_> = world
        .authority
        .calls()
        .into_iter()
        .map(|call| call.impersonated.unwrap())
        .collect();
    assert_eq!(order[8], workload(30).to_string());
    assert_eq!(order[9], workload(31).to_string());
    assert_eq!(order.len(), 22);
    drop(warm);
    let config = world.node_agent().concurrent(NonZeroUsize::MIN);
    let mut slow = World::new();
    slow.authority.delay(Duration::from_secs(1));
    let config = config
        .dialer(slow.authority.dialer())
        .clock(Arc::new(slow.calendar.clone()));
    let ca = slow.start(config);
    let _leases = [0, 1, 2].map(|index| ca.request(&workload(index), Priority::RealTime).unwrap());
    slow.authority.called(3).await;
    assert_eq!(slow.authority.most_at_once(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_released_identity_goes_out_of_use() {
    let mut world = World::new();
    let config = world.node_agent();
    let ca = world.start(config);
    let mut stays = ca.request(&workload(0), Priority::RealTime).unwrap();
    let mut goes = ca.request(&workload(1), Priority::RealTime).unwrap();
    let twin = ca.request(&workload(1), Priority::RealTime).unwrap();
    stays.svid().await.unwrap();
    let first = goes.svid().await.unwrap();
    let mut follower = ca.follow();
    while follower.snapshot().svids().len() < 2 {
        follower.changed().await.unwrap();
    }
    drop(goes);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(same(&first, twin.current().as_ref()));
    assert!(same(&first, follower.snapshot().svid(&workload(1))));
    drop(twin);
    follower.changed().await.unwrap();
    let snapshot = follower.snapshot();
    assert_eq!(snapshot.svids().len(), 1);
    assert_eq!(snapshot.default_svid().unwrap().id(), &workload(0));
    let mut again = ca.request(&workload(1), Priority::RealTime).unwrap();
    assert!(!same(&first, Some(&again.svid().await.unwrap())));
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle_and_takes_hope_with_it() {
    let mut world = World::new();
    world.authority.answer(Answer::Silence);
    let config = world.node_agent();
    let ca = world.start(config);
    let lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let mut follower = ca.follow();
    drop(ca);
    world.authority.called(1).await;
    assert!(world.driver.try_join_next().is_none());
    drop(lease);
    world.driver.join_next().await.unwrap().unwrap();
    assert!(follower.changed().await.is_err());

    let config = world.node_agent();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let (waited, ()) = tokio::join!(lease.svid(), async { world.driver.shutdown().await });
    assert!(matches!(waited.unwrap_err(), LeaseError::Ended));
    assert_eq!(
        ca.request(&workload(1), Priority::RealTime).unwrap_err(),
        RequestError::Ended
    );
}

#[tokio::test(start_paused = true)]
async fn neither_tokens_nor_keys_are_shown() {
    let mut world = World::new();
    world.authority.answer(Answer::OtherKey);
    let config = world.workload();
    let shown = format!("{config:?}");
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    let error = failure(lease.svid().await.unwrap_err());
    let mut causes = format!("{error:?}");
    let mut cause: Option<&dyn Error> = error.source();
    while let Some(error) = cause {
        causes.push_str(&format!("{error:?} {error}"));
        cause = error.source();
    }
    let shown = format!("{shown}{ca:?}{lease:?}{causes}{:?}", ca.follow());
    assert!(!shown.contains("own-token") && !shown.contains("PRIVATE"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_gone_leaves_nobody_waiting() {
    let mut world = World::new();
    world.authority.answer(Answer::Silence);
    let config = world.workload();
    let ca = world.start(config);
    let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
    world.authority.called(1).await;
    drop(world.authority);
    for _ in 0..2 {
        let error = failure(lease.svid().await.unwrap_err());
        assert!(!matches!(*error, CaError::Deadline { .. }), "{error}");
    }
}
