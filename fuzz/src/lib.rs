//! What each fuzz target asks of an input. A target must return for every input: a panic is a
//! finding.
//!
//! The inputs in `regressions/` are replayed over the same functions by the workspace's tests.

use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Instant;

use hbone::Authority;
use hbone::TunnelRequest;
use hbone::metadata::{Baggage, Forwarded, TraceParent};
use mesh_examples::node_proxy;
use mesh_identity::SpiffeId;
use mesh_policy::authz::compare::{Answer, Comparison};
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, Labels, k8s, xds};
use mesh_policy::jwt::{Authenticator, InlineOnly};
use mesh_policy::traffic::attach::{self, Cluster};
use mesh_policy::traffic::upstream::Settings;
use mesh_policy::traffic::{self, Plan, RouteTable, Step};
use mesh_policy::{Budget, ConnectionFacts, Known, PathNormalization, RequestFacts, Resource};
use mesh_testkit::policy::generate::{DIALECTS, cases, meshes, policies};
use mesh_testkit::policy::{Outcome, decide};
use mesh_testkit::proxy_protocol;
use mesh_testkit::routes::{Asked, find};
use mesh_xds_types::{auth, discovery, ext_authz, rate_limit, rpc, security, workload};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, UnixTime, alg_id};

/// Answers for any input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its folder of regressions.
pub const TARGETS: &[(&str, Target)] = &[
    ("authority", authority),
    ("authorization", authorization),
    ("baggage", baggage),
    ("bundle", bundle),
    ("certificate_request", certificate_request),
    ("connect_head", connect_head),
    ("endpoint_url", endpoint_url),
    ("forwarded", forwarded),
    ("jwt", jwt),
    ("kubernetes_objects", kubernetes_objects),
    ("leaf", leaf),
    ("mesh_file", mesh_file),
    ("node_proxy_config", node_proxy_config),
    ("pem", pem),
    ("policy_message", policy_message),
    ("policy_yaml", policy_yaml),
    ("pool_ops", pool_ops),
    ("proxy_protocol", proxy_protocol),
    ("request_token", request_token),
    ("revocation_list", revocation_list),
    ("routes", routes),
    ("socks5", socks5),
    ("spiffe_id", spiffe_id),
    ("traceparent", traceparent),
    ("tunnel_engines", tunnel_engines),
    ("tunnel_frames", tunnel_frames),
    ("wire_message", wire_message),
    ("xds_exchange", xds_exchange),
    ("xds_request", xds_request),
    ("xds_resource", xds_resource),
    ("xds_response", xds_response),
];

/// The destination of a tunnel.
pub fn authority(data: &[u8]) {
    prints_what_it_parsed::<Authority>(data);
}

/// The `baggage` field: `data` is its lines.
pub fn baggage(data: &[u8]) {
    prints_what_it_parsed::<Baggage>(data);
    if let Ok(baggage) = Baggage::parse(lines(data)) {
        assert_eq!(baggage.to_string().parse(), Ok(baggage));
    }
}

/// The `forwarded` field: `data` is its lines.
pub fn forwarded(data: &[u8]) {
    prints_what_it_parsed::<Forwarded>(data);
    if let Ok(forwarded) = Forwarded::parse(lines(data)) {
        assert_eq!(forwarded.to_string().parse(), Ok(forwarded));
    }
}

/// The `traceparent` field.
pub fn traceparent(data: &[u8]) {
    prints_what_it_parsed::<TraceParent>(data);
}

/// Acts of a peer and of users on one side of a connection.
pub fn tunnel_frames(data: &[u8]) {
    hbone::fuzzing::tunnel_frames(data);
}

/// Acts of a lawful peer and of users on one side of a connection, with one engine and the other.
pub fn tunnel_engines(data: &[u8]) {
    hbone::fuzzing::tunnel_engines(data);
}

