use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mesh_policy::traffic::{BalanceRule, ConnectionLimits, DestinationRule, PortPolicy, Retries, Timeouts};
use mesh_testkit::xds::{balancing, in_service, located, service, workload};
use mesh_xds::store::{Identity, Service, Store};
use mesh_xds_types::workload::{self as wire, Workload};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;

use super::super::dial::{Dial, DialError};
use super::super::endpoints::Endpoints;
use super::super::error::SendError;
use super::super::order::{Order, Sent};
use super::super::site::{Here, Site};
use super::super::tasks::Tasks;
use super::super::{Upstream, cluster::Cluster};
use crate::waypoint::addressee::Addressee;
use crate::waypoint::body::{self, Body};
use crate::waypoint::labels::WorkloadLabels;

/// A service `shop` with its applications, and a worker of a waypoint in front of it.
pub(super) struct World {
    pub(super) net: Net,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) upstream: Upstream<Net>,
    pub(super) service: Arc<Service>,
    _keeping: JoinSet<()>,
}

/// The applications that can be reached, by their workloads' uids.
#[derive(Clone, Default)]
pub(super) struct Net(Arc<Mutex<Apps>>);

#[derive(Default)]
struct Apps {
    apps: BTreeMap<String, App>,
    dials: BTreeMap<String, usize>,
    is_http2: bool,
    serving: JoinSet<()>,
    tasks: Arc<Tasks>,
}

#[derive(Clone)]
pub(super) enum App {
    /// Cannot be connected to.
    Dead,
    /// Does not say that it cannot.
    Silent,
    Http(Serve),
    Raw(Arc<dyn Fn(DuplexStream) -> Working + Send + Sync>),
}

pub(super) type Working = Pin<Box<dyn Future<Output = ()> + Send>>;
type Serving = Pin<Box<dyn Future<Output = Result<Response<Body>, Gone>> + Send>>;
pub(super) type Serve = Arc<dyn Fn(Request<Incoming>) -> Serving + Send + Sync>;

/// The application goes away without an answer.
#[derive(Debug, thiserror::Error)]
#[error("gone")]
pub(super) struct Gone;

impl App {
    pub(super) fn http<F>(serve: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<Body>, Gone>> + Send + 'static,
    {
        Self::Http(Arc::new(move |request| Box::pin(serve(request))))
    }

    pub(super) fn raw<F>(work: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::Raw(Arc::new(move |io| Box::pin(work(io))))
    }

    /// Answers with a status and its own name.
    pub(super) fn answering(status: u16, name: &'static str, log: &Log) -> Self {
        let log = log.clone();
        Self::http(move |request| {
            let log = log.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
                let number = head
                    .headers
                    .get("x-number")
                    .map(|number| number.to_str().unwrap().to_owned());
                log.note(format!(
                    "{name} {} {}{}",
                    head.method,
                    number.unwrap_or_default(),
                    String::from_utf8_lossy(&body)
                ));
                Ok(answer(status, name))
            }
        })
    }
}

/// What applications did.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(super) fn answer(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::whole(text));
    *response.status_mut() = status.try_into().unwrap();
    response
}

impl Net {
    fn lock(&self) -> MutexGuard<'_, Apps> {
        self.0.lock().unwrap()
    }

    pub(super) fn set(&self, uid: &str, app: App) {
        self.lock().apps.insert(uid.to_owned(), app);
    }

    pub(super) fn dials(&self, uid: &str) -> usize {
        self.lock().dials.get(uid).copied().unwrap_or(0)
    }
}

impl Dial for Net {
    type Io = DuplexStream;

    async fn dial(&self, site: &Site) -> Result<DuplexStream, DialError> {
        let uid = site.workload.uid.to_string();
        let app = {
            let mut apps = self.lock();
            *apps.dials.entry(uid.clone()).or_default() += 1;
            apps.apps.get(&uid).cloned().unwrap_or(App::Dead)
        };
        tokio::task::yield_now().await;
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let mut apps = self.lock();
        match app {
            App::Dead => return Err(DialError::Timeout),
            App::Silent => {
                drop(apps);
                return std::future::pending().await;
            }
            App::Raw(work) => {
                apps.serving.spawn(work(theirs));
            }
            App::Http(serve) if apps.is_http2 => {
                let starter = apps.tasks.starter();
                let service = service_fn(move |request| serve(request));
                apps.serving.spawn(async move {
                    let served = http2::Builder::new(starter).serve_connection(TokioIo::new(theirs), service);
                    drop(served.await);
                });
            }
            App::Http(serve) => {
                let service = service_fn(move |request| serve(request));
                apps.serving.spawn(async move {
                    let served = http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
                    drop(served.with_upgrades().await);
                });
            }
        }
        Ok(ours)
    }
}

