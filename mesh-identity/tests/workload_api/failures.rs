//! Agents that refuse, fall silent, vanish or come back.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_identity::source::{Source as _, dev_ca::Template, workload_api::WorkloadApi};
use mesh_testkit::pipe::{self, Direction};
use mesh_testkit::workload_api::{Call, FakeWorkloadApi, Reply, X509Entry, X509Message, code};
use tokio::{
    io::copy_bidirectional,
    net::TcpListener,
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn the_stream_is_asked_for_with_the_security_header() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    let call = Call {
        method: "FetchX509SVID".to_owned(),
        has_header: true,
        fields: vec![],
    };
    assert_eq!(world.agent.calls(), [call]);
}

#[tokio::test]
async fn an_agent_on_a_unix_socket_is_followed_through_its_restart() {
    let mut world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    world.agent.say_x509(world.message());
    let endpoint = format!("unix://{}", socket.display()).parse().unwrap();
    let (api, driver) = WorkloadApi::new(&endpoint, world.config());
    world.driver.spawn(driver);
    let mut follower = api.follow();
    assert_eq!(
        problem(&mut follower).await,
        "no connection to the workload api: entity not found"
    );

    world.agent.listen(&socket);
    let snapshot = follower.ready().await.unwrap();
    assert_eq!(ids(&snapshot), [&cart()]);

    world.agent.stop();
    assert!(
        problem(&mut follower)
            .await
            .starts_with("no connection to the workload api")
    );
    assert_eq!(ids(&follower.snapshot()), [&cart()], "what is valid stays");

    world.agent.say_x509(X509Message::new().with(world.entry(&till())));
    world.agent.listen(&socket);
    while ids(&follower.snapshot()) != [&till()] {
        follower.changed().await.unwrap();
    }
    assert!(follower.problem().is_none());
}

#[tokio::test]
async fn an_agent_on_a_tcp_port_is_followed() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    let connect = world.agent.connector();
    world.driver.spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = connect().await.unwrap();
        copy_bidirectional(&mut near, &mut far).await.unwrap();
    });
    let (api, driver) = WorkloadApi::new(&endpoint, world.config());
    world.driver.spawn(driver);
    assert_eq!(ids(&api.follow().ready().await.unwrap()), [&cart()]);
}

#[tokio::test(start_paused = true)]
async fn denied_permission_withdraws_everything_until_it_is_given_again() {
    let mut world = World::new();
    let message = || Reply::from(world_message(&world));
    let (good, denied) = (
        message(),
        Reply::Status(code::PERMISSION_DENIED, "no identity issued".into()),
    );
    world.agent.say_x509(good.clone());
    let (api, mut follower) = world.connect();
    next(&mut follower).await;
    assert_eq!(api.hinted("inside"), Some(cart()));

    world.agent.say_x509(denied);
    assert_eq!(
        problem(&mut follower).await,
        "the workload api answers with status 7: `no identity issued`"
    );
    let snapshot = follower.snapshot();
    assert!(snapshot.is_empty() && snapshot.trust().iter().next().is_none());
    assert_eq!(api.hinted("inside"), None);
    let (generation, _) = follower.generation();
    problem(&mut follower).await;
    assert_eq!(follower.generation().0, generation, "nothing is withdrawn twice");
    assert!(judge(&snapshot, &world.issue(&till()), at(NOW)).is_err());

    world.agent.say_x509(good);
    let snapshot = follower.ready().await.unwrap();
    assert_eq!(ids(&snapshot), [&cart()]);
}

fn world_message(world: &World) -> X509Message {
    X509Message::new().with(world.entry(&cart()).hint("inside"))
}

