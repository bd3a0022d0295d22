use super::{filter, reference::target};
use crate::{
    manifest::{Object, Problem, ReadFault},
    traffic::{
        backend::{Backend, Backends},
        filter::Filters,
        model::RouteKind,
    },
};

/// Backends in a rule.
const MAX_BACKENDS: usize = 16;

/// The largest weight of the API.
const MAX_WEIGHT: u32 = 1_000_000;

/// The backends of a rule.
pub(super) fn backends(rule: &mut Object, kind: RouteKind, namespace: &str) -> Result<Backends, Problem> {
    let list = rule.objects_at_most(MAX_BACKENDS, "backendRefs")?;
    list.into_iter()
        .map(|object| backend(object, kind, namespace))
        .collect()
}

fn backend(mut object: Object, kind: RouteKind, namespace: &str) -> Result<Backend, Problem> {
    let mut backend = Backend::new(target(&mut object, namespace)?);
    let weight = object.mapped("weight", |text| {
        text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT)
    })?;
    backend.weight = weight.unwrap_or(1);
    let (line, field) = (object.line_of("filters"), object.path("filters").into());
    let mut filters = filter::read(&mut object, kind, namespace)?;
    backend.request_headers = std::mem::take(&mut filters.request_headers);
    backend.response_headers = std::mem::take(&mut filters.response_headers);
    if filters != Filters::default() {
        return Err((line, ReadFault::Unsupported { field }));
    }
    object.finish()?;
    Ok(backend)
}