/// A CONNECT head: a line of method and target, then lines `name: value`.
pub fn connect_head(data: &[u8]) {
    let mut lines = lines(data);
    let mut start = lines.next().unwrap_or_default().splitn(2, |&byte| byte == b' ');
    let mut head = http::Request::builder()
        .method(start.next().unwrap_or_default())
        .uri(start.next().unwrap_or_default())
        .version(http::Version::HTTP_2);
    for line in lines {
        let mut field = line.splitn(2, |&byte| byte == b':');
        let name = field.next().unwrap_or_default();
        head = head.header(name, field.next().unwrap_or_default());
    }
    let Ok(head) = head.body(()) else { return };
    if let Ok(request) = TunnelRequest::from_parts(&head.into_parts().0) {
        let (again, ()) = request.to_head().into_parts();
        let again = TunnelRequest::from_parts(&again).expect("what was written is read");
        assert_eq!(again.authority(), request.authority());
        assert_eq!(again.metadata().baggage(), request.metadata().baggage());
        assert_eq!(again.metadata().forwarded(), request.metadata().forwarded());
        assert_eq!(again.metadata().malformed(), []);
    }
}

/// A certificate in DER, by the rules for leaves.
pub fn leaf(data: &[u8]) {
    mesh_identity::fuzzing::leaf(data);
}

/// A PEM file of certificates or of a key.
pub fn pem(data: &[u8]) {
    mesh_identity::fuzzing::pem(data);
}

/// A SPIFFE ID.
pub fn spiffe_id(data: &[u8]) {
    prints_what_it_parsed::<SpiffeId>(data);
}

/// If `data` is a `T`, then so is what the `T` prints, and it is the same one.
fn prints_what_it_parsed<T>(data: &[u8])
where
    T: FromStr<Err: Debug + PartialEq> + Display + Debug + PartialEq,
{
    if let Ok(value) = String::from_utf8_lossy(data).parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}

/// The events of a connection pool, spelled by `data`.
pub fn pool_ops(data: &[u8]) {
    hbone::fuzzing::pool_ops(data);
}

/// A certificate revocation list in DER.
pub fn revocation_list(data: &[u8]) {
    mesh_identity::fuzzing::revocation_list(data);
}

/// A SPIFFE bundle document, and a map of them.
pub fn bundle(data: &[u8]) {
    mesh_identity::fuzzing::bundle(data);
}

/// A certificate signing request in DER.
pub fn certificate_request(data: &[u8]) {
    mesh_identity::fuzzing::certificate_request(data);
}

/// The URL of a bundle endpoint, or where it redirects to.
pub fn endpoint_url(data: &[u8]) {
    mesh_identity::fuzzing::endpoint_url(data);
}

/// A JWT-SVID.
pub fn jwt(data: &[u8]) {
    mesh_identity::fuzzing::jwt(data);
}

/// A file of Kubernetes objects, on its way to a node.
pub fn kubernetes_objects(data: &[u8]) {
    mesh_examples::control_plane::fuzzing::objects(&String::from_utf8_lossy(data), origin());
}

/// The state of a mesh as a file.
pub fn mesh_file(data: &[u8]) {
    mesh_xds::fuzzing::local(data);
}

/// The configuration of a node's proxy.
pub fn node_proxy_config(data: &[u8]) {
    node_proxy::fuzzing::config(&String::from_utf8_lossy(data));
}

