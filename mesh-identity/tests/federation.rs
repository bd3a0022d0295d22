//! Bundles fetched from endpoints that may answer anything, in tokio's paused time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Request;
use mesh_identity::{
    BundleDocument, Dialer, Profile, SpiffeId, TrustDomain,
    federation::{
        BundleEndpoint, BundleStore, EndpointProfile, EndpointUrlError, Federation, FederationConfig, FederationError,
        FetchError, Relationship,
    },
    provider,
    source::{
        Follower, Source,
        dev_ca::{DevCa, Extension, Issued, KeyUsageBits, Name, Template},
    },
    tls::HandshakeError,
};
use mesh_testkit::clock::Calendar;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
    time::Instant,
};

const MINUTE: Duration = Duration::from_secs(60);

fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// What a site answers to the path of a request: the bytes of an HTTP response; none is silence.
type Respond = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// The servers of the web by host, and who asked for what.
#[derive(Clone, Default)]
struct Web {
    sites: Arc<Mutex<HashMap<String, Site>>>,
    requests: Arc<Mutex<Vec<(String, Instant)>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone)]
struct Site {
    tls: Arc<ServerConfig>,
    respond: Respond,
}

impl Web {
    fn open(
        &self,
        host: &str,
        certificate: &Issued,
        respond: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) {
        let tls = ServerConfig::builder_with_provider(provider::aws_lc_rs())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificate.chain().to_vec(), certificate.key())
            .unwrap();
        let site = Site {
            tls: Arc::new(tls),
            respond: Arc::new(respond),
        };
        self.sites.lock().unwrap().insert(host.to_owned(), site);
    }

    fn close(&self, host: &str) {
        self.sites.lock().unwrap().remove(host);
    }

    fn dialer(&self) -> Dialer {
        let web = self.clone();
        Dialer::new(move |host, _| {
            let accepted = web.accept(&host);
            async move { accepted }
        })
    }

    fn accept(&self, host: &str) -> io::Result<DuplexStream> {
        let site = self.sites.lock().unwrap().get(host).cloned();
        let site = site.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (near, far) = tokio::io::duplex(1 << 16);
        let (web, host) = (self.clone(), host.to_owned());
        self.connections.lock().unwrap().spawn(async move {
            // What goes wrong is the client's to tell.
            drop(web.serve(&host, site, far).await);
        });
        Ok(near)
    }

    async fn serve(&self, host: &str, site: Site, io: DuplexStream) -> io::Result<()> {
        let mut stream = tokio_rustls::TlsAcceptor::from(site.tls).accept(io).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.to_lowercase().contains(&format!("\r\nhost: {host}")), "{head}");
        let path = head.strip_prefix("GET ").unwrap().split(' ').next().unwrap();
        let asked = (format!("{host}{path}"), Instant::now());
        self.requests.lock().unwrap().push(asked);
        match (site.respond)(path) {
            Some(response) => {
                stream.write_all(&response).await?;
                stream.shutdown().await
            }
            None => std::future::pending().await,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .map(|(target, _)| target.clone())
            .collect()
    }

    fn times(&self) -> Vec<Instant> {
        self.requests.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn serving(endpoint: &Arc<BundleEndpoint>) -> impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static {
    let endpoint = Arc::clone(endpoint);
    move |path| {
        let response = endpoint.respond(&Request::get(path).body(()).unwrap());
        Some(ok(std::str::from_utf8(response.body()).unwrap()))
    }
}

/// A web authority, the trust domain `b.example`, and a federation with its driver at work.
struct World {
    web: Web,
    calendar: Calendar,
    web_ca: DevCa,
    ca: DevCa,
    driver: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        let calendar = Calendar::new();
        Self {
            web: Web::default(),
            web_ca: DevCa::new(td("web.example"), calendar.now()).unwrap(),
            ca: DevCa::new(td("b.example"), calendar.now()).unwrap(),
            calendar,
            driver: JoinSet::new(),
        }
    }

    /// A certificate of the public web.
    fn web_certificate(&self, names: &[Name]) -> Issued {
        let mut template = Template::leaf(&id("spiffe://web.example/site"), self.calendar.now());
        template.names = Some(Extension::names(names));
        template.not_after = rustls_pki_types::UnixTime::since_unix_epoch(Calendar::EPOCH * 2);
        self.web_ca.issue_with(template).unwrap()
    }

    fn site(&self, host: &str, respond: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) {
        let certificate = self.web_certificate(&[Name::Dns(host.to_owned())]);
        self.web.open(host, &certificate, respond);
    }

    fn document(&self, sequence: u64) -> BundleDocument {
        document(&self.ca, sequence)
    }

    fn config(&self) -> FederationConfig {
        FederationConfig::new(td("a.example"))
            .web_roots([self.web_ca.root_certificate().clone()])
            .dialer(self.web.dialer())
            .clock(Arc::new(self.calendar.clone()))
    }

    fn start(&mut self, config: FederationConfig) -> Federation {
        let (federation, driver) = Federation::new(config, provider::aws_lc_rs()).unwrap();
        self.driver.spawn(driver.run());
        federation
    }
}

