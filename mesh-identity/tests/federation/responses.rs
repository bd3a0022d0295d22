//! What endpoints may answer.

use std::time::Duration;

use mesh_identity::source::{
    Source,
    dev_ca::{DevCa, Name},
};

use crate::world::*;

type Judge = fn(&str) -> bool;

/// Responses of which none may take the place of a bundle.
fn bad_responses(world: &World) -> Vec<(&'static str, Option<Vec<u8>>, Judge)> {
    let good = world.document(9).to_json();
    let twice = good.replacen('{', "{\"keys\": [], ", 1);
    let head = |line: &str| format!("HTTP/1.1 {line}\r\n\r\n").into_bytes();
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(2 << 20, b' ');
    let mut many_headers = b"HTTP/1.1 200 OK\r\n".to_vec();
    many_headers.extend((0..2000).flat_map(|count| format!("x-{count}: 1\r\n").into_bytes()));
    many_headers.extend(b"\r\n{}");
    vec![
        ("404", Some(head("404 Not Found\r\ncontent-length: 0")), |e| {
            e.ends_with("status 404")
        }),
        ("500", Some(head("500 Oh\r\ncontent-length: 0")), |e| {
            e.ends_with("status 500")
        }),
        ("204", Some(head("204 Nothing")), |e| e.ends_with("status 204")),
        ("304", Some(head("304 Same")), |e| e.ends_with("status 304")),
        ("no http", Some(b"hello\r\n\r\n".to_vec()), |e| {
            e.contains("the exchange with the endpoint failed")
        }),
        ("nothing", Some(Vec::new()), |e| {
            e.contains("the exchange with the endpoint failed")
        }),
        ("silence", None, |e| {
            e.ends_with("the endpoint did not answer within 30s")
        }),
        ("cut short", Some(ok(&good)[..200].to_vec()), |e| {
            e.contains("the exchange with the endpoint failed")
        }),
        ("too large", Some(endless), |e| {
            e.ends_with("the bundle has more than 1048576 bytes")
        }),
        (
            "declared too large",
            Some(head("200 OK\r\ncontent-length: 99999999")),
            |e| e.ends_with("the bundle has more than 1048576 bytes"),
        ),
        ("too many headers", Some(many_headers), |e| {
            e.contains("the exchange with the endpoint failed")
        }),
        (
            "compressed",
            Some(head("200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0")),
            |e| e.ends_with("the response has a content encoding"),
        ),
        ("no json", Some(ok("<html>")), |e| !e.contains("html")),
        (
            "not utf-8",
            Some([ok("{\"keys\": [], \"").as_slice(), b"\xff\": 1}"].concat()),
            |_| true,
        ),
        ("no keys", Some(ok("{}")), |e| {
            e.ends_with("the bundle has no list `keys`")
        }),
        ("keys null", Some(ok("{\"keys\": null}")), |e| {
            e.ends_with("the bundle has no list `keys`")
        }),
        ("a name twice", Some(ok(&twice)), |e| e.ends_with("has a name twice")),
        (
            "a malformed key",
            Some(ok(
                "{\"keys\": [{\"use\": \"x509-svid\", \"kty\": \"EC\", \"x5c\": [\"!\"]}]}",
            )),
            |e| e.ends_with("`x5c` of key 1 is malformed"),
        ),
        ("older", Some(ok(&world.document(4).to_json())), |e| {
            e.ends_with("sequence number 4, and 5 was seen before")
        }),
        (
            "another of the same number",
            Some(ok(&world.document(5).with_refresh_hint(MINUTE * 2).to_json())),
            |e| e.ends_with("sequence number 5, and 5 was seen before"),
        ),
        (
            "another trust domain's",
            Some(ok(&document(
                &DevCa::new(td("c.example"), world.calendar.now()).unwrap(),
                9,
            )
            .to_json())),
            |e| e.contains("root 1"),
        ),
        (
            "a redirect to plaintext",
            Some(redirect("http://b-web.example/")),
            |e| e.contains("begins with `https://`"),
        ),
        (
            "a redirect with user information",
            Some(redirect("https://u@b-web.example/")),
            |e| e.contains("no user information"),
        ),
        (
            "a redirect to nowhere",
            Some(head("302 Found\r\ncontent-length: 0")),
            |e| e.contains("the endpoint redirects"),
        ),
        ("a loop of redirects", Some(redirect("/bundle")), |e| {
            e.ends_with("redirects more than 3 times")
        }),
        (
            "a redirect to a closed door",
            Some(redirect("https://closed.example/")),
            |e| e.contains("no connection to the endpoint"),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_bad_response_takes_the_place_of_a_bundle() {
    let mut world = World::new();
    for (name, response, judge) in bad_responses(&world) {
        let good = world.document(5).to_json();
        world.site("b-web.example", move |_| Some(ok(&good)));
        let config = world.config().relate(by_web());
        let federation = world.start(config);
        published(&federation, 5).await;
        let mut follower = federation.follow();
        world.site("b-web.example", move |_| response.clone());
        let shown = problem(&mut follower).await;
        assert!(judge(&shown), "{name}: {shown}");
        assert_eq!(federation.documents()[0].sequence(), Some(5), "{name}");
        assert_eq!(
            follower.snapshot().trust().get(&td("b.example")).unwrap().len(),
            1,
            "{name}"
        );
        let same = world.document(5).to_json();
        world.site("b-web.example", move |_| Some(ok(&same)));
        while follower.problem().is_some() {
            follower.changed().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_are_followed_under_the_same_rules_and_forgotten() {
    let mut world = World::new();
    let body = world.document(1).to_json();
    world.site("b-web.example", |path| {
        Some(redirect(match path {
            "/bundle" => "/moved",
            _ => "https://c-web.example/there",
        }))
    });
    world.site("c-web.example", move |_| Some(ok(&body)));
    let config = world.config().relate(by_web());
    let federation = world.start(config);
    published(&federation, 1).await;
    let way = ["b-web.example/bundle", "b-web.example/moved", "c-web.example/there"];
    assert_eq!(world.web.asked(), way);
    tokio::time::sleep(MINUTE + Duration::from_secs(1)).await;
    assert_eq!(world.web.asked(), [way, way].concat());
    // The site at the end of the way is no longer who it was.
    let certificate = world.web_certificate(&[Name::Dns("other.example".to_owned())]);
    world.web.open("c-web.example", &certificate, |_| None);
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the TLS handshake"), "{shown}");
}