/// A PROXY protocol header, and one of the addresses and the identity that `data` spells: 16 bytes
/// and a port each, whose first bit says the family, and a text.
pub fn proxy_protocol(data: &[u8]) {
    let read = |header: &[u8]| {
        let (header, rest) = proxy_protocol::parse(header)?;
        rest.is_empty().then_some(header)
    };
    let written = |source: SocketAddr, destination: SocketAddr, identity: Option<SpiffeId>| {
        let header = node_proxy::fuzzing::proxy_header(source, destination, identity.as_ref());
        let again = read(&header.expect("an identity is short")).expect("what was written is read");
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        assert_eq!(canonical(again.source), canonical(source));
        assert_eq!(canonical(again.destination), canonical(destination));
        assert_eq!(again.identity, identity.map(|identity| identity.to_string()));
    };
    if let Some(header) = read(data) {
        let identity = header.identity.and_then(|identity| identity.parse().ok());
        written(header.source, header.destination, identity);
    }
    let spelled = data.split_first_chunk::<18>().and_then(|(source, rest)| {
        let (destination, identity) = rest.split_first_chunk::<18>()?;
        Some((addr(source), addr(destination), identity))
    });
    if let Some((source, destination, identity)) = spelled {
        let identity = std::str::from_utf8(identity).ok();
        written(source, destination, identity.and_then(|identity| identity.parse().ok()));
    }
}

fn addr(&[ip @ .., high, low]: &[u8; 18]) -> SocketAddr {
    let ip = match ip {
        [0..128, a, b, c, d, ..] => Ipv4Addr::new(a, b, c, d).into(),
        _ => Ipv6Addr::from(ip).into(),
    };
    SocketAddr::new(ip, u16::from_be_bytes([high, low]))
}

/// What a client of SOCKS5 sends.
pub fn socks5(data: &[u8]) {
    node_proxy::fuzzing::socks5(data);
}

/// A message of one of the protocols: the first byte says which. What was read is written, and that
/// is read as the same.
pub fn wire_message(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    let kinds: &[Target] = &[
        reads_what_it_wrote::<workload::Address>,
        reads_what_it_wrote::<workload::Workload>,
        reads_what_it_wrote::<workload::Service>,
        reads_what_it_wrote::<security::Authorization>,
        reads_what_it_wrote::<mesh_xds_types::core::Node>,
        reads_what_it_wrote::<discovery::DeltaDiscoveryRequest>,
        reads_what_it_wrote::<discovery::DeltaDiscoveryResponse>,
        reads_what_it_wrote::<rpc::Status>,
        reads_what_it_wrote::<auth::IstioCertificateRequest>,
        reads_what_it_wrote::<auth::IstioCertificateResponse>,
        reads_what_it_wrote::<ext_authz::CheckRequest>,
        reads_what_it_wrote::<ext_authz::CheckResponse>,
        reads_what_it_wrote::<rate_limit::RateLimitRequest>,
        reads_what_it_wrote::<rate_limit::RateLimitResponse>,
    ];
    if let Some(kind) = kinds.get(usize::from(*which) % kinds.len()) {
        kind(bytes);
    }
}

fn reads_what_it_wrote<M: Debug + Message + Default + PartialEq>(data: &[u8]) {
    let Ok(message) = M::decode(data) else { return };
    let written = message.encode_to_vec();
    assert_eq!(written.len(), message.encoded_len());
    let again = M::decode(written.as_slice()).expect("what was written is read");
    assert_eq!(again.encoded_len(), written.len());
    // A number that is none is not equal to itself.
    if !format!("{message:?}").contains("NaN") {
        assert_eq!(again, message);
    }
}

/// What happens to a client and a server of the discovery protocol, and between them: each byte is
/// one thing.
pub fn xds_exchange(data: &[u8]) {
    mesh_xds::fuzzing::exchange(data.get(..1000).unwrap_or(data), origin());
}

/// A request of a discovery client, as protobuf.
pub fn xds_request(data: &[u8]) {
    mesh_xds::fuzzing::request(data, origin());
}

/// A resource of a control plane, as protobuf.
pub fn xds_resource(data: &[u8]) {
    mesh_xds::fuzzing::resource(data, origin());
}

/// A response of a control plane, as protobuf.
pub fn xds_response(data: &[u8]) {
    mesh_xds::fuzzing::response(data, origin());
}

#[expect(clippy::disallowed_methods, reason = "an instant has no constructor but a clock")]
fn origin() -> Instant {
    Instant::now()
}

