use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mesh_policy::{
    Budget, ConnectionFacts, Known, PathNormalization, RequestFacts,
    authz::Labels,
    manifest::{Item, Problem},
    traffic::{
        AnswerEdits, Choice, Forward, Gateway, Route, RouteRequest, RouteTable, Step, Target,
        attach::{self, Cluster, ParentStatus},
        k8s::{self, Manifests},
    },
};

use crate::case::{Case, shown};

/// How often a request is asked to find shares.
const OFTEN: u64 = 1_000;

/// What a file says, attached.
pub(crate) struct World {
    kind: Parent,
    tables: HashMap<Box<str>, RouteTable>,
}

/// Where requests arrive.
enum Parent {
    Gateway(Gateway),
    Service,
}

/// Services with their ports, and labels of namespaces.
#[derive(Default)]
struct Things {
    services: Vec<(String, String, u16)>,
    namespaces: HashMap<String, Labels>,
}

impl Cluster for Things {
    fn has_service(&self, namespace: &str, name: &str, port: u16) -> bool {
        let mut services = self.services.iter();
        services.any(|service| (&*service.0, &*service.1, service.2) == (namespace, name, port))
    }

    fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }
}

/// What a file wants to know.
#[derive(Default)]
struct Wanted {
    gateway: Option<String>,
    service: Option<(String, u16)>,
    statuses: BTreeMap<String, String>,
    cases: Vec<Case>,
}

const INFRA: &str = "gateway-conformance-infra";
const MESH: &str = "gateway-conformance-mesh";

impl World {
    pub(crate) fn new(text: &str) -> (Self, Vec<Case>) {
        let mut manifests = k8s::read("cases.yaml", text, &Budget::new()).unwrap();
        let faults = manifests.rejected.iter().map(ToString::to_string);
        assert_eq!(faults.collect::<Vec<_>>(), Vec::<String>::new());
        let (mut things, mut wanted) = (Things::default(), Wanted::default());
        for item in std::mem::take(&mut manifests.others) {
            let line = item.line;
            take(item, &mut things, &mut wanted).unwrap_or_else(|fault| panic!("{line}: {fault:?}"));
        }
        let (world, statuses) = attach(&manifests, &things, &wanted);
        for (route, expected) in &wanted.statuses {
            let of_route = statuses.iter().filter(|status| *status.route.name == **route);
            let found: Vec<_> = of_route.map(status).collect();
            assert_eq!(found.join("; "), *expected, "{route}");
        }
        (world, wanted.cases)
    }

    /// What becomes of a request.
    pub(crate) fn ask(&self, case: &Case) -> String {
        let (method, url) = case.ask.split_once(' ').unwrap();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (authority, target) = rest.split_at(rest.find('/').unwrap());
        let default = if scheme == "https" { 443 } else { 80 };
        let port = authority
            .split_once(':')
            .map_or(default, |(_, port)| port.parse().unwrap());
        let mut buffer = Vec::new();
        let path = PathNormalization::Base
            .normalize(target.as_bytes(), &mut buffer)
            .unwrap();
        let facts = RequestFacts::new(ConnectionFacts::new(), method.as_bytes(), &case.headers)
            .authority(Known::Present(authority.as_bytes()))
            .path(Known::Present(path));
        let request = RouteRequest::new(&facts).port(port).scheme(scheme.as_bytes());
        let Some(choice) = self.decide(&request, port) else {
            return "status: 404".to_owned();
        };
        let mut found = if case.is_often {
            shares(&choice, &request)
        } else {
            outcome(&choice, &request, case)
        };
        if case.says("rule") {
            found.insert("rule".into(), choice.rule().name.as_deref().unwrap_or_default().into());
        }
        if case.says("timeouts") {
            let timeouts = choice.rule().timeouts;
            found.insert(
                "timeouts".into(),
                format!("{:?} {:?}", timeouts.request, timeouts.attempt),
            );
        }
        shown(&found)
    }

