//! The objects of one text.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_policy::Budget;
use mesh_policy::authz::k8s::{self as security, Item, Object, Problem, ReadError};
use mesh_policy::authz::{AuthorizationPolicy, Labels, RequestAuthentication};
use mesh_policy::traffic::k8s::{self as traffic, Manifests, Rejected};
use mesh_policy::traffic::{Route, RouteKind};

/// What a file or resource says, or said when it was good.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) policies: Vec<AuthorizationPolicy>,
    pub(super) authentications: Vec<RequestAuthentication>,
    pub(super) traffic: Manifests,
    pub(super) namespaces: Vec<(String, Labels)>,
    /// By kind, namespace and name.
    pub(super) workloads: BTreeMap<Arc<str>, Arc<Labels>>,
    /// Why nobody may be let in.
    pub(super) closed: Option<String>,
    /// What is wrong.
    pub(super) problems: Vec<String>,
}

impl Source {
    pub(super) fn read(name: &str, text: &str, before: Option<&Self>) -> Self {
        let budget = Budget::new();
        let read = match security::read(name, text, &budget) {
            Ok(read) => read,
            Err(error) => return Self::unread(&error, before),
        };
        let mut source = Self {
            policies: read.authorization,
            authentications: read.request_authentication,
            traffic: traffic::read_items(name, read.others, &budget),
            ..Self::default()
        };
        for item in std::mem::take(&mut source.traffic.others) {
            let line = item.line;
            if let Err((line_of_fault, fault)) = source.take(item, before) {
                let line = line.max(line_of_fault);
                source.problems.push(format!("{name}:{line}: {fault}"));
            }
        }
        for rejected in std::mem::take(&mut source.traffic.rejected) {
            source.problems.push(rejected.to_string());
            if let Some(before) = before {
                keep(&mut source.traffic, &rejected, &before.traffic);
            }
        }
        source
    }

    /// Takes what an object of Kubernetes' own is labelled with. Other kinds have no part in this.
    fn take(&mut self, item: Item, before: Option<&Self>) -> Result<(), Problem> {
        match (item.group(), &*item.kind) {
            ("", "Namespace") => self.namespaces.push(namespace(item)?),
            ("", "Pod") | ("networking.istio.io", "WorkloadEntry") => {
                let object: Arc<str> = workload(&item)?.into();
                let kept = before.and_then(|before| before.workloads.get(&object).cloned());
                let labels = labels(item).map(Arc::new);
                let labels_or_kept = labels.as_ref().ok().cloned().or(kept);
                self.workloads.extend(labels_or_kept.map(|labels| (object, labels)));
                labels?;
            }
            _ => {}
        }
        Ok(())
    }

    /// As it was before; if there was no before, policies may be missing.
    fn unread(error: &ReadError, before: Option<&Self>) -> Self {
        let reason = error.to_string();
        let kept = match before {
            Some(before) => Self {
                policies: before.policies.clone(),
                authentications: before.authentications.clone(),
                traffic: before.traffic.clone(),
                namespaces: before.namespaces.clone(),
                workloads: before.workloads.clone(),
                closed: before.closed.clone(),
                problems: Vec::new(),
            },
            None => Self {
                closed: Some(reason.clone()),
                ..Self::default()
            },
        };
        Self {
            problems: vec![reason],
            ..kept
        }
    }
}

/// The name of a namespace, and its labels.
fn namespace(item: Item) -> Result<(String, Labels), Problem> {
    let mut object = item.object;
    let mut metadata = object.required_object("metadata")?;
    Ok((metadata.required_text("name")?, of(&mut metadata)?))
}

/// What a workload's uid ends with.
fn workload(item: &Item) -> Result<String, Problem> {
    let mut metadata = item.object.clone().required_object("metadata")?;
    let name = metadata.required_text("name")?;
    let namespace = metadata.text("namespace")?;
    let namespace = namespace.as_deref().unwrap_or("default");
    Ok(format!("{}/{namespace}/{name}", item.kind))
}

/// The labels of a workload: those of its spec count before its own.
fn labels(item: Item) -> Result<Labels, Problem> {
    let mut object = item.object;
    let mut labels = of(&mut object.required_object("metadata")?)?;
    if item.kind == "WorkloadEntry"
        && let Some(mut spec) = object.object("spec")?
    {
        labels.extend(of(&mut spec)?);
    }
    Ok(labels)
}

fn of(labelled: &mut Object) -> Result<Labels, Problem> {
    let labels = labelled.object("labels")?.map(Object::into_texts).transpose()?;
    Ok(labels.unwrap_or_default().into_iter().collect())
}

/// Keeps what there was of an object.
fn keep(kept: &mut Manifests, rejected: &Rejected, before: &Manifests) {
    let Some((namespace, name)) = &rejected.name else {
        return;
    };
    let is_named = |route: &Route| route.id.namespace == *namespace && route.id.name == *name;
    match &*rejected.kind {
        kind @ ("HTTPRoute" | "GRPCRoute") => {
            let kind = if kind == "HTTPRoute" {
                RouteKind::Http
            } else {
                RouteKind::Grpc
            };
            let found = before.routes.iter();
            let found = found.filter(|route| route.id.kind == kind && is_named(route));
            kept.routes.extend(found.cloned());
        }
        "VirtualService" => {
            let found = before.virtual_services.iter().filter(|found| is_named(&found.route));
            kept.virtual_services.extend(found.cloned());
        }
        "DestinationRule" => {
            let found = before.destination_rules.iter();
            let found = found.filter(|rule| rule.namespace == *namespace && rule.name == *name);
            kept.destination_rules.extend(found.cloned());
        }
        _ => {}
    }
}
