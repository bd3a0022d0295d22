//! Policies of two kinds, and the connections and requests that they are asked about.

use std::net::IpAddr;
use std::sync::Arc;

use mesh_policy::authz::model::{Operation, OperationField, Rule, Source, SourceField};
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, PolicySet};
use mesh_policy::{ConnectionFacts, Facts, Known, NormalizedPath, PathNormalization, Peer, RequestFacts};

pub const RULES: usize = 10;

/// What the policies of a set ask for.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Peers, addresses and ports.
    L4,
    /// These, and paths, methods and hosts.
    L7,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::L4 => "L4",
            Self::L7 => "L7",
        }
    }

    pub fn dialect(self) -> Dialect {
        match self {
            Self::L4 => Dialect::Ztunnel,
            Self::L7 => Dialect::EnvoyHttp,
        }
    }
}

/// One in four denies; every rule is about a workload of its own.
pub fn policy(kind: Kind, number: usize) -> AuthorizationPolicy {
    let (namespace, name) = (format!("ns-{}", number % 100), format!("policy-{number}"));
    let empty = if number % 4 == 3 {
        AuthorizationPolicy::deny(&namespace, &name)
    } else {
        AuthorizationPolicy::allow(&namespace, &name)
    };
    (0..RULES).fold(empty, |policy, rule| policy.rule(self::rule(kind, number, rule)))
}

fn rule(kind: Kind, number: usize, rule: usize) -> Rule {
    let source = Source::new();
    let source = match rule % 5 {
        0 => source.any_of(
            SourceField::Principals,
            [format!("cluster.local/ns/n-{number}/sa/sa-{rule}")],
        ),
        1 => source.any_of(SourceField::Namespaces, [format!("space-{number}-{rule}")]),
        2 => source.any_of(SourceField::ServiceAccounts, [format!("n-{number}/account-{rule}")]),
        3 => source.any_of(
            SourceField::IpBlocks,
            [format!("10.{}.{}.{}/32", number / 256, number % 256, rule)],
        ),
        _ => source.any_of(
            SourceField::Principals,
            [format!("cluster.local/ns/prefix-{number}-{rule}/*")],
        ),
    };
    let operation = Operation::new();
    let operation = match (kind, rule % 2) {
        (Kind::L4, _) => operation.any_of(OperationField::Ports, ["8080"]),
        (Kind::L7, 0) => operation
            .any_of(OperationField::Methods, ["GET", "POST"])
            .any_of(OperationField::Paths, [format!("/service-{number}/method-{rule}")]),
        (Kind::L7, _) => operation
            .any_of(OperationField::Hosts, [format!("service-{number}.example")])
            .any_of(OperationField::Paths, [format!("/service-{number}/tree-{rule}/*")]),
    };
    Rule::new().from(source).to(operation)
}

pub fn policies(kind: Kind, count: usize) -> Vec<Arc<AuthorizationPolicy>> {
    (0..count).map(|number| Arc::new(policy(kind, number))).collect()
}

pub fn compile(kind: Kind, policies: &[Arc<AuthorizationPolicy>]) -> PolicySet {
    Compiler::new(kind.dialect()).compile(policies.iter().cloned()).unwrap()
}

/// Which request: one that the first rule of a policy in the middle allows, or one that none does.
#[derive(Clone, Copy)]
pub enum Aim {
    Hit,
    Miss,
}

impl Aim {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// Hands the facts of a request to a function.
pub fn with_facts<T>(kind: Kind, aim: Aim, count: usize, function: impl FnOnce(Facts<'_>) -> T) -> T {
    // Divisible by four, so that the policy allows.
    let number = count / 8 * 4;
    let account = match aim {
        Aim::Hit => "sa-0",
        Aim::Miss => "sa-x",
    };
    let peer = Peer::from(
        &format!("spiffe://cluster.local/ns/n-{number}/sa/{account}")
            .parse()
            .unwrap(),
    );
    let source: IpAddr = "192.0.2.1".parse().unwrap();
    let connection = ConnectionFacts::new()
        .peer(Known::Present(&peer))
        .source_ip(source)
        .remote_ip(source)
        .destination_ip(source)
        .destination_port(8080)
        .sni(Known::Absent);
    let mut buffer = Vec::new();
    let target = format!("/service-{number}/method-0");
    let path: NormalizedPath<'_> = PathNormalization::Base
        .normalize(target.as_bytes(), &mut buffer)
        .unwrap();
    let headers = [("user-agent", "bench"), ("accept", "*/*")];
    let host = format!("service-{number}.example");
    let request = RequestFacts::new(connection, b"GET", &headers)
        .authority(Known::Present(host.as_bytes()))
        .path(Known::Present(path))
        .claims(Known::Absent);
    match kind {
        Kind::L4 => function(Facts::from(&connection)),
        Kind::L7 => function(Facts::from(&request)),
    }
}
