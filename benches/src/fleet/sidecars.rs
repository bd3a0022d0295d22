//! An Envoy beside each workload, configured as Istio configures its sidecars.
//!
//! As Istio does it: an inbound listener that takes mutual TLS with any identity of the trust domain;
//! outbound clusters for every service of the mesh, each with mutual TLS to exactly the identity of
//! its workload; retries, fault and CORS filters on HTTP; no access log; and the few statistics that
//! Istio's bootstrap lets Envoy keep. TLS is 1.3 on both sides, as the node proxies speak it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::world::{Workload, World};
use crate::envoy;
use crate::pki::TRUST_DOMAIN;
use crate::process::Process;

/// Where sidecars take TLS.
pub const INBOUND_PORT: u16 = 15006;

/// Where sidecars say whether they are ready.
const ADMIN_PORT: u16 = 15000;

/// Where sidecars take their application's connections; those to the `n`th called service at the
/// `n`th port from here if they do not read HTTP.
const OUTBOUND_PORT: u16 = 15001;
const OUTBOUND_TCP_PORT: u16 = 15100;

/// The type of an extension's configuration begins so.
const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";

/// What sidecars understand of what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Bytes: what Istio does for a port that is declared `tcp`.
    Tcp,
    /// Requests: what Istio does for a port that is declared `http`.
    Http,
}

/// A sidecar for each workload.
#[derive(Debug)]
pub struct Sidecars {
    layer: Layer,
    processes: Vec<Process>,
}

impl Sidecars {
    /// Starts all, and waits until they are ready.
    pub async fn start(
        world: &World,
        layer: Layer,
        calls: usize,
        program: &Path,
        concurrency: u16,
    ) -> io::Result<Self> {
        let mut started = Vec::new();
        for workload in world.workloads() {
            let admin = (workload.ip, ADMIN_PORT).into();
            let sidecar = Sidecar {
                world,
                layer,
                workload: *workload,
                calls,
            };
            let file = world.write(
                &format!("{}.json", workload.name()),
                &sidecar.bootstrap(admin).to_string(),
            )?;
            started.push((admin, envoy::spawn(program, file, concurrency)?));
        }
        let mut processes = Vec::new();
        for (admin, process) in started {
            process.wait_until_ready(admin, "/ready").await?;
            processes.push(process);
        }
        Ok(Self { layer, processes })
    }

    /// Where a workload connects to reach the `call`th service that it calls.
    pub fn entry(&self, workload: Workload, call: u16) -> SocketAddr {
        match self.layer {
            Layer::Tcp => (workload.ip, OUTBOUND_TCP_PORT + call).into(),
            Layer::Http => (workload.ip, OUTBOUND_PORT).into(),
        }
    }

    /// The sidecars.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter()
    }
}

/// What one sidecar is configured from.
struct Sidecar<'a> {
    world: &'a World,
    layer: Layer,
    workload: Workload,
    calls: usize,
}

impl Sidecar<'_> {
    fn bootstrap(&self, admin: SocketAddr) -> Value {
        let mut listeners = vec![self.inbound()];
        match self.layer {
            Layer::Http => listeners.push(self.outbound_http()),
            Layer::Tcp => {
                let called = self.world.called_by(self.workload, self.calls);
                listeners.extend((OUTBOUND_TCP_PORT..).zip(called).map(|(port, called)| {
                    let filters = [tcp_proxy(&outbound(called))];
                    listener((self.workload.ip, port).into(), &json!({ "filters": filters }))
                }));
            }
        }
        let mut clusters = vec![cluster("inbound", self.workload.app())];
        clusters.extend(self.world.workloads().iter().map(|called| self.upstream(*called)));
        let kept = ["cluster_manager", "listener_manager", "server"].map(|prefix| json!({ "prefix": prefix }));
        json!({
            "node": { "id": self.workload.name(), "cluster": "bench" },
            "admin": { "address": address(admin) },
            "stats_config": { "stats_matcher": { "inclusion_list": { "patterns": kept } } },
            "static_resources": { "listeners": listeners, "clusters": clusters },
        })
    }

    fn inbound(&self) -> Value {
        let filter = match self.layer {
            Layer::Tcp => tcp_proxy("inbound"),
            Layer::Http => http_manager("inbound", &[virtual_host("inbound", &["*".to_owned()], "inbound")]),
        };
        let any = json!({ "prefix": format!("spiffe://{TRUST_DOMAIN}/") });
        let tls = json!({
            "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": self.tls(&any),
        });
        let chain = json!({ "transport_socket": socket(&tls), "filters": [filter] });
        listener((self.workload.ip, INBOUND_PORT).into(), &chain)
    }

    fn outbound_http(&self) -> Value {
        let hosts: Vec<_> = self
            .world
            .workloads()
            .iter()
            .map(|called| {
                let domains = [called.hostname(), called.vip.to_string()];
                virtual_host(&called.name(), &domains, &outbound(*called))
            })
            .collect();
        let filters = [http_manager("outbound", &hosts)];
        listener((self.workload.ip, OUTBOUND_PORT).into(), &json!({ "filters": filters }))
    }

    fn upstream(&self, called: Workload) -> Value {
        let tls = json!({
            "@type": format!("{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": format!("outbound_.80_._.{}", called.hostname()),
            "common_tls_context": self.tls(&json!({ "exact": called.identity() })),
        });
        let mut cluster = cluster(&outbound(called), (called.ip, INBOUND_PORT).into());
        cluster["transport_socket"] = socket(&tls);
        cluster
    }

    fn tls(&self, peer: &Value) -> Value {
        json!({
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "alpn_protocols": ["istio"],
            "tls_certificates": [{
                "certificate_chain": { "filename": self.world.cert(self.workload) },
                "private_key": { "filename": self.world.key(self.workload) },
            }],
            "validation_context": {
                "trusted_ca": { "filename": self.world.roots() },
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": peer }],
            },
        })
    }
}

fn outbound(called: Workload) -> String {
    format!("outbound|80||{}", called.hostname())
}

fn cluster(name: &str, addr: SocketAddr) -> Value {
    let most = u32::MAX;
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": { "thresholds": [{
            "max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most,
        }] },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(addr) } }] }],
        },
    })
}

fn listener(addr: SocketAddr, chain: &Value) -> Value {
    json!({ "name": addr.to_string(), "address": address(addr), "filter_chains": [chain] })
}

fn tcp_proxy(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn http_manager(name: &str, hosts: &[Value]) -> Value {
    let filter = |name: &str, message: &str| {
        let message = format!("{EXTENSIONS}.filters.http.{message}");
        json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": { "@type": message } })
    };
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "server_name": "istio-envoy",
            "use_remote_address": false,
            "forward_client_cert_details": "APPEND_FORWARD",
            "set_current_client_cert_details": { "subject": true, "uri": true },
            "route_config": { "name": name, "virtual_hosts": hosts },
            "http_filters": [
                filter("fault", "fault.v3.HTTPFault"),
                filter("cors", "cors.v3.Cors"),
                filter("router", "router.v3.Router"),
            ],
        },
    })
}

fn virtual_host(name: &str, domains: &[String], cluster: &str) -> Value {
    json!({
        "name": name,
        "domains": domains,
        "routes": [{
            "match": { "prefix": "/" },
            "route": {
                "cluster": cluster,
                "timeout": "0s",
                "retry_policy": {
                    "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
                    "num_retries": 2,
                },
            },
        }],
    })
}

fn socket(tls: &Value) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls })
}

fn address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip(), "port_value": addr.port() } })
}
