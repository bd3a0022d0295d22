//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use mesh_identity::TrustDomain;

use super::compile::{Settings, UnusableWaypoint};
use super::objects::Key;

/// Control plane of an ambient mesh: what istiod is to ztunnel.
///
/// Compiles a directory of Kubernetes objects to the workloads, services and policies that node
/// proxies ask for, follows the directory as it changes, and signs the certificates of the
/// workloads. A file that is bad changes nothing: what was in force stays. An object for waypoints
/// alone is rejected by itself, and stays as it was.
///
/// Prints one line on stderr when it is ready; RUST_LOG=info shows more. SIGTERM and SIGINT end it.
/// Exit code 2: a flag or a file is bad.
#[derive(Debug, Parser)]
#[command(name = "control-plane", version, max_term_width = 100, after_long_help = LONG_HELP)]
pub(super) struct Args {
    /// Directory of YAML and JSON files, with those below it.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Address for discovery (delta xDS) and certificates (Istio's CA protocol), both over gRPC. In
    /// the clear, it has to be one of loopback.
    #[arg(long, value_name = "ADDR", required_unless_present = "print")]
    pub(super) bind: Option<SocketAddr>,
    /// Serve over TLS, with a certificate of the own authority for this DNS name or IP address.
    #[arg(long, value_name = "NAME", requires = "roots")]
    pub(super) tls: Option<String>,
    /// Write the authority's roots to this file, and again when they are replaced. Whoever is to
    /// believe in the certificates has them from there.
    #[arg(long, value_name = "FILE")]
    pub(super) roots: Option<PathBuf>,
    /// Keep the authority's roots and their keys in this folder, which only one control plane uses
    /// at a time. Without it each start makes a new root, which nobody believes in who has not read
    /// --roots again.
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Address for operators: the state as a page and as JSON, and the replacement of the root. In
    /// the clear on loopback; elsewhere over TLS, and it takes --tls and --admin-token.
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<SocketAddr>,
    /// File with a token of 16 characters or more that operators bring: as a bearer token, or as the
    /// password that a browser asks for, with any name. It is read again for each request.
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub(super) admin_token: Option<PathBuf>,
    /// The name of the cluster, the first part of workloads' UIDs.
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub(super) cluster: String,
    /// The trust domain of the workloads' identities.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(super) trust_domain: TrustDomain,
    /// The namespace whose policies are about the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub(super) root_namespace: String,
    /// The service account of node proxies, as namespace and name. Who brings a token of it, bound
    /// to a Pod, may have certificates of the workloads of that Pod's node.
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "istio-system/ztunnel", value_parser = account)]
    pub(super) node_account: Key,
    /// What becomes of traffic that has to pass a waypoint which cannot be used: it is refused, or
    /// goes on without one, as Istio has it. A waypoint cannot be used without a Gateway, an HBONE
    /// listener that admits the namespace, and an address.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "refuse")]
    pub(super) unusable_waypoint: UnusableWaypoint,
    /// Print what nodes would be told, as JSON, and end.
    #[arg(long, conflicts_with_all = ["bind", "tls", "roots", "state", "admin", "admin_token"])]
    pub(super) print: bool,
    /// Print the ready line as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

const LONG_HELP: &str = "\
What is read: Namespace, Pod, Service, ServiceAccount and Secret; ServiceEntry and WorkloadEntry;
AuthorizationPolicy and PeerAuthentication; Gateway of class istio-waypoint. For waypoints: HTTPRoute,
GRPCRoute, ReferenceGrant, VirtualService, DestinationRule, RequestAuthentication,
XBackendTrafficPolicy and RateLimitPolicy. Other kinds are passed over.

Whoever calls brings a bearer token out of a Secret in the directory:

  apiVersion: v1
  kind: Secret
  type: kubernetes.io/service-account-token
  metadata:
    name: ztunnel-node-1
    namespace: istio-system
    annotations:
      kubernetes.io/service-account.name: ztunnel
      kubernetes.io/pod.name: ztunnel-node-1
  stringData: {token: at-least-16-characters}

It gets certificates of its service account. The account of --node-account gets those of the
workloads that run on the node of its Pod, and no others. A waypoint is known by its token, too: it is
the one that the label gateway.networking.k8s.io/gateway-name of the token's Pod names, or without a
Pod the one that is called like the account; and it is told of nobody else's routes and policies.

A token is good as long as its Secret, ServiceAccount and Pod are there, and until its claim `exp` if
it is a JWT; the streams that it opened end with it.

The admin address answers GET / with a page, GET /config_dump with the same as JSON, GET
/healthz/ready, and POST /authority?step=STEP, which replaces the root in three steps: prepare,
activate, revoke. Each has to have reached every node before the next.

Pods with the annotation sidecar.istio.io/status are published as plaintext, and with the label
networking.istio.io/tunnel=http as taking tunnels themselves.";

impl Args {
    pub(super) fn settings(&self) -> Settings {
        Settings {
            cluster: self.cluster.clone(),
            trust_domain: self.trust_domain.clone(),
            root_namespace: self.root_namespace.clone(),
            node_account: self.node_account.clone(),
            unusable_waypoint: self.unusable_waypoint,
        }
    }
}

fn account(text: &str) -> Result<Key, &'static str> {
    let (namespace, name) = text.split_once('/').ok_or("not a namespace, a slash and a name")?;
    Ok(Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
