//! A trust domain, certificates that each break one rule, and handshakes in memory.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh_identity::{
    PeerPolicy, SpiffeId, Svid, TrustBundles, TrustDomain, provider,
    source::dev_ca::{DevCa, Extension, Issued, KeyUsageBits, Name, Template},
    tls::{ClientTls, ServerTls},
};
use rustls::{
    ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    time_provider::TimeProvider,
};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName, SignatureVerificationAlgorithm, UnixTime,
};

pub const TD: &str = "cluster.local";

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub fn now() -> UnixTime {
    at(1_900_000_000)
}

pub fn td(name: &str) -> TrustDomain {
    name.parse().unwrap()
}

pub fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub fn workload() -> SpiffeId {
    id("spiffe://cluster.local/ns/shop/sa/cart")
}

pub fn ca(name: &str) -> DevCa {
    DevCa::new(td(name), now()).unwrap()
}

pub fn leaf() -> Template {
    Template::leaf(&workload(), now())
}

pub fn authority() -> Template {
    Template::authority(&td(TD), now())
}

/// A clock that stands still.
#[derive(Debug)]
pub struct Still(pub UnixTime);

impl TimeProvider for Still {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// A clock that is put to any second, or stops.
#[derive(Debug, Default)]
pub struct Manual(std::sync::Mutex<Option<UnixTime>>);

impl Manual {
    pub fn set(&self, now: Option<UnixTime>) {
        *self.0.lock().unwrap() = now;
    }
}

impl TimeProvider for Manual {
    fn current_time(&self) -> Option<UnixTime> {
        *self.0.lock().unwrap()
    }
}

/// A chain that breaks one rule, by the reason for which it must be refused as client and as server.
pub struct Vector {
    pub name: &'static str,
    pub as_client: &'static str,
    pub as_server: &'static str,
    pub issued: Issued,
}

pub fn uri(text: &str) -> Name {
    Name::Uri(text.to_owned())
}

/// Certificates of `ca`, each of which breaks one rule of X509-SVID for leaves.
pub fn broken_leaves(ca: &DevCa) -> Vec<Vector> {
    type Change = fn(&mut Template);
    let both: &[(&str, &str, Change)] = &[
        ("no names", "leaf_no_uri_name", |t| t.names = None),
        ("only a dns name", "leaf_no_uri_name", |t| {
            t.names = Some(Extension::names(&[Name::Dns("cluster.local".into())]));
        }),
        ("an id as dns name", "leaf_no_uri_name", |t| {
            t.names = Some(Extension::names(&[Name::Dns(workload().to_string())]));
        }),
        ("an id as email address", "leaf_no_uri_name", |t| {
            t.names = Some(Extension::names(&[Name::Email(workload().to_string())]));
        }),
        ("an id as other name", "leaf_no_uri_name", |t| {
            let id = workload().to_string();
            t.names = Some(Extension::names(&[Name::Other(vec![1, 3, 6, 1, 5, 2, 2], id)]));
        }),
        ("an id as common name only", "leaf_no_uri_name", |t| {
            t.names = None;
            t.common_name = Some(workload().to_string());
        }),
        ("two spiffe ids", "leaf_several_uri_names", |t| {
            t.names = Some(Extension::names(&[
                uri("spiffe://cluster.local/a"),
                uri("spiffe://cluster.local/b"),
            ]));
        }),
        ("the same id twice", "leaf_several_uri_names", |t| {
            t.names = Some(Extension::names(&[
                uri("spiffe://cluster.local/a"),
                uri("spiffe://cluster.local/a"),
            ]));
        }),
        ("a spiffe id, then a url", "leaf_several_uri_names", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local/a"), uri("https://a/")]));
        }),
        ("a url, then a spiffe id", "leaf_several_uri_names", |t| {
            t.names = Some(Extension::names(&[uri("https://a/"), uri("spiffe://cluster.local/a")]));
        }),
        ("another scheme", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("https://cluster.local/a")]));
        }),
        ("upper case", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("SPIFFE://cluster.local/a")]));
        }),
        ("a path to be normalised", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local/ns/a/../shop/sa/cart")]));
        }),
        ("a newline in the id", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local/ns/sh\nop/sa/cart")]));
        }),
        ("a NUL in the id", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local/ns/shop/sa/cart\0x")]));
        }),
        ("an id that is no UTF-8", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[Name::RawUri(
                b"spiffe://cluster.local/\xff".to_vec(),
            )]));
        }),
        ("an id that is too long", "leaf_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri(&format!(
                "spiffe://cluster.local/{}",
                "a".repeat(2048)
            ))]));
        }),
        ("the trust domain's own id", "leaf_root_path", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local")]));
        }),
        ("too many names", "leaf_too_many_names", |t| {
            let mut names = vec![uri("spiffe://cluster.local/a")];
            names.extend((0..64).map(|n| Name::Dns(format!("a{n}"))));
            t.names = Some(Extension::names(&names));
        }),
        ("an authority", "leaf_is_authority", |t| {
            t.basic_constraints = Some(Extension::basic_constraints(true, None));
        }),
        ("no key usage", "leaf_no_key_usage", |t| t.key_usage = None),
        ("no digital signature", "leaf_no_digital_signature", |t| {
            t.key_usage = Some(Extension::key_usage(KeyUsageBits::KEY_ENCIPHERMENT));
        }),
        ("no usage at all", "leaf_no_digital_signature", |t| {
            t.key_usage = Some(Extension::key_usage(KeyUsageBits::NONE));
        }),
        ("signs certificates", "leaf_key_cert_sign", |t| {
            t.key_usage = Some(Extension::key_usage(
                KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::KEY_CERT_SIGN,
            ));
        }),
        ("signs revocations", "leaf_crl_sign", |t| {
            t.key_usage = Some(Extension::key_usage(
                KeyUsageBits::DIGITAL_SIGNATURE | KeyUsageBits::CRL_SIGN,
            ));
        }),
        ("a purpose that is neither", "leaf_purpose", |t| {
            t.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::CODE_SIGNING]));
        }),
        ("any purpose", "leaf_purpose", |t| {
            t.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::ANY_PURPOSE]));
        }),
        ("no purpose in the list", "leaf_malformed", |t| {
            t.extended_key_usage = Some(Extension::extended_key_usage(&[]));
        }),
        ("key usage twice", "leaf_malformed", |t| {
            t.more.extend(t.key_usage.clone());
        }),
        ("names twice", "leaf_malformed", |t| t.more.extend(t.names.clone())),
        ("a uri with a constructed tag", "leaf_malformed", |t| {
            let value = vec![0x30, 4, 0xa6, 2, b'a', b':'];
            t.names = t.names.take().map(|e| Extension { value, ..e });
        }),
        ("something behind the key usage", "leaf_malformed", |t| {
            t.key_usage = t.key_usage.take().map(|e| Extension {
                value: [e.value, vec![5, 0]].concat(),
                ..e
            });
        }),
        ("key usage of no bits", "leaf_malformed", |t| {
            t.key_usage = t.key_usage.take().map(|e| Extension { value: vec![3, 0], ..e });
        }),
        ("constraints with a lax boolean", "leaf_malformed", |t| {
            t.basic_constraints = t.basic_constraints.take().map(|e| Extension {
                value: vec![0x30, 3, 1, 1, 1],
                ..e
            });
        }),
        ("expired", "expired", |t| t.not_after = at(now().as_secs() - 1)),
        ("not yet valid", "not_yet_valid", |t| {
            t.not_before = at(now().as_secs() + 1);
        }),
        ("an unknown critical extension", "critical_extension", |t| {
            t.more.push(Extension {
                id: vec![1, 3, 6, 1, 4, 1, 99999, 1],
                critical: true,
                value: vec![5, 0],
            });
        }),
        ("another trust domain", "unknown_trust_domain", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://other/a")]));
        }),
    ];
    let one_purpose: &[(&str, &str, &str, &[u8])] = &[
        ("only a server's purpose", "leaf_purpose", "", Extension::SERVER_AUTH),
        ("only a client's purpose", "", "leaf_purpose", Extension::CLIENT_AUTH),
    ];
    let make = |change: &dyn Fn(&mut Template)| {
        let mut template = leaf();
        change(&mut template);
        ca.issue_with(template).unwrap()
    };
    let common = both.iter().map(|&(name, reason, change)| Vector {
        name,
        as_client: reason,
        as_server: reason,
        issued: make(&change),
    });
    let single = one_purpose.iter().map(|&(name, as_client, as_server, purpose)| Vector {
        name,
        as_client,
        as_server,
        issued: make(&|t: &mut Template| t.extended_key_usage = Some(Extension::extended_key_usage(&[purpose]))),
    });
    common.chain(single).collect()
}

