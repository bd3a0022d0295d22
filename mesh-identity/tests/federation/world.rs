//! The servers of the web, a trust domain that publishes its bundle there, and a federation that fetches it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Request;
use mesh_identity::{
    BundleDocument, Dialer, SpiffeId, TrustDomain,
    federation::{BundleEndpoint, EndpointProfile, Federation, FederationConfig, Relationship},
    provider,
    source::{
        Follower, Source,
        dev_ca::{DevCa, Extension, Issued, Name, Template},
    },
};
use mesh_testkit::clock::Calendar;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinSet,
    time::Instant,
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// What a site answers to the path of a request: the bytes of an HTTP response; none is silence.
pub(crate) type Respond = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// The servers of the web by host, and who asked for what.
#[derive(Clone, Default)]
pub(crate) struct Web {
    pub(crate) sites: Arc<Mutex<HashMap<String, Site>>>,
    pub(crate) requests: Arc<Mutex<Vec<(String, Instant)>>>,
    pub(crate) connections: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) respond: Respond,
}

impl Web {
    pub(crate) fn open(
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

    pub(crate) fn close(&self, host: &str) {
        self.sites.lock().unwrap().remove(host);
    }

    pub(crate) fn dialer(&self) -> Dialer {
        let web = self.clone();
        Dialer::new(move |host, _| {
            let accepted = web.accept(&host);
            async move { accepted }
        })
    }

    pub(crate) fn accept(&self, host: &str) -> io::Result<DuplexStream> {
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

    pub(crate) async fn serve(&self, host: &str, site: Site, io: DuplexStream) -> io::Result<()> {
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

    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .map(|(target, _)| target.clone())
            .collect()
    }

    pub(crate) fn times(&self) -> Vec<Instant> {
        self.requests.lock().unwrap().iter().map(|(_, at)| *at).collect()
    }
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub(crate) fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

pub(crate) fn serving(endpoint: &Arc<BundleEndpoint>) -> impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static {
    let endpoint = Arc::clone(endpoint);
    move |path| {
        let response = endpoint.respond(&Request::get(path).body(()).unwrap());
        Some(ok(std::str::from_utf8(response.body()).unwrap()))
    }
}

/// A web authority, the trust domain `b.example`, and a federation with its driver at work.
pub(crate) struct World {
    pub(crate) web: Web,
    pub(crate) calendar: Calendar,
    pub(crate) web_ca: DevCa,
    pub(crate) ca: DevCa,
    pub(crate) driver: JoinSet<()>,
}

impl World {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn web_certificate(&self, names: &[Name]) -> Issued {
        let mut template = Template::leaf(&id("spiffe://web.example/site"), self.calendar.now());
        template.names = Some(Extension::names(names));
        template.not_after = rustls_pki_types::UnixTime::since_unix_epoch(Calendar::EPOCH * 2);
        self.web_ca.issue_with(template).unwrap()
    }

    pub(crate) fn site(&self, host: &str, respond: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) {
        let certificate = self.web_certificate(&[Name::Dns(host.to_owned())]);
        self.web.open(host, &certificate, respond);
    }

    pub(crate) fn document(&self, sequence: u64) -> BundleDocument {
        document(&self.ca, sequence)
    }

    pub(crate) fn config(&self) -> FederationConfig {
        FederationConfig::new(td("a.example"))
            .web_roots([self.web_ca.root_certificate().clone()])
            .dialer(self.web.dialer())
            .clock(Arc::new(self.calendar.clone()))
    }

    pub(crate) fn start(&mut self, config: FederationConfig) -> Federation {
        let (federation, driver) = Federation::new(config, provider::aws_lc_rs()).unwrap();
        self.driver.spawn(driver.run());
        federation
    }
}

pub(crate) fn document(ca: &DevCa, sequence: u64) -> BundleDocument {
    BundleDocument::new(ca.trust_domain().clone(), [ca.root_certificate().clone()], [])
        .unwrap()
        .with_sequence(sequence)
        .with_refresh_hint(MINUTE)
}

pub(crate) fn by_web() -> Relationship {
    let url = "https://b-web.example/bundle".parse().unwrap();
    Relationship::new(td("b.example"), url, EndpointProfile::HttpsWeb)
}

pub(crate) fn by_spiffe() -> Relationship {
    let endpoint = id("spiffe://b.example/endpoint");
    let url = "https://b-spiffe.example:8443/".parse().unwrap();
    Relationship::new(td("b.example"), url, EndpointProfile::HttpsSpiffe { endpoint })
}

pub(crate) async fn problem(follower: &mut Follower) -> String {
    loop {
        if let Some(problem) = follower.problem() {
            return problem.to_string();
        }
        follower.changed().await.unwrap();
    }
}

/// Waits until a bundle of this sequence number is published, and looks at the roots.
pub(crate) async fn published(federation: &Federation, sequence: u64) -> usize {
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

/// The trust domain `b.example` with the SPIFFE endpoint that serves its bundle.
pub(crate) struct SelfServing {
    pub(crate) endpoint: Arc<BundleEndpoint>,
}

impl SelfServing {
    pub(crate) fn new(world: &World) -> Self {
        let this = Self {
            endpoint: Arc::new(BundleEndpoint::new(world.document(1))),
        };
        this.present(world, &world.ca);
        this
    }

    /// Presents a certificate of this authority from now on.
    pub(crate) fn present(&self, world: &World, ca: &DevCa) {
        let certificate = ca
            .issue(&id("spiffe://b.example/endpoint"), world.calendar.now())
            .unwrap();
        world
            .web
            .open("b-spiffe.example", &certificate, serving(&self.endpoint));
    }
}