    fn decide(&self, request: &RouteRequest<'_>, port: u16) -> Option<Choice<'_>> {
        let listener = match &self.kind {
            Parent::Gateway(gateway) => &*gateway.listener(port, request.host()?)?.name,
            Parent::Service => "",
        };
        self.tables[listener].decide(request)
    }
}

fn take(item: Item, things: &mut Things, wanted: &mut Wanted) -> Result<(), Problem> {
    let mut object = item.object;
    match item.kind.as_str() {
        "Service" | "Namespace" => {
            let mut metadata = object.required_object("metadata")?;
            let (name, namespace) = (metadata.required_text("name")?, metadata.text("namespace")?);
            if item.kind == "Namespace" {
                let labels = metadata.object("labels")?.unwrap().into_texts()?;
                things.namespaces.insert(name, labels.into_iter().collect());
                return Ok(());
            }
            let namespace = namespace.unwrap();
            for (_, port) in object.texts("ports")? {
                let service = (namespace.clone(), name.clone(), port.parse().unwrap());
                things.services.push(service);
            }
        }
        "Cases" => {
            wanted.gateway = object.text("gateway")?;
            let service = object.text("service")?;
            wanted.service = service.map(|service| {
                let (name, port) = service.split_once(':').unwrap();
                (name.to_owned(), port.parse().unwrap())
            });
            let statuses = object.object("statuses")?;
            wanted.statuses = statuses
                .map_or(Ok(Vec::new()), |all| all.into_texts())?
                .into_iter()
                .collect();
            for case in object.objects("cases")? {
                wanted.cases.push(Case::read(case)?);
            }
        }
        kind => panic!("{kind}"),
    }
    object.finish()
}

fn attach(manifests: &Manifests, things: &Things, wanted: &Wanted) -> (World, Vec<ParentStatus>) {
    let Manifests { routes, grants, .. } = manifests;
    let table = |routes: &[Arc<Route>]| {
        let table = RouteTable::new(routes.iter().cloned(), &Budget::new());
        assert!(table.refused().is_empty());
        table
    };
    if let Some((service, port)) = &wanted.service {
        let attached = attach::service(MESH, service, *port, routes, grants, things);
        let world = World {
            kind: Parent::Service,
            tables: HashMap::from([("".into(), table(&attached.routes))]),
        };
        return (world, attached.statuses);
    }
    let name = wanted.gateway.as_deref().unwrap_or("same-namespace");
    let mut gateways = manifests.gateways.iter();
    let gateway = gateways.find(|gateway| *gateway.name == *name && *gateway.namespace == *INFRA);
    let gateway = gateway.unwrap_or_else(|| panic!("there is no gateway {name}"));
    let attached = attach::gateway(gateway, routes, grants, things);
    let listeners = attached.listeners.iter();
    let world = World {
        tables: listeners
            .map(|found| (found.listener.clone(), table(&found.routes)))
            .collect(),
        kind: Parent::Gateway(gateway.clone()),
    };
    (world, attached.statuses)
}

fn status(status: &ParentStatus) -> String {
    let accepted = match &status.accepted {
        Ok(()) => "Accepted".to_owned(),
        Err(reason) => format!("{reason:?}").split(' ').next().unwrap().to_owned(),
    };
    let unresolved = status.unresolved.iter().map(|(_, reason)| format!(", {reason}"));
    format!("{accepted}{}", unresolved.collect::<String>())
}

fn shares(choice: &Choice<'_>, request: &RouteRequest<'_>) -> BTreeMap<String, String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for at in 0..OFTEN {
        let draw = at * (u64::MAX / OFTEN) + u64::MAX / OFTEN / 2;
        let to = match choice.plan(request, || draw).step {
            Step::Forward(forward) if forward.mirrors.is_empty() => backend(&forward),
            Step::Forward(forward) => format!("{} and mirrors", backend(&forward)),
            Step::Fail(failed) => failed.status().0.to_string(),
            other => panic!("{other:?}"),
        };
        *counts.entry(to).or_default() += 100;
    }
    let percents = counts
        .into_iter()
        .map(|(to, count)| (format!("share of {to}"), (count / OFTEN).to_string()));
    percents.collect()
}

fn backend(forward: &Forward<'_>) -> String {
    match &forward.backend.target {
        Target::Object { namespace, name, .. } if [INFRA, MESH].contains(&&**namespace) => name.to_string(),
        Target::Object { namespace, name, .. } => format!("{namespace}/{name}"),
        other => other.to_string(),
    }
}

fn outcome(choice: &Choice<'_>, request: &RouteRequest<'_>, case: &Case) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut tell = |what: &str, value: String| found.insert(what.to_owned(), value);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match choice.plan(request, || 0).step {
        Step::Forward(forward) => {
            tell("backend", backend(&forward));
            forward.host.map(|host| tell("host", host.to_owned()));
            forward.target.as_deref().map(|target| tell("target", text(target)));
            for mirror in forward.mirrors.iter() {
                let Target::Object { name, .. } = &mirror.target else {
                    panic!()
                };
                tell(&format!("mirror {name}"), String::new());
            }
            let mut headers = case.headers.clone();
            forward
                .request_headers
                .iter()
                .for_each(|edits| edits.apply(&mut headers));
            for name in &case.sees {
                tell(&format!("sees {name}"), value(&headers, name));
            }
            answered(&forward.answer, case, &mut found);
        }
        Step::Redirect {
            status,
            location,
            answer,
        } => {
            tell("status", status.to_string());
            tell("location", text(&location));
            answered(&answer, case, &mut found);
        }
        Step::Respond { response, answer } => {
            tell("status", response.status.to_string());
            tell("body", text(&response.body));
            answered(&answer, case, &mut found);
        }
        Step::Preflight(answer) => {
            tell("status", "204".to_owned());
            let mut headers = case.answer.clone();
            answer.apply(&mut headers);
            for name in &case.gets {
                tell(&format!("gets {name}"), value(&headers, name));
            }
        }
        Step::Fail(failed) => {
            let (status, grpc) = failed.status();
            tell("status", status.to_string());
            grpc.map(|grpc| tell("grpc", grpc.to_string()));
        }
        other => panic!("{other:?}"),
    }
    found
}

fn answered(answer: &AnswerEdits<'_>, case: &Case, found: &mut BTreeMap<String, String>) {
    let mut headers = case.answer.clone();
    answer.apply(&mut headers);
    for name in &case.gets {
        found.insert(format!("gets {name}"), value(&headers, name));
    }
}

/// All lines of a header as one; nothing if there is none.
fn value(headers: &[(String, String)], name: &str) -> String {
    let lines = headers.iter().filter(|(line, _)| line.eq_ignore_ascii_case(name));
    lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",")
}