/// Certificates below an intermediate of `ca` that breaks one rule for issuers.
pub fn broken_issuers(ca: &DevCa) -> Vec<Vector> {
    type Change = fn(&mut Template);
    let changes: &[(&str, &str, Change)] = &[
        ("an issuer, no key usage", "issuer_no_key_usage", |t| t.key_usage = None),
        ("an issuer, signs revocations only", "issuer_no_key_cert_sign", |t| {
            t.key_usage = Some(Extension::key_usage(KeyUsageBits::CRL_SIGN));
        }),
        ("an issuer, signs neither", "issuer_no_key_cert_sign", |t| {
            t.key_usage = Some(Extension::key_usage(KeyUsageBits::DIGITAL_SIGNATURE));
        }),
        ("an issuer, an id with a path", "issuer_workload_id", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://cluster.local/ca")]));
        }),
        ("an issuer, another trust domain", "issuer_foreign_trust_domain", |t| {
            t.names = Some(Extension::names(&[uri("spiffe://other")]));
        }),
        (
            "an issuer, its own and another trust domain",
            "issuer_foreign_trust_domain",
            |t| {
                t.names = Some(Extension::names(&[
                    uri("spiffe://cluster.local"),
                    uri("spiffe://other"),
                ]));
            },
        ),
        ("an issuer, upper case", "issuer_invalid_spiffe_id", |t| {
            t.names = Some(Extension::names(&[uri("SPIFFE://cluster.local")]));
        }),
        ("an issuer, names twice", "malformed", |t| {
            t.more.extend(t.names.clone());
        }),
        ("an issuer, no constraints", "issuer_not_authority", |t| {
            t.basic_constraints = None;
        }),
        ("an issuer, no authority", "issuer_not_authority", |t| {
            t.basic_constraints = Some(Extension::basic_constraints(false, None));
        }),
        ("an issuer, expired", "expired", |t| {
            t.not_after = at(now().as_secs() - 1);
        }),
        ("an issuer, not yet valid", "not_yet_valid", |t| {
            t.not_before = at(now().as_secs() + 1);
        }),
        ("an issuer, another purpose", "issuer_purpose", |t| {
            t.extended_key_usage = Some(Extension::extended_key_usage(&[Extension::CODE_SIGNING]));
        }),
        ("an issuer, an unknown critical extension", "critical_extension", |t| {
            t.more.push(Extension {
                id: vec![1, 2, 3, 4],
                critical: true,
                value: vec![5, 0],
            });
        }),
        // Whatever it permits, a constraint on URIs is not evaluated.
        ("an issuer, a constraint to the trust domain", "name_constraint", |t| {
            t.more.push(Extension::uri_constraints(&["cluster.local"], &[]));
        }),
        ("an issuer, a constraint to subdomains", "name_constraint", |t| {
            t.more.push(Extension::uri_constraints(&[".local"], &[]));
        }),
        (
            "an issuer, a constraint to another trust domain",
            "name_constraint",
            |t| {
                t.more.push(Extension::uri_constraints(&["other"], &[]));
            },
        ),
        (
            "an issuer, a constraint against the trust domain",
            "name_constraint",
            |t| {
                t.more.push(Extension::uri_constraints(&[], &["cluster.local"]));
            },
        ),
    ];
    let vectors = changes.iter().map(|&(name, reason, change)| {
        let mut template = authority();
        change(&mut template);
        let issuer = ca.intermediate_with(template).unwrap();
        Vector {
            name,
            as_client: reason,
            as_server: reason,
            issued: issuer.issue(&workload(), now()).unwrap(),
        }
    });
    vectors.collect()
}