/// Policies and what they are asked about: the first byte is the dialect, and the next ones are the
/// generators' seed. They cannot take bytes for randomness itself, because some draw again until
/// they get another value. The compiled evaluator answers like the naive one.
pub fn authorization(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let Some(dialect) = DIALECTS.get(usize::from(*first) % DIALECTS.len()).copied() else {
        return;
    };
    let mut seed = [0; 32];
    seed.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let inputs = (policies(dialect), meshes(dialect), vec(cases(), 4));
    let Ok(tree) = inputs.new_tree(&mut TestRunner::new_with_rng(Config::default(), rng)) else {
        return;
    };
    let (policies, mesh, cases) = tree.current();
    let compiler = Compiler::new(dialect).trust_domains(mesh.trust_domains.clone());
    let set = compiler
        .compile(policies.clone())
        .expect("generated policies are valid");
    for case in cases {
        case.with(|facts| {
            let decision = set.decide(facts);
            assert_eq!(Outcome::of(&decision, &set), decide(&policies, &mesh, &facts));
            assert_eq!(set.explain(facts).verdict(), decision.verdict());
        });
    }
}

/// A file of policies.
pub fn policy_yaml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match k8s::read("fuzz.yaml", &text, &Budget::new()) {
        Ok(manifests) => {
            for dialect in DIALECTS {
                let _set = Compiler::new(dialect).compile(manifests.authorization.clone());
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// Objects about traffic, and a request: `METHOD HOST TARGET`, header lines, an empty line, and YAML. What
/// is attached anywhere is planned for, and tables find what comparing each rule finds.
pub fn routes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some((head, yaml)) = text.split_once("\n\n") else {
        return;
    };
    let budget = Budget::new()
        .with_limit(Resource::DocumentBytes, 1 << 16)
        .with_limit(Resource::ExpressionBytes, 1 << 20);
    let manifests = match traffic::k8s::read("fuzz.yaml", yaml, &budget) {
        Ok(manifests) => manifests,
        Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
    };
    for fault in manifests.rejected.iter().chain(&manifests.impaired) {
        assert!(!fault.to_string().contains('\n'), "{fault}");
    }
    for rule in &manifests.destination_rules {
        let subsets = rule.subsets.iter().map(|subset| Some(&*subset.name));
        for subset in subsets.chain([None]) {
            let _settings = Settings::of(rule, 80, subset).expect("the rule has the subset");
        }
    }
    let Some(asked) = asked(head) else { return };
    let services = attach::VirtualServices::new(&manifests.virtual_services).of("n", "a.n.svc.cluster.local");
    let gateways = manifests.gateways.iter().map(|gateway| {
        let attached = attach::gateway(gateway, &manifests.routes, &manifests.grants, &Anything);
        attached.listeners.into_iter().map(|listener| listener.routes)
    });
    let all = manifests.routes.iter().cloned();
    let tables = gateways.flatten().chain([services, all.collect()]);
    for routes in tables {
        let table = RouteTable::new(routes, &budget);
        let refused: Vec<_> = table.refused().iter().map(|refused| &refused.route.id).collect();
        assert!(table.routes().iter().all(|route| !refused.contains(&&route.id)) || refused.is_empty());
        assert_eq!(asked.decide(&table), find(table.routes(), &asked));
        asked.with(|request| {
            let plan = table
                .decide(request)
                .map(|choice| choice.plan(request, || data.len() as u64));
            if let Some(Plan {
                step: Step::Redirect { location, .. },
                ..
            }) = plan
            {
                assert!(!location.iter().any(u8::is_ascii_control));
            }
        });
    }
}

/// The request of a text, if it is one that a proxy would ask about.
fn asked(head: &str) -> Option<Asked> {
    let (first, lines) = head.split_once('\n').unwrap_or((head, ""));
    let mut words = first.split(' ');
    let [method, host, target] = [words.next()?, words.next()?, words.next()?].map(str::to_owned);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    let mut buffer = Vec::new();
    let path = PathNormalization::Base.normalize(target.as_bytes(), &mut buffer).ok()?;
    if host.len() > 253 || !host.bytes().all(is_host) || std::str::from_utf8(path.target()).is_err() {
        return None;
    }
    let headers = lines.lines().filter_map(|line| line.split_once(':'));
    Some(Asked {
        method,
        host,
        target,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        namespace: Some("n".to_owned()),
        port: 80,
    })
}

/// A cluster that has what is asked for.
struct Anything;

impl Cluster for Anything {
    fn has_service(&self, _: &str, _: &str, _: u16) -> bool {
        true
    }

    fn namespace_labels(&self, _: &str) -> Option<&Labels> {
        None
    }
}

/// A policy as ztunnel receives it.
pub fn policy_message(data: &[u8]) {
    let Ok(message) = security::Authorization::decode(data) else {
        return;
    };
    let Ok(received) = xds::read(message) else { return };
    // What is tried out is not sent.
    let sent = received.policy.dry_run(false);
    let sent_again = |policy: &AuthorizationPolicy| {
        let message = xds::write(policy, "root").expect("what was sent is sent again");
        xds::read(message).expect("what was written is read").policy
    };
    // Blocks lose the bits behind their prefix.
    let again = sent_again(&sent);
    assert_eq!(again.action(), sent.action());
    assert_eq!(again.rules().len(), sent.rules().len());
    assert_eq!(sent_again(&again).rules(), again.rules());
    let compile = |policy| Compiler::new(Dialect::Ztunnel).compile([policy]);
    if let (Ok(before), Ok(after)) = (compile(sent), compile(again)) {
        let answer = Comparison::new(&before, &after).candidates(100).is_same();
        assert!(matches!(answer, Answer::Proven), "{answer:?}");
    }
}

/// A request whose tokens are looked for in many places, and all of whose signatures are right:
/// `data` is a line with the target, then lines `name: value`.
pub fn request_token(data: &[u8]) {
    let manifests = k8s::read("fuzz.yaml", RULES, &Budget::new()).expect("the rules are valid");
    let authenticator = Authenticator::new(&manifests.request_authentication).expect("the rules are valid");
    let mut lines = lines(data);
    let mut buffer = Vec::new();
    let Ok(path) = PathNormalization::Base.normalize(lines.next().unwrap_or_default(), &mut buffer) else {
        return;
    };
    let headers: Vec<_> = lines
        .filter_map(|line| {
            let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
            Some((name, value.strip_prefix(b":")?.trim_ascii()))
        })
        .collect();
    let request = RequestFacts::new(ConnectionFacts::new(), b"GET", &headers).path(Known::Present(path));
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_900_000_000));
    match authenticator.authenticate(&request, &InlineOnly, now, &[&Credulous]) {
        Ok(authentication) => {
            for (_, value) in authentication.changes().added_headers() {
                assert!(!value.contains(&b'\n') && !value.contains(&b'\r') && !value.contains(&0));
            }
            assert!(
                authentication
                    .changes()
                    .removed_headers()
                    .any(|name| name == "x-payload")
            );
        }
        Err(rejection) => assert!(!rejection.to_string().contains('\n'), "{rejection}"),
    }
}

const RULES: &str = r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: fuzz}
spec:
  jwtRules:
  - issuer: a
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{header: x-claim, claim: b.c}]
  - issuer: b
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
    fromHeaders: [{name: x-token, prefix: 'T '}]
    fromParams: [t]
    fromCookies: [c]
    audiences: [d]
"#;

/// Finds every signature of its kind right: what is behind it is to be reached.
#[derive(Debug)]
struct Credulous;

impl SignatureVerificationAlgorithm for Credulous {
    fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }
}

fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == b'\n')
}
