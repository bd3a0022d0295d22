//! Batches of policy sets, each put to an Envoy of its own.

use std::sync::Arc;
use tokio::time::Instant;

use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, PolicySet};
use mesh_testkit::policy::generate::{meshes, policies};
use mesh_testkit::policy::wire::{Connection, Request, connections, requests};
use proptest::collection::vec;
use proptest::strategy::{Just, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::config::configuration;
use crate::envoy::Envoy;
use crate::pki::Pki;
use crate::{http, tcp, wanted};

/// How many sets an Envoy is given at once.
const SETS: usize = 100;

/// How many connections each set is asked about, and how many requests come by one over HTTP.
const CONNECTIONS: usize = 10;
const REQUESTS: usize = 20;

/// How many sets are asked at the same time.
const CONCURRENCY: usize = 8;

/// Every so many sets, one has connections without TLS.
const PLAINTEXT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Http,
    Tcp,
}

impl Layer {
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Http => Dialect::EnvoyHttp,
            Self::Tcp => Dialect::EnvoyTcp,
        }
    }
}

/// A set of policies, and whom it is asked about.
pub struct Case {
    /// The port that its connections say they come from, by which Envoy finds the set.
    pub source_port: u16,
    pub is_tls: bool,
    pub policies: Vec<AuthorizationPolicy>,
    pub set: PolicySet,
    pub connections: Vec<(Connection, Vec<Request>)>,
}

/// Compares at least so many decisions.
pub async fn compare(layer: Layer, decisions: usize) {
    let seed = u8::try_from(wanted("POLICY_ENVOY_SEED", 1)).unwrap();
    let began = Instant::now();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let pki = Arc::new(Pki::new());
    let mut tally = Tally::default();
    while tally.decisions < decisions {
        let left = decisions - tally.decisions;
        let per_set = match layer {
            Layer::Http => CONNECTIONS * REQUESTS,
            Layer::Tcp => CONNECTIONS,
        };
        let sets = left.div_ceil(per_set).min(SETS);
        let cases: Vec<_> = (0..sets).map(|index| Case::draw(&mut runner, layer, index)).collect();
        run(layer, cases, &pki, &mut tally).await;
    }
    eprintln!(
        "{layer:?}: {} decisions in {:.1?} (seed {seed}): {} denied, {} by a rule, {} with an audit, {} different",
        tally.decisions,
        began.elapsed(),
        tally.denied,
        tally.by_rule,
        tally.audited,
        tally.differences.len(),
    );
    assert!(tally.differences.is_empty(), "{}", tally.differences[0]);
    assert!(tally.denied > 0 && tally.denied < tally.decisions && tally.by_rule > 0);
}

/// What was compared.
#[derive(Default)]
struct Tally {
    decisions: usize,
    denied: usize,
    by_rule: usize,
    audited: usize,
    differences: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: &Case, connection: &Connection, request: Option<&Request>, theirs: &Answer) {
        let ours = connection.with(request, |facts| Answer::of(&case.set.decide(facts), &case.set));
        self.decisions += 1;
        self.denied += usize::from(ours.is_denied);
        self.by_rule += usize::from(ours.rule.is_some());
        self.audited += usize::from(ours.audit.is_some());
        if ours != *theirs {
            self.differences.push(format!(
                "ours   {ours:?}\nenvoy's {theirs:?}\n{connection:?}\n{request:?}\n{:#?}",
                case.policies
            ));
        }
    }
}

/// Puts one batch to an Envoy.
async fn run(layer: Layer, cases: Vec<Case>, pki: &Arc<Pki>, tally: &mut Tally) {
    let envoy = Envoy::start(&configuration(layer, &cases, pki)).await;
    let addr = envoy.addr;
    let mut waiting = cases.into_iter().map(Arc::new);
    let mut tasks = JoinSet::new();
    let mut asked = Vec::new();
    loop {
        while tasks.len() < CONCURRENCY
            && let Some(case) = waiting.next()
        {
            let pki = Arc::clone(pki);
            tasks.spawn(async move {
                let answers = match layer {
                    Layer::Http => http::ask(addr, &case, &pki).await,
                    Layer::Tcp => tcp::ask(addr, &case, &pki).await,
                };
                (case, answers)
            });
        }
        match tasks.join_next().await {
            Some(done) => asked.push(done.unwrap()),
            None => break,
        }
    }
    let log = match layer {
        Layer::Http => tcp::Log::default(),
        Layer::Tcp => tcp::Log::read(&envoy, asked.iter().map(|(_, answers)| answers.len()).sum()).await,
    };
    for (case, answers) in asked {
        for (connection, request, heard) in answers {
            let theirs = heard.answer(&log);
            let (connection, requests) = &case.connections[connection];
            tally.add(&case, connection, request.map(|request| &requests[request]), &theirs);
        }
    }
}

/// What was asked, by its indices, and what was heard.
pub type Heard = (usize, Option<usize>, Voice);

/// What a client learns.
pub enum Voice {
    /// The answer to a request says it all.
    Http(Answer),
    /// A connection is let through or closed; which rule it was is in the log, under this name.
    Tcp { name: String, is_denied: bool },
}

impl Voice {
    fn answer(&self, log: &tcp::Log) -> Answer {
        match self {
            Self::Http(answer) => answer.clone(),
            Self::Tcp { name, is_denied } => log.answer(name, *is_denied),
        }
    }
}

impl Case {
    fn draw(runner: &mut TestRunner, layer: Layer, index: usize) -> Self {
        let is_tls = index % PLAINTEXT != PLAINTEXT - 1;
        let dialect = layer.dialect();
        let requests = match layer {
            Layer::Http => vec(requests(), REQUESTS).boxed(),
            Layer::Tcp => Just(Vec::new()).boxed(),
        };
        let connections = vec((connections(is_tls), requests), CONNECTIONS);
        let (mesh, policies, connections) = (meshes(dialect), policies(dialect), connections)
            .new_tree(runner)
            .unwrap()
            .current();
        let set = Compiler::new(dialect)
            .trust_domains(mesh.trust_domains)
            .compile(policies.clone())
            .unwrap();
        Self {
            source_port: u16::try_from(1024 + index).unwrap(),
            is_tls,
            policies,
            set,
            connections,
        }
    }
}