pub fn svid(issued: &Issued, provider: &CryptoProvider) -> Arc<Svid> {
    Arc::new(issued.svid(provider, now()).unwrap())
}

pub fn server(ca: &DevCa, trust: TrustBundles, policy: PeerPolicy) -> ServerTls {
    server_with(ca, trust, policy, provider::aws_lc_rs(), Arc::new(Still(now())))
}

pub fn server_with(
    ca: &DevCa,
    trust: TrustBundles,
    policy: PeerPolicy,
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
) -> ServerTls {
    let issued = ca
        .issue(&id(&format!("spiffe://{}/ns/shop/sa/till", ca.trust_domain())), now())
        .unwrap();
    let svid = svid(&issued, &provider);
    ServerTls::builder(provider)
        .identity(svid)
        .trust(Arc::new(trust))
        .authorize(policy)
        .clock(clock)
        .build()
        .unwrap()
}

pub fn client(ca: &DevCa, trust: TrustBundles, policy: PeerPolicy) -> ClientTls {
    let provider = provider::aws_lc_rs();
    let issued = ca
        .issue(&id(&format!("spiffe://{}/ns/shop/sa/cart", ca.trust_domain())), now())
        .unwrap();
    ClientTls::builder(Arc::clone(&provider))
        .identity(svid(&issued, &provider))
        .trust(Arc::new(trust))
        .authorize(policy)
        .clock(Arc::new(Still(now())))
        .build()
        .unwrap()
}

