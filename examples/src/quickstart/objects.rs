//! The mesh as Kubernetes objects, and what is changed about it.

pub(super) mod waypoint;

use std::net::IpAddr;

/// A Pod with a service account and a label of its name.
pub(super) struct Pod {
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    pub(super) node: &'static str,
    pub(super) ip: IpAddr,
    /// Of the Service of its name: where that is, and its ports with those of the Pod.
    pub(super) service: Option<(IpAddr, Vec<(u16, u16)>)>,
}

/// The pods with their services.
pub(super) fn pods(pods: &[Pod]) -> String {
    let mut text = String::new();
    for pod in pods {
        let Pod {
            name,
            namespace,
            node,
            ip,
            ..
        } = pod;
        text += &format!(
            "---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec: {{serviceAccountName: {name}, nodeName: {node}}}
status: {{podIP: {ip}}}
"
        );
        let Some((ip, ports)) = &pod.service else { continue };
        let ports: Vec<String> = ports
            .iter()
            .map(|(port, target)| format!("{{port: {port}, targetPort: {target}}}"))
            .collect();
        text += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, clusterIP: {ip}, ports: [{}]}}
",
            ports.join(", ")
        );
    }
    text
}

/// The node proxies of these nodes, and the tokens that they show, by which the control plane knows
/// whose certificates they may have.
pub(super) fn agents(nodes: &[(&str, &str)]) -> String {
    let mut text = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: ztunnel, namespace: istio-system}
"
    .to_owned();
    for (number, (node, token)) in (1..).zip(nodes) {
        text += &format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: ztunnel-{node}, namespace: istio-system}}
spec: {{serviceAccountName: ztunnel, nodeName: {node}, hostNetwork: true}}
status: {{podIP: 192.168.0.{number}}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: ztunnel-{node}
  namespace: istio-system
  annotations:
    kubernetes.io/service-account.name: ztunnel
    kubernetes.io/pod.name: ztunnel-{node}
stringData: {{token: {token}}}
"
        );
    }
    text
}

/// The namespace that is enrolled, or is to be.
pub(super) fn namespace(is_enrolled: bool) -> &'static str {
    match is_enrolled {
        false => "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n",
        true => {
            "\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {istio.io/dataplane-mode: ambient}
"
        }
    }
}

/// Only these accounts may connect to the till.
pub(super) fn allow(callers: &[&str]) -> String {
    let callers: Vec<String> = callers.iter().map(|caller| format!("shop/{caller}")).collect();
    format!(
        "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: till-callers, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: till}}}}
  action: ALLOW
  rules:
  - from:
    - source: {{serviceAccounts: [{}]}}
",
        callers.join(", ")
    )
}

/// Nobody may connect to the namespace without a certificate.
pub(super) const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";