fn document(ca: &DevCa, sequence: u64) -> BundleDocument {
    BundleDocument::new(ca.trust_domain().clone(), [ca.root_certificate().clone()], [])
        .unwrap()
        .with_sequence(sequence)
        .with_refresh_hint(MINUTE)
}

fn by_web() -> Relationship {
    let url = "https://b-web.example/bundle".parse().unwrap();
    Relationship::new(td("b.example"), url, EndpointProfile::HttpsWeb)
}

fn by_spiffe() -> Relationship {
    let endpoint = id("spiffe://b.example/endpoint");
    let url = "https://b-spiffe.example:8443/".parse().unwrap();
    Relationship::new(td("b.example"), url, EndpointProfile::HttpsSpiffe { endpoint })
}

async fn problem(follower: &mut Follower) -> String {
    loop {
        if let Some(problem) = follower.problem() {
            return problem.to_string();
        }
        follower.changed().await.unwrap();
    }
}

/// Waits until a bundle of this sequence number is published, and looks at the roots.
async fn published(federation: &Federation, sequence: u64) -> usize {
    let mut follower = federation.follow();
    loop {
        let documents = federation.documents();
        if let Some(document) = documents.iter().find(|document| document.sequence() == Some(sequence)) {
            let snapshot = follower.snapshot();
            assert!(snapshot.svids().is_empty());
            return snapshot.trust().get(document.trust_domain()).unwrap().len();
        }
        follower.changed().await.unwrap();
    }
}

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

/// The trust domain `b.example` with the SPIFFE endpoint that serves its bundle.
struct SelfServing {
    endpoint: Arc<BundleEndpoint>,
}

impl SelfServing {
    fn new(world: &World) -> Self {
        let this = Self {
            endpoint: Arc::new(BundleEndpoint::new(world.document(1))),
        };
        this.present(world, &world.ca);
        this
    }

    /// Presents a certificate of this authority from now on.
    fn present(&self, world: &World, ca: &DevCa) {
        let certificate = ca
            .issue(&id("spiffe://b.example/endpoint"), world.calendar.now())
            .unwrap();
        world
            .web
            .open("b-spiffe.example", &certificate, serving(&self.endpoint));
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
        let error = std::error::Error::source(&problem).unwrap();
        let error = error.downcast_ref::<Arc<FetchError>>().unwrap();
        assert!(
            matches!(
                &**error,
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
}

impl BundleStore for Shelf {
    fn load(&self, trust_domain: &TrustDomain) -> io::Result<Option<Vec<u8>>> {
        Ok(self.texts.lock().unwrap().get(trust_domain).cloned())
    }

    fn save(&self, document: &BundleDocument) -> io::Result<()> {
        if *self.full.lock().unwrap() {
            return Err(io::ErrorKind::StorageFull.into());
        }
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
    let config = world.config().store(shelf).relate(by_web());
    let federation = world.start(config);
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the bundle store holds no bundle"), "{shown}");
    published(&federation, 1).await;
    let shown = problem(&mut federation.follow()).await;
    assert!(shown.contains("the bundle store failed"), "{shown}");
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