impl World {
    pub(super) fn new<'a>(is_http2: bool, apps: impl IntoIterator<Item = (&'a str, App)>) -> Self {
        let net = Net::default();
        net.lock().is_http2 = is_http2;
        let apps: Vec<_> = apps.into_iter().collect();
        let uids: Vec<&str> = apps.iter().map(|(uid, _)| *uid).collect();
        for (uid, app) in apps {
            net.set(uid, app);
        }
        let own = Identity {
            trust_domain: "cluster.local".into(),
            namespace: "default".into(),
            service_account: "waypoint".into(),
        };
        let endpoints = Arc::new(Endpoints::new(15008, own));
        let mut world = Self {
            upstream: Upstream::by(Arc::clone(&endpoints), net.clone()),
            service: take(&endpoints, &alike(&uids), WorkloadLabels::default()),
            endpoints: Arc::clone(&endpoints),
            net,
            _keeping: JoinSet::new(),
        };
        world._keeping.spawn(async move { endpoints.keep().await });
        world
    }

    /// Makes these the endpoints.
    pub(super) fn mesh(&mut self, uids: &[&str]) {
        self.workloads(&alike(uids));
    }

    /// Makes these the workloads of the mesh.
    pub(super) fn workloads(&mut self, workloads: &[Workload]) {
        self.labelled(workloads, WorkloadLabels::default());
    }

    /// Makes these the workloads, with labels that the mesh does not tell.
    pub(super) fn labelled(&mut self, workloads: &[Workload], labels: WorkloadLabels) {
        self.service = take(&self.endpoints, workloads, labels);
    }

    /// Makes these the workloads, of which the service is to have those of the waypoint's own node only.
    pub(super) fn local(&mut self, workloads: &[Workload]) {
        let local = wire::Service {
            load_balancing: Some(balancing(
                wire::load_balancing::Mode::Strict,
                &[wire::load_balancing::Scope::Node],
            )),
            ..service("shop", Some("10.96.0.1"))
        };
        self.service = take_with(&self.endpoints, &local, workloads, WorkloadLabels::default());
    }

    /// The same, while others use this world; the service stays as it is.
    pub(super) fn relabel(&self, workloads: &[Workload], labels: WorkloadLabels) {
        take(&self.endpoints, workloads, labels);
    }

    /// Makes these the endpoints at the waypoint's own place, and at another one.
    pub(super) fn divided(&mut self, near: &[&str], far: &[&str]) {
        let near = near.iter().map(|uid| (uid, "r/z/s"));
        let places = near.chain(far.iter().map(|uid| (uid, "r/other/s")));
        let endpoints = places.enumerate().map(|(number, (uid, place))| {
            let at = format!("10.0.1.{}", number + 1);
            located(in_service(workload(uid, &at), "shop"), place)
        });
        let here = located(workload("waypoint", "10.0.0.9"), "r/z/s");
        self.workloads(&[here].into_iter().chain(endpoints).collect::<Vec<_>>());
    }

    pub(super) fn order(&self) -> Order {
        Order {
            to: Addressee::Service(Arc::clone(&self.service)),
            port: 80,
            subset: None,
            rule: None,
            policy: None,
            timeouts: Timeouts::default(),
            retries: None,
            is_http2: self.net.lock().is_http2,
            source_addr: Some(SocketAddr::from(([10, 0, 0, 1], 1))),
            shadows: Vec::new(),
        }
    }

    pub(super) fn cluster(&self, order: &Order) -> Arc<Cluster> {
        self.endpoints.cluster(order).unwrap()
    }

    pub(super) async fn send(&self, request: Request<Body>, order: &Order) -> Result<Sent, SendError> {
        self.upstream.send(request, order).await
    }

    /// Sends a request, and reads all of its answer: status, text, attempts.
    pub(super) async fn ask(&self, request: Request<Body>, order: &Order) -> (u16, String, u32) {
        match self.send(request, order).await {
            Ok(sent) => {
                let status = sent.response.status().as_u16();
                let text = sent.response.into_body().collect().await.unwrap().to_bytes();
                (status, String::from_utf8_lossy(&text).into_owned(), sent.attempts)
            }
            Err(error) => (error.status().as_u16(), error.flags().to_string(), error.attempts),
        }
    }
}

/// Workloads of the service, each at an address of its own.
fn alike(uids: &[&str]) -> Vec<Workload> {
    let at = |number: usize| format!("10.0.1.{}", number + 1);
    let members = uids.iter().enumerate();
    members
        .map(|(number, uid)| in_service(workload(uid, &at(number)), "shop"))
        .collect()
}

fn take(endpoints: &Endpoints, workloads: &[Workload], labels: WorkloadLabels) -> Arc<Service> {
    take_with(endpoints, &service("shop", Some("10.96.0.1")), workloads, labels)
}

fn take_with(
    endpoints: &Endpoints,
    service: &wire::Service,
    workloads: &[Workload],
    labels: WorkloadLabels,
) -> Arc<Service> {
    let mut store = Store::new();
    store.insert_service(service).unwrap();
    for workload in workloads {
        store.insert_workload(workload).unwrap();
    }
    let mesh = store.snapshot();
    let service = Arc::clone(mesh.service("default/shop").unwrap());
    let here = Here {
        network: "".into(),
        workload: mesh.workload("waypoint").cloned(),
        hbone_port: 15008,
    };
    endpoints.take(mesh, here, labels);
    service
}

pub(super) fn get(number: usize) -> Request<Body> {
    request("GET", number, "")
}

pub(super) fn post(number: usize, text: &str) -> Request<Body> {
    request("POST", number, text)
}

fn request(method: &str, number: usize, text: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://shop/a")
        .header("x-number", number)
        .body(body::whole(text.to_owned()))
        .unwrap()
}

/// Retries after these ends.
pub(super) fn retries(attempts: u32, conditions: &str) -> Option<Retries> {
    let mut retries = Retries::default();
    retries.attempts = attempts;
    retries.conditions = Some(conditions.parse().unwrap());
    Some(retries)
}

pub(super) fn rule(change: impl FnOnce(&mut PortPolicy)) -> Option<Arc<DestinationRule>> {
    let mut rule = DestinationRule::new("default", "shop", "shop".parse().unwrap());
    change(&mut rule.policy.general);
    Some(Arc::new(rule))
}

pub(super) fn limits(change: impl FnOnce(&mut ConnectionLimits)) -> Option<Arc<DestinationRule>> {
    rule(|policy| change(policy.limits.get_or_insert_default()))
}

/// Endpoints get requests in turn.
pub(super) fn in_turn(policy: &mut PortPolicy) {
    policy.balancer.get_or_insert_default().algorithm = Some(BalanceRule::RoundRobin);
}
