//! The workspace's own `waypoint`, with the same services, routes and policies as Envoy.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::world::{APP_PORT, HBONE_PORT, SERVICE_PORT, Service, World};
use crate::pki::TRUST_DOMAIN;

/// Writes the configuration for so many services.
pub fn configure(world: &World, services: u16, threads: u16, admin: SocketAddr) -> io::Result<PathBuf> {
    let services: Vec<_> = world.services(services).collect();
    world.pki.write("mesh.yaml", &mesh(world, &services))?;
    let objects = world.pki.folder().join("objects");
    fs::create_dir_all(&objects)?;
    let text: String = services.iter().copied().map(object).collect();
    fs::write(objects.join("traffic.yaml"), text)?;
    let config = format!(
        "name = \"waypoint\"\nnamespace = \"bench\"\nservice_account = \"waypoint\"\n\
         trust_domain = {TRUST_DOMAIN:?}\n[mesh]\nfile = \"mesh.yaml\"\n\
         [[identity.files]]\ncert = {:?}\nkey = {:?}\nroots = {:?}\n[[inbound]]\nbind = \"{}\"\n\
         [admin]\nbind = \"{admin}\"\n[traffic]\nobjects = [\"objects\"]\nshows_clients = true\n\
         [settings]\nhbone_port = {HBONE_PORT}\nthreads = {threads}\naccess_log = \"off\"\n",
        world.pki.cert("waypoint"),
        world.pki.key("waypoint"),
        world.pki.roots(),
        world.waypoint(),
    );
    world.pki.write("waypoint.toml", &config)
}

fn mesh(world: &World, services: &[Service]) -> String {
    let waypoint = "waypoint.bench.svc.cluster.local";
    let ip = world.waypoint().ip();
    let mut text = format!(
        "services:\n- {{name: waypoint, namespace: bench, hostname: {waypoint}, vips: [/{ip}], \
         ports: {{{HBONE_PORT}: {HBONE_PORT}}}}}\n"
    );
    for service in services {
        text += &format!(
            "- {{name: {}, namespace: bench, hostname: {}, vips: [/{}], ports: {{{SERVICE_PORT}: {APP_PORT}}}, \
             waypoint: {{destination: {{namespace: bench, hostname: {waypoint}}}, hboneMtlsPort: {HBONE_PORT}}}}}\n",
            service.name(),
            service.hostname(),
            service.vip,
        );
    }
    text += &format!(
        "workloads:\n- {{uid: c1//Pod/bench/waypoint, name: waypoint, namespace: bench, serviceAccount: waypoint, \
         trustDomain: {TRUST_DOMAIN}, workloadIps: [{ip}], protocol: HBONE, \
         services: {{bench/{waypoint}: {{{HBONE_PORT}: {HBONE_PORT}}}}}}}\n"
    );
    for service in services {
        let name = service.name();
        text += &format!(
            "- {{uid: c1//Pod/bench/{name}, name: {name}, namespace: bench, serviceAccount: server, \
             trustDomain: {TRUST_DOMAIN}, workloadIps: [{}], protocol: HBONE, workloadName: {name}, \
             services: {{bench/{}: {{{SERVICE_PORT}: {APP_PORT}}}}}}}\n",
            service.endpoint,
            service.hostname(),
        );
    }
    text
}

/// The routes of a service and its policy.
fn object(service: Service) -> String {
    let name = service.name();
    let backend = format!("backendRefs: [{{name: {name}, port: {SERVICE_PORT}}}]");
    let retry = "retry: {attempts: 2}";
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: bench}}
spec:
  parentRefs: [{{group: \"\", kind: Service, name: {name}}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /old}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}]
    {retry}
    {backend}
  - matches: [{{headers: [{{name: x-canary, value: \"yes\"}}]}}]
    {retry}
    {backend}
  - {retry}
    {backend}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: bench}}
spec:
  targetRefs: [{{group: \"\", kind: Service, name: {name}}}]
  action: DENY
  rules:
  - from: [{{source: {{principals: [\"*/sa/client\"]}}}}]
    to: [{{operation: {{paths: [\"/admin*\"]}}}}]
"
    )
}
