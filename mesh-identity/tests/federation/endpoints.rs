//! How endpoints are known.

use std::time::Duration;

use mesh_identity::{
    BundleDocument, Profile,
    federation::{EndpointProfile, Federation, FederationError, FederationProblem, FetchError, Relationship},
    provider,
    source::{
        Source,
        dev_ca::{DevCa, Extension, KeyUsageBits, Name, Template},
    },
    tls::HandshakeError,
};
use mesh_testkit::clock::Calendar;
use tokio::time::Instant;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn web_endpoints_are_known_by_a_name_and_a_root() {
    let mut world = World::new();
    let stranger = DevCa::new(td("web.example"), world.calendar.now()).unwrap();
    let mut template = Template::leaf(&id("spiffe://web.example/site"), world.calendar.now());
    template.names = Some(Extension::names(&[Name::Dns("b-web.example".into())]));
    let mut nameless = template.clone();
    nameless.names = None;
    nameless.common_name = Some("b-web.example".to_owned());
    let mut expired = template.clone();
    expired.not_after = rustls_pki_types::UnixTime::since_unix_epoch(Calendar::EPOCH - Duration::from_secs(60));
    let uri = Name::Uri("spiffe://b.example/endpoint".into());
    for (name, certificate) in [
        ("another root", stranger.issue_with(template).unwrap()),
        (
            "another name",
            world.web_certificate(&[Name::Dns("c-web.example".into())]),
        ),
        ("a common name only", world.web_ca.issue_with(nameless).unwrap()),
        ("expired", world.web_ca.issue_with(expired).unwrap()),
        ("a spiffe id of the trust domain", world.web_certificate(&[uri])),
        (
            "an svid of the trust domain",
            world
                .ca
                .issue(&id("spiffe://b.example/endpoint"), world.calendar.now())
                .unwrap(),
        ),
    ] {
        let body = world.document(1).to_json();
        world.web.open("b-web.example", &certificate, move |_| Some(ok(&body)));
        let config = world.config().relate(by_web());
        let federation = world.start(config);
        let shown = problem(&mut federation.follow()).await;
        assert!(
            shown.starts_with("trust domain `b.example`: the TLS handshake"),
            "{name}: {shown}"
        );
        assert!(federation.documents().is_empty(), "{name}");
        assert!(world.web.asked().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spiffe_endpoint_is_verified_with_the_bundle_it_served_last() {
    let mut world = World::new();
    let serving = SelfServing::new(&world);
    let config = world.config().relate(by_spiffe().bootstrap(world.document(0)));
    let federation = world.start(config);
    published(&federation, 1).await;
    let next = DevCa::new(td("b.example"), world.calendar.now()).unwrap();
    let roots = [&world.ca, &next].map(|ca| ca.root_certificate().clone());
    let both = BundleDocument::new(td("b.example"), roots, [])
        .unwrap()
        .with_sequence(2)
        .with_refresh_hint(MINUTE);
    serving.endpoint.publish(both).unwrap();
    assert_eq!(published(&federation, 2).await, 2);
    serving.present(&world, &next);
    serving.endpoint.publish(document(&next, 3)).unwrap();
    assert_eq!(published(&federation, 3).await, 1);
    // The first root was taken out of the bundle.
    serving.present(&world, &world.ca);
    let shown = problem(&mut federation.follow()).await;
    assert!(
        shown.contains("was not issued by a root of trust domain `b.example`"),
        "{shown}"
    );
    serving.present(&world, &next);
    serving.endpoint.publish(document(&next, 4)).unwrap();
    published(&federation, 4).await;
    assert!(federation.follow().problem().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_spiffe_endpoint_is_not_asked_before_there_is_a_bundle_to_verify_it_with() {
    let mut world = World::new();
    SelfServing::new(&world);
    let config = world.config().relate(by_spiffe());
    let federation = world.start(config);
    let shown = problem(&mut federation.follow()).await;
    assert!(
        shown.ends_with("there is no bundle of trust domain `b.example` to verify the endpoint with"),
        "{shown}"
    );
    assert!(world.web.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_spiffe_endpoint_is_the_one_that_was_configured() {
    let mut world = World::new();
    let now = world.calendar.now();
    let namesake = DevCa::new(td("b.example"), now).unwrap();
    let third = DevCa::new(td("c.example"), now).unwrap();
    let right = id("spiffe://b.example/endpoint");
    let mut client_only = Template::leaf(&right, now);
    client_only.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::CLIENT_AUTH]));
    let mut signing = Template::leaf(&right, now);
    signing.key_usage = Some(Extension::key_usage(
        KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_CERT_SIGN,
    ));
    let mut elsewhere = Template::leaf(&right, now);
    elsewhere.names = Some(Extension::names(&[
        Name::Uri("spiffe://c.example/endpoint".into()),
        Name::Dns("b-spiffe.example".into()),
    ]));
    for (name, certificate) in [
        (
            "another workload",
            world.ca.issue(&id("spiffe://b.example/other"), now).unwrap(),
        ),
        ("another authority", namesake.issue(&right, now).unwrap()),
        (
            "another trust domain",
            third.issue(&id("spiffe://c.example/endpoint"), now).unwrap(),
        ),
        ("another trust domain's id", world.ca.issue_with(elsewhere).unwrap()),
        (
            "a web certificate",
            world.web_certificate(&[Name::Dns("b-spiffe.example".into())]),
        ),
        ("a client", world.ca.issue_with(client_only).unwrap()),
        ("an authority", world.ca.issue_with(signing).unwrap()),
    ] {
        let body = world.document(2).to_json();
        world
            .web
            .open("b-spiffe.example", &certificate, move |_| Some(ok(&body)));
        let config = world.config().relate(by_spiffe().bootstrap(world.document(1)));
        let federation = world.start(config);
        let mut follower = federation.follow();
        let shown = problem(&mut follower).await;
        let problem = follower.problem().unwrap();
        let error = problem.downcast_ref::<FederationProblem>().unwrap().error();
        assert!(
            matches!(
                error,
                FetchError::Handshake(HandshakeError::Verify(_) | HandshakeError::Denied(_))
            ),
            "{name}: {shown}"
        );
        assert_eq!(federation.documents()[0].sequence(), Some(1), "{name}");
        assert!(world.web.asked().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_of_a_third_trust_domain_is_verified_with_that_ones_bundle() {
    let mut world = World::new();
    let third = DevCa::new(td("c.example"), world.calendar.now()).unwrap();
    let endpoint = id("spiffe://c.example/endpoint");
    let bundle = world.document(7).to_json();
    let certificate = third.issue(&endpoint, world.calendar.now()).unwrap();
    world.web.open("b.example", &certificate, move |_| Some(ok(&bundle)));
    let bundle = document(&third, 1).to_json();
    world.site("c.example", move |_| Some(ok(&bundle)));
    let url = "https://b.example/".parse().unwrap();
    let hosted = Relationship::new(td("b.example"), url, EndpointProfile::HttpsSpiffe { endpoint });
    let url = "https://c.example/".parse().unwrap();
    let host = Relationship::new(td("c.example"), url, EndpointProfile::HttpsWeb);
    let began = Instant::now();
    let config = world.config().relate(hosted.clone()).relate(host);
    let federation = world.start(config);
    published(&federation, 7).await;
    // Not only with the next interval.
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(federation.follow().snapshot().trust().iter().count(), 2);
    let alone = world.config().relate(hosted);
    assert_eq!(
        Federation::new(alone, provider::aws_lc_rs()).map(|_| ()).unwrap_err(),
        FederationError::UnrelatedEndpoint {
            trust_domain: td("b.example"),
            endpoint: td("c.example"),
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirect_of_a_spiffe_endpoint_leads_to_the_same_spiffe_id() {
    let mut world = World::new();
    let now = world.calendar.now();
    let certificate = |name: &str| world.ca.issue(&id(&format!("spiffe://b.example/{name}")), now).unwrap();
    let body = world.document(2).to_json();
    world.web.open("b-spiffe.example", &certificate("endpoint"), |_| {
        Some(redirect("https://d.example/"))
    });
    let answer = move |_: &str| Some(ok(&body));
    world.web.open("d.example", &certificate("other"), answer.clone());
    let right = certificate("endpoint");
    let config = world.config().relate(by_spiffe().bootstrap(world.document(1)));
    let federation = world.start(config);
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("spiffe://b.example/other"), "{shown}");
    world.web.open("d.example", &right, answer);
    published(&federation, 2).await;
}

#[tokio::test(start_paused = true)]
async fn strict_endpoints_keep_the_strict_profile() {
    let mut world = World::new();
    let mut template = Template::leaf(&id("spiffe://b.example/endpoint"), world.calendar.now());
    template.basic_constraints = None;
    let certificate = world.ca.issue_with(template).unwrap();
    let body = world.document(2).to_json();
    world
        .web
        .open("b-spiffe.example", &certificate, move |_| Some(ok(&body)));
    let config = || world.config().relate(by_spiffe().bootstrap(world.document(1)));
    let (lenient, strict) = (config(), config().profile(Profile::spiffe()));
    let federation = world.start(lenient);
    published(&federation, 2).await;
    let federation = world.start(strict);
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the TLS handshake"), "{shown}");
}
