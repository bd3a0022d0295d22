//! Routes and policies as Kubernetes has them.
//!
//! A fault in an object leaves it as it was before. If it never was good, the requests that a route
//! claimed fail; a policy could have kept somebody out, so that without it nobody is let in.

pub(super) mod folder;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::authz::{AuthorizationPolicy, Labels, RequestAuthentication};
use mesh_policy::traffic::rate::RateLimitPolicy;
use mesh_policy::traffic::upstream::BackendTrafficPolicy;
use mesh_policy::traffic::{DestinationRule, ReferenceGrant, Route, VirtualService};

pub(super) use self::folder::ObjectsError;
use self::source::Source;
use super::labels::WorkloadLabels;

/// All objects, by the files or resources that they are in.
#[derive(Debug, Default)]
pub(super) struct Objects {
    sources: BTreeMap<String, Source>,
}

impl Objects {
    /// Takes what a file or resource says now. The answer tells what is wrong with it.
    pub(super) fn take(&mut self, name: &str, text: &str) -> Vec<String> {
        let source = Source::read(name, text, self.sources.get(name));
        let problems = source.problems.clone();
        self.sources.insert(name.to_owned(), source);
        problems
    }

    /// Nobody can tell what a resource says now.
    pub(super) fn unread(&mut self, name: &str, reason: String) {
        let source = Source::unread(reason, self.sources.get(name));
        self.sources.insert(name.to_owned(), source);
    }

    /// Whether a file or resource is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.sources.contains_key(name)
    }

    /// A file or resource is gone.
    pub(super) fn remove(&mut self, name: &str) {
        self.sources.remove(name);
    }

    /// Leaves only what is named so.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.sources.retain(|name, _| is_there(name));
    }

    pub(super) fn policies(&self) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        self.sources.values().flat_map(|source| &source.policies)
    }

    pub(super) fn authentications(&self) -> impl Iterator<Item = &Arc<RequestAuthentication>> {
        self.sources.values().flat_map(|source| &source.authentications)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.sources.values().flat_map(|source| &source.traffic.routes)
    }

    pub(super) fn virtual_services(&self) -> impl Iterator<Item = &VirtualService> {
        self.sources
            .values()
            .flat_map(|source| &source.traffic.virtual_services)
    }

    pub(super) fn destination_rules(&self) -> impl Iterator<Item = &Arc<DestinationRule>> {
        self.sources
            .values()
            .flat_map(|source| &source.traffic.destination_rules)
    }

    pub(super) fn backend_policies(&self) -> impl Iterator<Item = &Arc<BackendTrafficPolicy>> {
        self.sources
            .values()
            .flat_map(|source| &source.traffic.backend_policies)
    }

    pub(super) fn rate_limits(&self) -> impl Iterator<Item = &RateLimitPolicy> {
        self.sources.values().flat_map(|source| &source.traffic.rate_limits)
    }

    pub(super) fn grants(&self) -> impl Iterator<Item = &ReferenceGrant> {
        self.sources.values().flat_map(|source| &source.traffic.grants)
    }

    /// The labels of namespaces, as far as they are known.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = (&str, &Labels)> {
        let namespaces = self.sources.values().flat_map(|source| &source.namespaces);
        namespaces.map(|(name, labels)| (&**name, labels))
    }

    /// The labels of workloads, as far as they are known.
    pub(super) fn workloads(&self) -> WorkloadLabels {
        let workloads = self.sources.values().flat_map(|source| &source.workloads);
        workloads
            .map(|(object, labels)| (Arc::clone(object), Arc::clone(labels)))
            .collect()
    }

    /// Why nobody may be let in, if that is so.
    pub(super) fn closed(&self) -> Option<&str> {
        self.sources.values().find_map(|source| source.closed.as_deref())
    }

    /// What is wrong with them.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        let problems = self.sources.values().flat_map(|source| &source.problems);
        problems.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: till, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: till, port: 80}]
  rules: [{matches: [{path: {type: PathPrefix, value: /}}]}]
";

    const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: till, namespace: shop}
