//! Values of fields.

use std::net::IpAddr;
use std::str::FromStr;

use mesh_policy::authz::Labels;
use mesh_policy::authz::k8s::{Object, Problem, ReadFault};

/// A `spec`, which has to be there.
pub(super) fn spec(object: &mut Object) -> Result<Object, Problem> {
    let line = object.line();
    object.object("spec")?.ok_or_else(|| missing(line, "spec"))
}

/// Names with values; none if the field is not there.
pub(super) fn labels(object: &mut Object, name: &str) -> Result<Labels, Problem> {
    let texts = object.object(name)?.map(Object::into_texts).transpose()?;
    Ok(texts.into_iter().flatten().collect())
}

pub(super) fn number<T: FromStr>(object: &mut Object, name: &str) -> Result<Option<T>, Problem> {
    let (line, path) = (object.line_of(name), object.path(name));
    let text = object.text(name)?;
    text.map(|text| text.parse().map_err(|_| bad(line, &path, &text)))
        .transpose()
}

/// A port, which is never 0.
pub(super) fn port(object: &mut Object, name: &str) -> Result<Option<u16>, Problem> {
    let (line, path) = (object.line_of(name), object.path(name));
    match number(object, name)? {
        Some(0) => Err(bad(line, &path, "0")),
        port => Ok(port),
    }
}

pub(super) fn required_port(object: &mut Object, name: &str) -> Result<u16, Problem> {
    let (line, path) = (object.line(), object.path(name));
    port(object, name)?.ok_or_else(|| missing(line, &path))
}

pub(super) fn ip(line: u32, field: &str, text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| bad(line, field, text))
}

/// One of a few words, and the default if the field is not there.
pub(super) fn word<T: Copy>(object: &mut Object, name: &str, words: &[(&str, T)], default: T) -> Result<T, Problem> {
    let (line, path) = (object.line_of(name), object.path(name));
    let Some(text) = object.text(name)? else {
        return Ok(default);
    };
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| bad(line, &path, &text))
}

pub(super) fn bad(line: u32, field: &str, value: &str) -> Problem {
    let (field, value) = (field.into(), value.into());
    (line, ReadFault::Value { field, value })
}

pub(super) fn missing(line: u32, field: &str) -> Problem {
    let field = field.into();
    (line, ReadFault::Missing { field })
}