#[tokio::test(start_paused = true)]
async fn other_failures_keep_what_is_valid() {
    for failure in [
        Reply::Status(code::UNAVAILABLE, "starting".into()),
        Reply::Status(code::INTERNAL, "line\none".into()),
        Reply::End,
        // A message longer than was announced, one that is no protobuf, and one that is compressed.
        Reply::Raw(vec![0, 0xff, 0xff, 0xff, 0xff, 0]),
        Reply::Raw(vec![0, 0, 0, 0, 2, 0xff, 0xff]),
        Reply::Raw(vec![1, 0, 0, 0, 0]),
        // So many SVIDs that reading them all would take a hundred times the room.
        Reply::Message([0x0a, 0].repeat(1025)),
    ] {
        let mut world = World::new();
        world.agent.say_x509(world.message());
        let (_api, mut follower) = world.connect();
        next(&mut follower).await;
        world.agent.say_x509(failure.clone());
        let said = problem(&mut follower).await;
        assert!(
            said.starts_with("the workload api ") && said.lines().count() == 1,
            "{said}"
        );
        assert_eq!(ids(&follower.snapshot()), [&cart()], "{failure:?}");
        assert_eq!(follower.generation().0, 1, "{failure:?}");

        world.agent.say_x509(X509Message::new().with(world.entry(&till())));
        while follower.problem().is_some() {
            follower.changed().await.unwrap();
        }
        assert_eq!(ids(&follower.snapshot()), [&till()], "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_no_answer_of_the_server() {
    for (message, fault) in [
        (vec![0xff, 0xff], "the workload api sent a malformed message"),
        (
            [0x0a, 0].repeat(1025),
            "the workload api sent a message of more than 1024 fields",
        ),
    ] {
        let mut world = World::new();
        world.agent.say_x509(Reply::Message(message));
        let (_api, mut follower) = world.connect();
        assert_eq!(problem(&mut follower).await, fault);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_is_opened_again() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    let start = Instant::now();
    for times in 2..8 {
        world.agent.cut();
        assert!(problem(&mut follower).await.starts_with("no connection"), "{times}");
        next(&mut follower).await;
        assert!(follower.problem().is_none());
        assert_eq!(world.agent.calls().len(), times);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "each is the first in a row");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_calls_the_request_wrong_is_not_asked_again() {
    for status in [code::INVALID_ARGUMENT, code::UNIMPLEMENTED] {
        let mut world = World::new();
        let message = X509Message::new().with(X509Entry::new(
            &cart(),
            &world.issue_for(&cart(), 3600),
            [world.home.root_certificate()],
        ));
        world.agent.say_x509(message);
        let (_api, mut follower) = world.connect();
        next(&mut follower).await;
        world.agent.say_x509(Reply::Status(status, "no".into()));
        assert!(problem(&mut follower).await.ends_with("`no`"));
        sleep(Duration::from_secs(3000)).await;
        assert_eq!(ids(&follower.snapshot()), [&cart()]);
        assert_eq!(world.agent.calls().len(), 1, "{status}");
        // When nothing is left to expire, nothing will ever come.
        while follower.changed().await.is_ok() {}
        assert!(follower.snapshot().is_blank(), "nor is anybody believed without end");
        assert!(world.clock.now() > at(NOW + 3600));
        assert_eq!(world.agent.calls().len(), 1, "{status}");
    }
}

/// The clock may be behind the agent's, and the stream would never say it again.
#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_valid_yet_is_asked_for_again() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    let template = Template {
        not_before: at(NOW + 5),
        ..Template::leaf(&till(), at(NOW))
    };
    let early = world.home.issue_with(template).unwrap();
    let entry = X509Entry::new(&till(), &early, [world.home.root_certificate()]);
    world.agent.say_x509(X509Message::new().with(entry));
    assert_eq!(
        problem(&mut follower).await,
        "svid 1: the certificate is not valid before 2030-03-17T17:46:45Z"
    );
    assert_eq!(ids(&follower.snapshot()), [&cart()]);
    let renewed = async {
        while ids(&follower.snapshot()) != [&till()] {
            follower.changed().await.unwrap();
        }
    };
    timeout(Duration::from_secs(15), renewed).await.unwrap();
    assert!(follower.problem().is_none());
    assert!((3..=8).contains(&world.agent.calls().len()), "with growing pauses");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_without_a_clock_and_nothing_is_lost() {
    let mut world = World::new();
    let clock = Unsteady::standing();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect_with(|config| _ = config.set_clock(clock.clone()));
    assert_eq!(problem(&mut follower).await, "the clock could not be read");
    assert!(follower.snapshot().is_blank());
    clock.go();
    let ready = timeout(Duration::from_secs(30), follower.ready()).await;
    assert_eq!(ids(&ready.unwrap().unwrap()), [&cart()]);
}

#[tokio::test(start_paused = true)]
async fn attempts_grow_rarer_up_to_fifteen_seconds() {
    for reply in [
        Reply::Status(code::UNAVAILABLE, "starting".into()),
        Reply::Status(code::PERMISSION_DENIED, "not yet".into()),
    ] {
        let mut world = World::new();
        world.agent.say_x509(reply);
        let start = Instant::now();
        let (_api, _follower) = world.connect();
        let mut attempts = Vec::new();
        for times in 1..=12 {
            world.agent.called(times).await;
            attempts.push(start.elapsed());
        }
        let pauses: Vec<Duration> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (index, pause) in pauses.iter().enumerate() {
            let longest = Duration::from_millis(250 << index).min(Duration::from_secs(15));
            // Timers have a resolution of a millisecond.
            let range = longest / 2..=longest + Duration::from_millis(2);
            assert!(range.contains(pause), "{index}: {pause:?} not in {range:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refused_connections_are_tried_again() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    world.agent.refuse(true);
    let (_api, mut follower) = world.connect();
    assert_eq!(
        problem(&mut follower).await,
        "no connection to the workload api: connection refused"
    );
    world.agent.refuse(false);
    follower.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_first_message_is_given_up_after_fifteen_seconds() {
    let mut world = World::new();
    world.agent.say_x509(Reply::Silence);
    let (_api, mut follower) = world.connect();
    let start = Instant::now();
    assert_eq!(problem(&mut follower).await, "no answer from the workload api in 15 s");
    assert_eq!(start.elapsed().as_secs(), 15);
    world.agent.say_x509(world.message());
    follower.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_after_the_first_message_is_no_failure() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    sleep(Duration::from_secs(12 * 3600)).await;
    assert!(follower.problem().is_none());
    assert_eq!(world.agent.calls().len(), 1);
}

/// Six minutes until the connection is probed, and twenty seconds for the answer.
#[tokio::test(start_paused = true)]
async fn an_agent_that_vanished_without_a_word_is_noticed() {
    let mut world = World::new();
    let agent = FakeWorkloadApi::new();
    agent.say_x509(world.message());
    let connections = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&connections);
    let connect = move || {
        let (near, far) = pipe::pair();
        made.lock().unwrap().push(near.control());
        agent.serve(far);
        ready(Ok(near))
    };
    let (api, driver) = WorkloadApi::over(connect, world.config());
    world.driver.spawn(driver);
    let mut follower = api.follow();
    next(&mut follower).await;
    let silent = connections.lock().unwrap()[0].clone();
    silent.stall(Direction::RightToLeft);
    let start = Instant::now();
    assert!(problem(&mut follower).await.starts_with("no connection"));
    assert_eq!(start.elapsed().as_secs(), 380);
    next(&mut follower).await;
    assert_eq!(connections.lock().unwrap().len(), 2);
}

/// Only the SVID that has expired goes; whom to believe does not depend on it.
#[tokio::test(start_paused = true)]
async fn what_is_not_renewed_ends_with_its_last_second() {
    let mut world = World::new();
    let short = X509Entry::new(&cart(), &world.issue_for(&cart(), 100), [world.home.root_certificate()]);
    world
        .agent
        .say_x509(X509Message::new().with(short.hint("short")).with(world.entry(&till())));
    let (api, mut follower) = world.connect();
    let snapshot = next(&mut follower).await;
    assert_eq!(snapshot.svids().len(), 2);
    sleep(Duration::from_secs(100)).await;
    world.agent.say_x509(X509Message::new());
    assert_eq!(
        next(&mut follower).await.svids().len(),
        2,
        "nothing newer, and not expired yet"
    );
    let snapshot = next(&mut follower).await;
    assert_eq!(ids(&snapshot), [&till()]);
    assert_eq!(world.clock.now(), at(NOW + 101));
    assert_eq!(follower.problem().unwrap().to_string(), "the message has no svid");
    assert_eq!(api.hinted("short"), None);
    assert!(judge(&snapshot, &world.issue(&cart()), at(NOW + 101)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_reason_stays_when_something_expires_meanwhile() {
    let mut world = World::new();
    let entry = X509Entry::new(&cart(), &world.issue_for(&cart(), 100), [world.home.root_certificate()]);
    world.agent.say_x509(X509Message::new().with(entry));
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    world.agent.refuse(true);
    world.agent.cut();
    while !follower.snapshot().is_empty() {
        follower.changed().await.unwrap();
    }
    assert_eq!(
        follower.problem().unwrap().to_string(),
        "no connection to the workload api: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_renew_is_reported() {
    let mut world = World::new();
    let entry = X509Entry::new(&cart(), &world.issue_for(&cart(), 100), [world.home.root_certificate()]);
    world.agent.say_x509(X509Message::new().with(entry));
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    assert_eq!(problem(&mut follower).await, "an svid expired and was not renewed");
    assert!(follower.snapshot().is_empty());
    assert_eq!(world.clock.now(), at(NOW + 101));
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (api, mut follower) = world.connect();
    next(&mut follower).await;
    let other = api.clone();
    drop(api);
    world.agent.cut();
    problem(&mut follower).await;
    next(&mut follower).await;
    drop(other);
    world.driver.join_next().await.unwrap().unwrap();
    while follower.changed().await.is_ok() {}
    assert_eq!(ids(&follower.snapshot()), [&cart()]);
}

#[tokio::test(start_paused = true)]
async fn followers_learn_that_the_driver_was_dropped() {
    let mut world = World::new();
    let (api, mut follower) = world.connect();
    problem(&mut follower).await;
    world.driver.shutdown().await;
    assert!(follower.changed().await.is_err());
    assert!(api.follow().ready().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_before_the_driver_is_polled() {
    let world = World::new();
    let agent: &FakeWorkloadApi = &world.agent;
    let (api, driver) = WorkloadApi::over(agent.connector(), world.config());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(agent.calls(), []);
    drop((api, driver));
}

/// The tasks are the driver, and the server's one for the connection and one for the stream.
#[tokio::test(start_paused = true)]
async fn the_driver_does_everything_itself() {
    let mut world = World::new();
    world.agent.say_x509(world.message());
    let (_api, mut follower) = world.connect();
    next(&mut follower).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 3);
}