spec: {targetRefs: [{kind: Service, group: '', name: till}], rules: [{}]}
";

    #[test]
    fn a_route_with_a_fault_stays_as_it_was() {
        let mut objects = Objects::default();
        assert_eq!(objects.take("a.yaml", ROUTE), Vec::<String>::new());
        let problems = objects.take("a.yaml", &ROUTE.replace("PathPrefix", "Prefix"));
        assert!(problems[0].contains("a.yaml:7"), "{problems:?}");
        assert_eq!(objects.routes().count(), 1);
        assert_eq!(objects.closed(), None);
        objects.remove("a.yaml");
        assert_eq!(objects.routes().count() + objects.problems().count(), 0);
    }

    #[test]
    fn a_route_that_never_was_good_fails_its_requests() {
        let mut objects = Objects::default();
        let bad = ROUTE.replace("PathPrefix", "Prefix");
        for _ in 0..2 {
            objects.take("a.yaml", &bad);
            assert_eq!(objects.problems().count(), 1);
            let [route] = *objects.routes().collect::<Vec<_>>() else {
                panic!()
            };
            assert_eq!((&*route.parents[0].name, route.parents[0].port), ("till", Some(80)));
            assert!(route.rules[0].invalid.is_some() && route.rules[0].matches.is_empty());
        }
        objects.take("a.yaml", ROUTE);
        assert_eq!((objects.routes().count(), objects.problems().count()), (1, 0));
        assert!(objects.routes().all(|route| route.rules[0].invalid.is_none()));
        // Nobody knows whose requests these would have been.
        objects.take("b.yaml", &bad.replace("parentRefs", "parents").replace("till", "b"));
        assert_eq!((objects.routes().count(), objects.problems().count()), (1, 1));
    }

    #[test]
    fn what_stays_as_it_was_is_the_same() {
        let mut objects = Objects::default();
        let both = format!("{ROUTE}---{POLICY}");
        objects.take("a.yaml", &both);
        let before = (objects.routes().next().cloned(), objects.policies().next().cloned());
        objects.take("a.yaml", &both.replace("rules: [{}]", "rules: []"));
        let now = (objects.routes().next(), objects.policies().next());
        assert!(Arc::ptr_eq(now.0.unwrap(), &before.0.unwrap()));
        assert_ne!(now.1, before.1.as_ref());
    }

    #[test]
    fn a_limit_with_a_fault_stays_as_it_was() {
        let text = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: till, namespace: shop}
spec: {targetRefs: [{kind: Service, name: till}], limits: [{requests: 2}]}
";
        let mut objects = Objects::default();
        objects.take("a.yaml", text);
        let before = objects.rate_limits().cloned().collect::<Vec<_>>();
        let problems = objects.take("a.yaml", &text.replace("requests: 2", "requests: two"));
        assert_eq!((before.len(), problems.len()), (1, 1));
        assert!(objects.rate_limits().eq(&before));
        let problems = objects.take("a.yaml", &text.replace("name: till, ", ""));
        assert_eq!(problems.len(), 1);
        assert!(objects.rate_limits().eq(&before));
    }

    #[test]
    fn what_cannot_be_decoded_lets_nobody_in() {
        let mut objects = Objects::default();
        objects.unread("a", "no message".to_owned());
        assert_eq!(objects.closed(), Some("no message"));
        objects.take("b", POLICY);
        objects.remove("a");
        objects.unread("b", "no message".to_owned());
        assert_eq!((objects.policies().count(), objects.closed()), (1, None));
    }

    #[test]
    fn workloads_are_known_by_kind_namespace_and_name() {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: till-0, namespace: shop, labels: {track: new}}}";
        let entry = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: till, namespace: shop, labels: {track: new, zone: a}}
spec: {address: 10.0.0.9, labels: {track: old}}
";
        let mut store = mesh_xds::store::Store::new();
        for uid in ["c//Pod/shop/till-0", "c/networking.istio.io/WorkloadEntry/shop/till"] {
            store
                .insert_workload(&mesh_testkit::xds::workload(uid, "10.0.0.9"))
                .unwrap();
        }
        let mesh = store.snapshot();
        let (pod_0, till) = (
            mesh.workload("c//Pod/shop/till-0").unwrap(),
            mesh.workload("c/networking.istio.io/WorkloadEntry/shop/till").unwrap(),
        );
        let mut objects = Objects::default();
        assert_eq!(objects.take("pod", pod), Vec::<String>::new());
        assert_eq!(objects.take("entry", entry), Vec::<String>::new());
        let labels = objects.workloads();
        assert_eq!(labels.get(pod_0, "track"), Some("new"));
        assert_eq!(
            (labels.get(till, "track"), labels.get(till, "zone")),
            (Some("old"), Some("a"))
        );
        let problems = objects.take("pod", &pod.replace("{track: new}", "[track]"));
        assert!(problems[0].contains("labels"), "{problems:?}");
        assert_eq!(objects.workloads().get(pod_0, "track"), Some("new"));
        objects.remove("pod");
        assert_eq!(objects.workloads().get(pod_0, "track"), None);
    }

    #[test]
    fn a_policy_with_a_fault_stays_as_it_was_or_lets_nobody_in() {
        let bad = POLICY.replace("rules", "rulez");
        let mut objects = Objects::default();
        objects.take("a.yaml", POLICY);
        objects.take("a.yaml", &bad);
        assert_eq!((objects.policies().count(), objects.closed()), (1, None));
        objects.take("b.yaml", &bad);
        assert!(objects.closed().unwrap().contains("b.yaml:5"), "{:?}", objects.closed());
    }
}