/// A client that believes anybody and presents whatever it is given.
pub fn careless_client(issued: Option<&Issued>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider::aws_lc_rs())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match issued {
        Some(issued) => builder
            .with_client_auth_cert(issued.chain().to_vec(), issued.key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A signer that holds one certificate's key and shows another's chain.
#[derive(Debug)]
struct Claim(Arc<rustls::sign::CertifiedKey>);

impl Claim {
    fn new(chain: Vec<CertificateDer<'static>>, own: &Issued) -> Arc<Self> {
        let key = provider::aws_lc_rs().key_provider.load_private_key(own.key()).unwrap();
        Arc::new(Self(Arc::new(rustls::sign::CertifiedKey::new(chain, key))))
    }
}

impl rustls::client::ResolvesClientCert for Claim {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Claim {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A client that presents `chain` and signs with the key of `own`.
pub fn client_claiming(chain: Vec<CertificateDer<'static>>, own: &Issued) -> ClientConfig {
    let mut config = careless_client(None);
    config.client_auth_cert_resolver = Claim::new(chain, own);
    config
}

/// A server that presents `chain` and signs with the key of `own`.
pub fn server_claiming(chain: Vec<CertificateDer<'static>>, own: &Issued) -> ServerConfig {
    let mut config = careless_server(own);
    config.cert_resolver = Claim::new(chain, own);
    config
}

/// A server that presents this certificate, whatever rustls would think of it.
pub fn server_showing(issued: &Issued) -> ServerConfig {
    let mut config = careless_server(&ca(TD).issue(&workload(), now()).unwrap());
    config.cert_resolver = Claim::new(issued.chain().to_vec(), issued);
    config
}

/// Notes the server name of each client.
#[derive(Debug)]
pub struct SeenName {
    inner: Arc<dyn rustls::server::ResolvesServerCert>,
    names: std::sync::Mutex<Vec<Option<String>>>,
}

impl SeenName {
    pub fn new(inner: Arc<dyn rustls::server::ResolvesServerCert>) -> Self {
        Self {
            inner,
            names: std::sync::Mutex::default(),
        }
    }

    pub fn names(&self) -> Vec<Option<String>> {
        self.names.lock().unwrap().clone()
    }
}

impl rustls::server::ResolvesServerCert for SeenName {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.names.lock().unwrap().push(hello.server_name().map(str::to_owned));
        self.inner.resolve(hello)
    }
}

/// A server that asks for no certificate and presents whatever it is given.
pub fn careless_server(issued: &Issued) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider::aws_lc_rs())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(issued.chain().to_vec(), issued.key())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::aws_lc_rs()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Both ends of a connection in memory.
pub struct Pair {
    pub client: ClientConnection,
    pub server: ServerConnection,
    /// Everything that the client sent.
    pub sent: Vec<u8>,
    /// Everything that the server sent.
    pub received: Vec<u8>,
}

impl Pair {
    pub fn new(client: impl Into<Arc<ClientConfig>>, server: impl Into<Arc<ServerConfig>>) -> Self {
        Self::named(client, server, std::net::Ipv4Addr::UNSPECIFIED.into())
    }

    /// A client that calls the server by this name.
    pub fn named(
        client: impl Into<Arc<ClientConfig>>,
        server: impl Into<Arc<ServerConfig>>,
        name: ServerName<'static>,
    ) -> Self {
        Self {
            client: ClientConnection::new(client.into(), name).unwrap(),
            server: ServerConnection::new(server.into()).unwrap(),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    /// Carries bytes to and fro until both sides are silent; what each side made of them.
    pub fn run(&mut self) -> (Result<(), Error>, Result<(), Error>) {
        let (mut of_client, mut of_server) = (Ok(()), Ok(()));
        loop {
            let mut flight = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut flight).unwrap();
            }
            self.sent.extend(&flight);
            if of_server.is_ok() {
                let mut bytes = flight.as_slice();
                while !bytes.is_empty() && of_server.is_ok() {
                    self.server.read_tls(&mut bytes).unwrap();
                    of_server = self.server.process_new_packets().map(drop);
                }
            }
            let mut back = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut back).unwrap();
            }
            self.received.extend(&back);
            if of_client.is_ok() {
                let mut bytes = back.as_slice();
                while !bytes.is_empty() && of_client.is_ok() {
                    self.client.read_tls(&mut bytes).unwrap();
                    of_client = self.client.process_new_packets().map(drop);
                }
            }
            if flight.is_empty() && back.is_empty() {
                return (of_client, of_server);
            }
        }
    }
}

