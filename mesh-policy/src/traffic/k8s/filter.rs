use std::collections::HashSet;

use super::{
    cors,
    reference::{port, target},
    scope::{HeaderLines, changeable, edits, field_value, precise_host},
};
use crate::{
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        filter::{DirectResponse, Filters, Mirror},
        fraction::Fraction,
        model::RouteKind,
        redirect::{Redirect, RedirectPort, Scheme},
        rewrite::{PathChange, Rewrite},
    },
};

/// Filters in a rule or at a backend, and header lines in one of them.
const MAX_ENTRIES: usize = 16;

/// Filters by their type, and the field that each has.
const TYPES: [(&str, &str); 9] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("DirectResponse", "directResponse"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// The filters of a rule or of a backend. Each is there once, but for mirrors.
pub(super) fn read(owner: &mut Object, kind: RouteKind, namespace: &str) -> Result<Filters, Problem> {
    let list = owner.objects_at_most(MAX_ENTRIES, "filters")?;
    let (mut filters, mut seen) = (Filters::default(), HashSet::new());
    for mut object in list {
        let (line, path) = (object.line_of("type"), object.path("type"));
        let name = object.required_text("type")?;
        let known = TYPES.iter().take(if kind == RouteKind::Grpc { 3 } else { TYPES.len() });
        let is_extension = name == "ExtensionRef" || name == "ExternalAuth";
        let Some((_, field)) = known.into_iter().find(|(known, _)| *known == name) else {
            return Err(if is_extension {
                unsupported(line, &path)
            } else {
                unfit(line, &path, &name)
            });
        };
        if is_extension {
            return Err(unsupported(line, &path));
        }
        let content = object.required_object(field)?;
        object.finish()?;
        if name != "RequestMirror" && !seen.insert(*field) {
            return Err(unfit(line, &path, &name));
        }
        match name.as_str() {
            "RequestHeaderModifier" => filters.request_headers = edits(content, lines)?,
            "ResponseHeaderModifier" => filters.response_headers = edits(content, lines)?,
            "RequestMirror" => filters.mirrors.push(mirror(content, namespace)?),
            "RequestRedirect" => filters.redirect = Some(redirect(content)?.into()),
            "DirectResponse" => filters.respond = Some(direct_response(content)?.into()),
            "URLRewrite" => filters.rewrite = Some(rewrite(content)?.into()),
            _ => filters.cors = Some(cors::gateway_api(content)?.into()),
        }
        let others = [
            ("urlRewrite", filters.rewrite.is_some()),
            ("directResponse", filters.respond.is_some()),
        ];
        let other = others.into_iter().find(|(_, is_there)| *is_there);
        if let (Some(_), Some((other, _))) = (&filters.redirect, other) {
            let (field, other) = ("requestRedirect".into(), other.into());
            return Err((line, ReadFault::Excluded { field, other }));
        }
    }
    Ok(filters)
}

fn unsupported(line: u32, field: &str) -> Problem {
    let field = field.into();
    (line, ReadFault::Unsupported { field })
}

/// Of several lines of a name the first counts.
fn lines(object: &mut Object, name: &str) -> Result<HeaderLines, Problem> {
    let list = object.objects_at_most(MAX_ENTRIES, name)?;
    let mut lines = HeaderLines::new();
    for mut object in list {
        let (line, field) = (object.line_of("name"), object.path("name"));
        let name = changeable(line, &field, &object.required_text("name")?)?;
        let (line, field) = (object.line_of("value"), object.path("value"));
        let value = field_value(line, &field, &object.required_text("value")?)?;
        object.finish()?;
        if lines.iter().all(|(known, _)| *known != name) {
            lines.push((name, value));
        }
    }
    Ok(lines)
}

fn mirror(mut object: Object, namespace: &str) -> Result<Mirror, Problem> {
    let mut backend = object.required_object("backendRef")?;
    let target = target(&mut backend, namespace)?;
    backend.finish()?;
    let line = object.line_of("percent");
    let percent = object.mapped("percent", |text| Fraction::new(text.parse().ok()?, 100).ok())?;
    let fraction = object.object("fraction")?.map(fraction).transpose()?;
    if percent.is_some() && fraction.is_some() {
        let (field, other) = (object.path("percent").into(), object.path("fraction").into());
        return Err((line, ReadFault::Excluded { field, other }));
    }
    object.finish()?;
    Ok(Mirror::new(target, percent.or(fraction).unwrap_or(Fraction::ALL)))
}

fn fraction(mut object: Object) -> Result<Fraction, Problem> {
    let (line, path) = (object.line(), object.path("numerator"));
    let text = object.required_text("numerator")?;
    let denominator = object.parsed("denominator")?.unwrap_or(100);
    object.finish()?;
    let fraction = text
        .parse()
        .ok()
        .and_then(|numerator| Fraction::new(numerator, denominator).ok());
    fraction.ok_or_else(|| unfit(line, &path, &text))
}

fn redirect(mut object: Object) -> Result<Redirect, Problem> {
    let mut redirect = Redirect {
        scheme: object.word("scheme", &[("http", Scheme::Http), ("https", Scheme::Https)])?,
        host: precise_host(&mut object, "hostname")?,
        path: object.object("path")?.map(path_change).transpose()?,
        port: port(&mut object)?.map_or(RedirectPort::Derived, RedirectPort::Is),
        ..Redirect::default()
    };
    let status = object.mapped("statusCode", |text| {
        text.parse().ok().filter(|status| Redirect::STATUSES.contains(status))
    })?;
    redirect.status = status.unwrap_or(redirect.status);
    object.finish()?;
    Ok(redirect)
}

fn rewrite(mut object: Object) -> Result<Rewrite, Problem> {
    let rewrite = Rewrite {
        host: precise_host(&mut object, "hostname")?,
        path: object.object("path")?.map(path_change).transpose()?,
    };
    object.finish()?;
    Ok(rewrite)
}

fn direct_response(mut object: Object) -> Result<DirectResponse, Problem> {
    let (line, field) = (object.line(), object.path("statusCode").into());
    let status = object.mapped("statusCode", |text| {
        text.parse().ok().filter(|status| (200..=599).contains(status))
    })?;
    let mut response = DirectResponse::new(status.ok_or((line, ReadFault::Missing { field }))?);
    if let Some(mut body) = object.object("body")? {
        response.body = body.required_text("string")?.into_bytes().into();
        body.finish()?;
    }
    object.finish()?;
    Ok(response)
}

fn path_change(mut object: Object) -> Result<PathChange, Problem> {
    let types = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
    let (line, field) = (object.line(), object.path("type").into());
    let is_full = object
        .word("type", &types)?
        .ok_or((line, ReadFault::Missing { field }))?;
    let name = if is_full {
        "replaceFullPath"
    } else {
        "replacePrefixMatch"
    };
    let (line, path) = (object.line_of(name), object.path(name));
    let text = object.required_text(name)?;
    object.finish()?;
    let change = if is_full {
        PathChange::full(&text)
    } else {
        PathChange::prefix(&text)
    };
    change.map_err(|_| unfit(line, &path, &text))
}
