use super::{metadata::Metadata, reference::port};
use crate::{
    manifest::{Object, Problem, ReadFault},
    traffic::{
        gateway::{GATEWAY_API, Gateway, Listener, Namespaces, ReferenceGrant, Referent, Referrer},
        host::HostPattern,
        model::RouteKind,
    },
};

pub(super) fn read(metadata: &Metadata, mut spec: Object) -> Result<Gateway, Problem> {
    let class = spec.required_text("gatewayClassName")?;
    let mut gateway = Gateway::new(&metadata.namespace, &metadata.name, &class);
    for object in spec.objects("listeners")? {
        gateway.listeners.push(listener(object)?);
    }
    spec.pass_over(&["addresses", "infrastructure", "tls"]);
    spec.refuse(&["allowedListeners", "defaultScope"])?;
    spec.finish()?;
    Ok(gateway)
}

fn listener(mut object: Object) -> Result<Listener, Problem> {
    let (line, field) = (object.line(), object.path("port").into());
    let name = object.required_text("name")?;
    let port = port(&mut object)?.ok_or((line, ReadFault::Missing { field }))?;
    let mut listener = Listener::new(&name, port, &object.required_text("protocol")?);
    let host = object.mapped("hostname", |text| text.parse().ok().filter(|_| text != "*"))?;
    listener.host = host.unwrap_or(HostPattern::ANY);
    if let Some(mut allowed) = object.object("allowedRoutes")? {
        if let Some(namespaces) = allowed.object("namespaces")? {
            listener.namespaces = self::namespaces(namespaces)?;
        }
        let kinds = allowed.objects("kinds")?;
        if !kinds.is_empty() {
            listener.kinds = Some(self::kinds(kinds)?);
        }
        allowed.finish()?;
    }
    object.pass_over(&["tls"]);
    object.finish()?;
    Ok(listener)
}

fn namespaces(mut object: Object) -> Result<Namespaces, Problem> {
    let line = object.line();
    let words = [
        ("Same", "Same"),
        ("All", "All"),
        ("Selector", "Selector"),
        ("None", "None"),
    ];
    let from = object.word("from", &words)?.unwrap_or("Same");
    let mut labels = None;
    if let Some(mut selector) = object.object("selector")? {
        let texts = selector.object("matchLabels")?.map(Object::into_texts).transpose()?;
        selector.refuse(&["matchExpressions"])?;
        selector.finish()?;
        labels = Some(texts.unwrap_or_default().into_iter().collect());
    }
    let field = object.path("selector").into();
    object.finish()?;
    Ok(match from {
        "All" => Namespaces::All,
        "None" => Namespaces::None,
        "Selector" => Namespaces::Selector(labels.ok_or((line, ReadFault::Missing { field }))?),
        _ => Namespaces::Same,
    })
}

/// The kinds that are known here: a listener that admits others only admits none.
fn kinds(list: Vec<Object>) -> Result<Vec<RouteKind>, Problem> {
    let mut kinds = Vec::new();
    for mut object in list {
        let group = object.text("group")?;
        let kind = object.required_text("kind")?;
        object.finish()?;
        match (group.as_deref().unwrap_or(GATEWAY_API), kind.as_str()) {
            (GATEWAY_API, "HTTPRoute") => kinds.push(RouteKind::Http),
            (GATEWAY_API, "GRPCRoute") => kinds.push(RouteKind::Grpc),
            _ => {}
        }
    }
    Ok(kinds)
}

pub(super) fn read_grant(metadata: &Metadata, mut spec: Object) -> Result<ReferenceGrant, Problem> {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for mut object in spec.objects("from")? {
        let (group, kind) = (object.required_text("group")?, object.required_text("kind")?);
        from.push(Referrer::new(&group, &kind, &object.required_text("namespace")?));
        object.finish()?;
    }
    for mut object in spec.objects("to")? {
        let (group, kind) = (object.text("group")?.unwrap_or_default(), object.required_text("kind")?);
        to.push(Referent::new(&group, &kind, object.text("name")?.as_deref()));
        object.finish()?;
    }
    spec.finish()?;
    Ok(ReferenceGrant::new(&metadata.namespace, &metadata.name, from, to))
}
