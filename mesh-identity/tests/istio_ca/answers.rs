//! Answers that must not be used.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh_identity::source::{
    Source,
    dev_ca::{DevCa, Extension, KeyUsageBits, Name, Template},
    istio_ca::{AnswerError, CaError, Priority},
};
use mesh_testkit::{clock::Calendar, istio_ca::Answer};
use rustls_pki_types::UnixTime;

use crate::world::*;

type Judge = fn(&CaError) -> bool;

/// Every answer that must not be used, and what to say of it.
fn bad_answers() -> Vec<(&'static str, Answer, Judge)> {
    let stranger = DevCa::new(
        "other.example".parse().unwrap(),
        UnixTime::since_unix_epoch(Calendar::EPOCH),
    )
    .unwrap();
    let namesake = DevCa::new(trust_domain(), UnixTime::since_unix_epoch(Calendar::EPOCH)).unwrap();
    let (stranger, namesake) = (stranger.roots_pem(), namesake.roots_pem());
    let names = |name: &str| Some(Extension::names(&[Name::Uri(name.to_owned())]));
    let second = |seconds| UnixTime::since_unix_epoch(Calendar::EPOCH + Duration::from_secs(seconds));
    vec![
        (
            "a refusal",
            Answer::Status(7, "no\n".to_owned() + &"x".repeat(900)),
            |error| matches!(error, CaError::Status { code: 7, message } if message.len() < 220 && message.starts_with("no\\nx")),
        ),
        (
            "another identity",
            Answer::changed(move |t| t.names = names("spiffe://cluster.local/ns/shop/sa/w1")),
            |error| matches!(error, CaError::Answer(AnswerError::WrongIdentity { answered }) if *answered == workload(1)),
        ),
        (
            "the same name elsewhere",
            Answer::changed(move |t| t.names = names("spiffe://other.example/ns/shop/sa/w0")),
            |error| matches!(error, CaError::Answer(AnswerError::WrongIdentity { .. })),
        ),
        (
            "two identities",
            Answer::changed(|t| {
                let uri = |index| Name::Uri(workload(index).to_string());
                t.names = Some(Extension::names(&[uri(0), uri(1)]));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        ("no identity", Answer::changed(|t| t.names = None), |error| {
            matches!(error, CaError::Answer(AnswerError::Svid(_)))
        }),
        (
            "an authority",
            Answer::changed(|t| t.basic_constraints = Some(Extension::basic_constraints(true, None))),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "a key that signs certificates",
            Answer::changed(|t| {
                t.key_usage = Some(Extension::key_usage(
                    KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_CERT_SIGN,
                ));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "for servers only",
            Answer::changed(|t| {
                t.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::SERVER_AUTH]));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        ("expired", Answer::changed(move |t| t.not_after = second(0)), |error| {
            error.to_string().starts_with("the certificate expired at ")
        }),
        (
            "of the future",
            Answer::changed(move |t| t.not_before = second(1 << 25)),
            |error| error.to_string().starts_with("the certificate is not valid before "),
        ),
        ("another key", Answer::OtherKey, |error| {
            error.to_string() == "the key does not match the certificate"
        }),
        ("nothing", Answer::elements(Vec::clear), |error| {
            matches!(error, CaError::Answer(AnswerError::NoRoot { elements: 0 }))
        }),
        ("no root", Answer::elements(|elements| elements.truncate(1)), |error| {
            matches!(error, CaError::Answer(AnswerError::NoRoot { elements: 1 }))
        }),
        (
            "the root first",
            Answer::elements(|elements| elements.reverse()),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "a root of the same name",
            Answer::elements(move |elements| elements[1] = namesake.clone()),
            |error| matches!(error, CaError::Answer(AnswerError::Verify(_))),
        ),
        (
            "a root of another trust domain",
            Answer::elements(move |elements| elements[1].push_str(&stranger)),
            |error| matches!(error, CaError::Answer(AnswerError::Roots(_))),
        ),
        (
            "no PEM text",
            Answer::elements(|elements| elements[0] = "hello".to_owned()),
            |error| matches!(error, CaError::Answer(AnswerError::Pem { element: 1, .. })),
        ),
        (
            "a root cut short",
            Answer::elements(|elements| elements[1].truncate(200)),
            |error| matches!(error, CaError::Answer(AnswerError::Pem { element: 2, .. })),
        ),
        (
            "many elements",
            Answer::elements(|elements| {
                let leaf = elements[0].clone();
                elements.splice(0..0, std::iter::repeat_n(leaf, 20));
            }),
            |error| matches!(error, CaError::Answer(AnswerError::TooManyElements { elements: 22 })),
        ),
        (
            "many certificates in one element",
            Answer::elements(|elements| elements[0] = elements[0].repeat(20)),
            |error| matches!(error, CaError::Answer(AnswerError::Svid(_))),
        ),
        (
            "more than a message may hold",
            Answer::elements(|elements| elements.push("x".repeat(2 << 20))),
            |error| matches!(error, CaError::Status { code: 11, .. }),
        ),
        (
            "silence",
            Answer::Silence,
            |error| matches!(error, CaError::Deadline { deadline } if deadline.as_secs() == 10),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_bad_answer_is_ever_published() {
    for (name, answer, judge) in bad_answers() {
        let mut world = World::new();
        world.authority.answer(answer);
        let config = world.workload();
        let ca = world.start(config);
        let mut lease = ca.request(&workload(0), Priority::RealTime).unwrap();
        let error = failure(lease.svid().await.unwrap_err());
        assert!(judge(&error), "{name}: {error}");
        let follower = ca.follow();
        assert!(follower.snapshot().is_empty(), "{name}");
        assert_eq!(follower.snapshot().trust().iter().count(), 0, "{name}");
        assert!(problem(&follower).unwrap().ends_with(&error.to_string()), "{name}");
        world.authority.answer(Answer::Honest);
        assert!(lease.svid().await.is_ok(), "{name}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(problem(&follower), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_leaves_the_certificate_that_is_there() {
    for (name, answer, _) in bad_answers() {
        let mut world = World::new();
        let config = world.workload();
        let ca = world.start(config);
        let mut follower = ca.follow();
        let before = Arc::clone(follower.ready().await.unwrap().default_svid().unwrap());
        world.authority.answer(answer);
        next_problem(&mut follower).await;
        assert!(same(&before, follower.snapshot().default_svid()), "{name}");
        world.authority.answer(Answer::Honest);
        while problem(&follower).is_some() {
            follower.changed().await.unwrap();
        }
        assert!(!same(&before, follower.snapshot().default_svid()), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn templates_of_the_authority_are_honest_by_default() {
    // Guards the other tests: were every answer bad, they would prove nothing.
    let mut world = World::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&seen);
    world.authority.answer(Answer::changed(move |template: &mut Template| {
        names.lock().unwrap().push(template.names.clone());
    }));
    let config = world.workload();
    assert!(world.start(config).follow().ready().await.is_ok());
    let honest = Template::leaf(&workload(0), UnixTime::now()).names;
    assert_eq!(*seen.lock().unwrap(), [honest]);
}
