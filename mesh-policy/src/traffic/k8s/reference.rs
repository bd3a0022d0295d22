use crate::{
    authz::TargetRef,
    manifest::{Object, Problem, ReadFault},
    traffic::{
        backend::Target,
        gateway::GATEWAY_API,
        host::HostPattern,
        model::{ParentRef, Route},
    },
};

/// The requests that a route is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claimed {
    /// Those to these hosts; to all, if there are none.
    pub hosts: Vec<HostPattern>,
    /// Those to these gateways and services. Istio's routes have none: their hosts are services.
    pub parents: Vec<ParentRef>,
}

impl Claimed {
    pub(super) fn of(route: &Route) -> Self {
        Self {
            hosts: route.hosts.clone(),
            parents: route.parents.clone(),
        }
    }
}

/// Services that a policy is for.
const MAX_TARGETS: usize = 16;

/// Parents of a route.
const MAX_PARENTS: usize = 32;

/// The parents of a route in a namespace.
pub(super) fn parents(spec: &mut Object, namespace: &str) -> Result<Vec<ParentRef>, Problem> {
    let list = spec.objects_at_most(MAX_PARENTS, "parentRefs")?;
    list.into_iter().map(|object| parent(object, namespace)).collect()
}

fn parent(mut object: Object, namespace: &str) -> Result<ParentRef, Problem> {
    let group = object.text("group")?;
    let kind = object.text("kind")?;
    let parent = ParentRef {
        group: group.as_deref().unwrap_or(GATEWAY_API).into(),
        kind: kind.as_deref().unwrap_or("Gateway").into(),
        namespace: object.text("namespace")?.as_deref().unwrap_or(namespace).into(),
        name: object.required_text("name")?.into(),
        section: object.text("sectionName")?.map(Into::into),
        port: port(&mut object)?,
    };
    object.finish()?;
    Ok(parent)
}

/// What a reference to a backend leads to.
pub(super) fn target(object: &mut Object, namespace: &str) -> Result<Target, Problem> {
    let line = object.line();
    let group = object.text("group")?.unwrap_or_default();
    let kind = object.text("kind")?.unwrap_or_else(|| "Service".to_owned());
    let name = object.required_text("name")?.into();
    let namespace = object.text("namespace")?.as_deref().unwrap_or(namespace).into();
    let port = port(object)?;
    if port.is_none() && group.is_empty() && kind == "Service" {
        let field = object.path("port").into();
        return Err((line, ReadFault::Missing { field }));
    }
    Ok(Target::Object {
        group: group.into(),
        kind: kind.into(),
        namespace,
        name,
        port,
    })
}

/// The services in a policy's own namespace that it is for.
pub(super) fn services(spec: &mut Object) -> Result<Vec<TargetRef>, Problem> {
    let (line, field) = (spec.line_of("targetRefs"), spec.path("targetRefs").into());
    let list = spec.objects_at_most(MAX_TARGETS, "targetRefs")?;
    if list.is_empty() {
        return Err((line, ReadFault::Missing { field }));
    }
    list.into_iter().map(service).collect()
}

fn service(mut object: Object) -> Result<TargetRef, Problem> {
    object.word("group", &[("", ()), ("core", ())])?;
    object.word("kind", &[("Service", ())])?;
    let service = TargetRef::service(&object.required_text("name")?);
    object.finish()?;
    Ok(service)
}

/// A port, which is never 0.
pub(super) fn port(object: &mut Object) -> Result<Option<u16>, Problem> {
    object.mapped("port", |text| text.parse().ok().filter(|port| *port > 0))
}
