//! Routes and policies as Kubernetes has them.
//!
//! A fault in an object leaves it as it was before, a permission by a ReferenceGrant too; one whose name
//! cannot be read leaves all of its kind that its text has no more. If it never was good, the requests that a route claimed fail; a policy could have kept somebody out, so that
//! without it nobody is let in. Of a route that is good the rules with a fault fail their requests.

pub(super) mod folder;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::authz::{AuthorizationPolicy, RequestAuthentication};
use mesh_policy::traffic::rate::RateLimitPolicy;
use mesh_policy::traffic::upstream::BackendTrafficPolicy;
use mesh_policy::traffic::{DestinationRule, ReferenceGrant, Route, VirtualService};
use mesh_xds_types::traffic::Manifest;
use prost::Message;

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
        self.put(name, source)
    }

    /// Takes what a discovery server says of a resource now. The answer tells why it is refused. What is
    /// new is not: what fails requests or lets nobody in is in force, and the server has to say when it
    /// is gone.
    pub(super) fn hear(&mut self, name: &str, message: &[u8]) -> Option<String> {
        let is_new = !self.sources.contains_key(name);
        let problems = match Manifest::decode(message) {
            Ok(manifest) => self.take(name, &manifest.text),
            Err(error) => {
                let source = Source::unread(error.to_string(), self.sources.get(name));
                self.put(name, source)
            }
        };
        problems.into_iter().next().filter(|_| !is_new)
    }

    fn put(&mut self, name: &str, source: Source) -> Vec<String> {
        let problems = source.problems.clone();
        self.sources.insert(name.to_owned(), source);
        problems
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

    /// What is wrong with them, and with rules of those that are taken.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.sources.values().flat_map(|source| {
            let impaired = source.traffic.impaired.iter().map(ToString::to_string);
            source.problems.iter().cloned().chain(impaired)
        })
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
    fn a_rule_with_a_fault_is_told_of_and_its_route_is_taken() {
        let rule = "{matches: [{path: {type: PathPrefix, value: /a}}], backends: []}";
        let text = ROUTE.replace("rules: [", &format!("rules: [{rule}, "));
        let mut objects = Objects::default();
        assert_eq!(objects.take("a.yaml", &text), Vec::<String>::new());
        let told = "HTTPRoute `shop/till`: a.yaml:7: there is no field `spec.rules[0].backends`";
        assert_eq!(objects.problems().collect::<Vec<_>>(), [told]);
        // It stays that way as long as its route does.
        objects.take("a.yaml", &text.replace("PathPrefix, value: /}", "Prefix, value: /}"));
        let problems: Vec<_> = objects.problems().collect();
        assert!(problems.len() == 2 && problems[1] == told, "{problems:?}");
        objects.take("a.yaml", ROUTE);
        assert_eq!(objects.problems().count(), 0);
    }

    #[test]
    fn a_grant_with_a_fault_stays_as_it_was_and_is_none_if_it_never_was_good() {
        let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: shop, namespace: bank}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service}]
";
        let bad = text.replace("to:", "too:");
        let mut objects = Objects::default();
        objects.take("a.yaml", &bad);
        assert_eq!((objects.grants().count(), objects.problems().count()), (0, 1));
        objects.take("a.yaml", text);
        let before: Vec<_> = objects.grants().cloned().collect();
        assert_eq!(before.len(), 1);
        assert_eq!(objects.take("a.yaml", &bad).len(), 1);
        assert!(objects.grants().eq(&before));
        objects.take("a.yaml", &bad.replace("name: shop,", "name: other,"));
        assert_eq!(objects.grants().count(), 0);
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
    }

    #[test]
    fn an_object_that_lost_its_name_leaves_what_it_can_have_been_and_no_more() {
        let limit = "
apiVersion: traffic.mesh.internal/v1
kind: RateLimitPolicy
metadata: {name: NAME, namespace: shop}
spec: {targetRefs: [{kind: Service, name: till}], limits: [{requests: 2}]}
";
        let [a, b] = ["a", "b"].map(|name| limit.replace("NAME", name));
        let mut objects = Objects::default();
        assert_eq!(
            objects.take("a.yaml", &format!("{a}---{b}---{ROUTE}")),
            Vec::<String>::new()
        );
        let before: Vec<_> = objects.rate_limits().cloned().collect();

        // All else in the file is as the file says: another limit, no route, a policy, and a fault.
        let nameless = a.replace("name: a, ", "");
        let now = b.replace("requests: 2", "requests: 3");
        let bad = ROUTE
            .replace("PathPrefix", "Prefix")
            .replace("{name: till,", "{name: bad,");
        let problems = objects.take("a.yaml", &format!("{nameless}---{now}---{POLICY}---{bad}"));
        assert_eq!(problems.len(), 2, "{problems:?}");
        let mut limits: Vec<_> = objects.rate_limits().collect();
        limits.sort_by_key(|policy| &policy.name);
        assert_eq!(*limits[0], before[0]);
        assert!(limits.len() == 2 && *limits[1] != before[1]);
        assert_eq!(objects.policies().count(), 1);
        let routes: Vec<_> = objects.routes().map(|route| &*route.id.name).collect();
        assert_eq!(routes, ["bad"]);

        objects.take("a.yaml", &format!("{now}---{POLICY}"));
        assert_eq!((objects.rate_limits().count(), objects.problems().count()), (1, 0));
    }

    #[test]
    fn what_cannot_be_decoded_lets_nobody_in() {
        let mut objects = Objects::default();
        let good = Manifest {
            text: POLICY.to_owned(),
            ..Manifest::default()
        };
        let (good, bad) = (good.encode_to_vec(), [0xff]);
        // It would not be told that this is gone, had it refused it.
        assert_eq!(objects.hear("a", &bad), None);
        let reason = objects.closed().unwrap().to_owned();
        assert_eq!(objects.hear("b", &good), None);
        objects.remove("a");
        assert_eq!(objects.closed(), None);
        assert_eq!(objects.hear("b", &bad), Some(reason));
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
    fn endpoints_of_service_entries_are_known_by_their_addresses() {
        let entry = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank, namespace: shop}
spec: {endpoints: [{address: 192.0.2.1, labels: {env: prod}}, {address: 192.0.2.2, labels: {env: test}}]}
";
        let mut store = mesh_xds::store::Store::new();
        let uids = ["1", "2"].map(|last| format!("c/networking.istio.io/ServiceEntry/shop/bank/192.0.2.{last}"));
        for uid in &uids {
            store
                .insert_workload(&mesh_testkit::xds::workload(uid, "192.0.2.9"))
                .unwrap();
        }
        let mesh = store.snapshot();
        let says = |objects: &Objects| {
            let labels = objects.workloads();
            uids.each_ref()
                .map(|uid| labels.get(mesh.workload(uid).unwrap(), "env").map(str::to_owned))
        };
        let expected = [Some("prod".to_owned()), Some("test".to_owned())];
        let mut objects = Objects::default();
        assert_eq!(objects.take("a", entry), Vec::<String>::new());
        assert_eq!(says(&objects), expected);
        assert_eq!(objects.take("a", &entry.replace("{env: test}", "[env]")).len(), 1);
        assert_eq!(says(&objects), expected);
        objects.take("a", &entry.replace(", labels: {env: prod}", ""));
        assert_eq!(says(&objects), [None, expected[1].clone()]);
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
