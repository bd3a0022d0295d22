//! Values of fields.

use std::net::IpAddr;

use mesh_policy::authz::Labels;
use mesh_policy::authz::k8s::{Object, Problem, ReadFault};

/// Names with values; none if the field is not there.
pub(super) fn labels(object: &mut Object, name: &str) -> Result<Labels, Problem> {
    let texts = object.object(name)?.map(Object::into_texts).transpose()?;
    Ok(texts.into_iter().flatten().collect())
}

/// A port, which is never 0.
pub(super) fn port(object: &mut Object, name: &str) -> Result<Option<u16>, Problem> {
    object.mapped(name, |text| text.parse().ok().filter(|port| *port != 0))
}

pub(super) fn required_port(object: &mut Object, name: &str) -> Result<u16, Problem> {
    let (line, path) = (object.line(), object.path(name));
    port(object, name)?.ok_or_else(|| missing(line, &path))
}

pub(super) fn ip(line: u32, field: &str, text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| bad(line, field, text))
}

pub(super) fn bad(line: u32, field: &str, value: &str) -> Problem {
    let (field, value) = (field.into(), value.into());
    (line, ReadFault::Value { field, value })
}

pub(super) fn missing(line: u32, field: &str) -> Problem {
    let field = field.into();
    (line, ReadFault::Missing { field })
}
