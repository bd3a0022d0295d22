use super::{filter, reference::target, scope::Scope};
use crate::{
    manifest::{Object, Problem, ReadFault},
    traffic::{
        backend::{Backend, Backends},
        edit::HeaderEdits,
        filter::Filters,
        model::RouteKind,
    },
};

/// Backends in a rule.
const MAX_BACKENDS: usize = 16;

/// The largest weight of the API.
const MAX_WEIGHT: u32 = 1_000_000;

/// The backends of a rule. One whose filters cannot be carried out keeps its share, which fails.
pub(super) fn backends(
    rule: &mut Object,
    kind: RouteKind,
    namespace: &str,
    scope: &mut Scope,
) -> Result<Backends, Problem> {
    let list = rule.objects_at_most(MAX_BACKENDS, "backendRefs")?;
    list.into_iter()
        .map(|object| backend(object, kind, namespace, scope))
        .collect()
}

fn backend(mut object: Object, kind: RouteKind, namespace: &str, scope: &mut Scope) -> Result<Backend, Problem> {
    let mut backend = Backend::new(target(&mut object, namespace)?);
    let weight = object.mapped("weight", |text| {
        text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT)
    })?;
    backend.weight = weight.unwrap_or(1);
    match filters(&mut object, kind, namespace) {
        Ok(filters) => {
            backend.request_headers = filters.request_headers;
            backend.response_headers = filters.response_headers;
            backend.redirect = filters.redirect;
            backend.rewrite = filters.rewrite;
        }
        Err(problem) => backend.invalid = Some(scope.invalid(problem).into()),
    }
    object.finish()?;
    Ok(backend)
}

/// The filters of a backend, which do not concern others.
fn filters(object: &mut Object, kind: RouteKind, namespace: &str) -> Result<Filters, Problem> {
    let (line, field) = (object.line_of("filters"), object.path("filters").into());
    let filters = filter::read(object, kind, namespace)?;
    let rest = Filters {
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        redirect: None,
        rewrite: None,
        ..filters.clone()
    };
    if rest != Filters::default() {
        return Err((line, ReadFault::Unsupported { field }));
    }
    Ok(filters)
}
