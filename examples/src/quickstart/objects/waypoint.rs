//! The waypoint, the services behind it, and what is said about requests to them.

use std::net::{IpAddr, SocketAddr};

/// The token that the waypoint shows.
pub(in crate::quickstart) const TOKEN: &str = "token-of-the-waypoint";

/// The waypoint with its account, service and token.
pub(in crate::quickstart) fn waypoint(ip: IpAddr, service: IpAddr, hbone_port: u16) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint, namespace: shop}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{{name: mesh, port: {hbone_port}, protocol: HBONE}}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: waypoint, namespace: shop}}
---
apiVersion: v1
kind: Service
metadata: {{name: waypoint, namespace: shop}}
spec: {{selector: {{app: waypoint}}, clusterIP: {service}, ports: [{{port: {hbone_port}}}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: waypoint
  namespace: shop
  labels: {{app: waypoint, gateway.networking.k8s.io/gateway-name: waypoint, networking.istio.io/tunnel: http}}
spec: {{serviceAccountName: waypoint, nodeName: node-3}}
status: {{podIP: {ip}}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata:
  name: waypoint
  namespace: shop
  annotations: {{kubernetes.io/service-account.name: waypoint, kubernetes.io/pod.name: waypoint}}
stringData: {{token: {TOKEN}}}
"
    )
}

/// A service behind the waypoint, at an address, with pods of a node: each has a name, and listens.
pub(in crate::quickstart) fn service(name: &str, ip: IpAddr, node: &str, pods: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: shop}}
"
    );
    for (pod, addr) in pods {
        text += &format!(
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: shop, labels: {{app: {name}, pod: {pod}}}}}
spec: {{serviceAccountName: {name}, nodeName: {node}, containers: [{{ports: [{{name: http, containerPort: {}}}]}}]}}
status: {{podIP: {}}}
",
            addr.port(),
            addr.ip(),
        );
    }
    text + &format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, labels: {{istio.io/use-waypoint: waypoint}}}}
spec: {{selector: {{app: {name}}}, clusterIP: {ip}, ports: [{{port: 80, targetPort: http}}]}}
"
    )
}

/// Where requests for reviews go.
pub(in crate::quickstart) const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{headers: [{name: x-tester, value: 'yes'}]}]
    backendRefs: [{name: reviews-v2, port: 80}]
  - backendRefs:
    - {name: reviews-v1, port: 80, weight: 3}
    - {name: reviews-v2, port: 80, weight: 1}
";

pub(in crate::quickstart) const DENY: &str = "\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-deletes, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: reviews}]
  action: DENY
  rules: [{to: [{operation: {methods: [DELETE]}}]}]
";

pub(in crate::quickstart) const LIMIT: &str = "\
---
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: reviews, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: reviews}]
  limits: [{requests: 5, per: 1m}]
";

pub(in crate::quickstart) const EJECT: &str = "\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings, namespace: shop}
spec:
  host: ratings
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}
";

pub(in crate::quickstart) const BREAKER: &str = "\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ratings, namespace: shop}
spec:
  host: ratings
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 1}}
";