/// A provider that counts the ECDSA P-256 signatures it checks, and the count.
pub fn counting_provider() -> (Arc<CryptoProvider>, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let provider = provider_calling(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (provider, move || count.load(Ordering::Relaxed))
}

/// A provider that checks ECDSA P-256 signatures and calls this before each.
pub fn provider_calling(before: impl Fn() + Send + Sync + 'static) -> Arc<CryptoProvider> {
    struct Calling<F>(&'static dyn SignatureVerificationAlgorithm, F);

    impl<F> std::fmt::Debug for Calling<F> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }

    impl<F: Fn() + Send + Sync> SignatureVerificationAlgorithm for Calling<F> {
        fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            (self.1)();
            self.0.verify_signature(key, message, signature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            self.0.public_key_alg_id()
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            self.0.signature_alg_id()
        }
    }

    let mut provider = (*provider::aws_lc_rs()).clone();
    let (scheme, real) = provider
        .signature_verification_algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256)
        .unwrap();
    let calling: &'static Calling<_> = Box::leak(Box::new(Calling(real[0], before)));
    let all: &'static [&'static dyn SignatureVerificationAlgorithm] = Box::leak(Box::new([calling as _]));
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms {
        all,
        mapping: Box::leak(Box::new([(*scheme, all)])),
    };
    Arc::new(provider)
}
