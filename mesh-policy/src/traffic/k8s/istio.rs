use super::{
    duration,
    reference::port,
    scope::{HeaderLines, changeable, edits, field_value, precise_host},
};
use crate::{
    manifest::{
        Object, Problem, ReadFault,
        object::{text, unfit},
    },
    traffic::{
        backend::Target,
        edit::HeaderEdits,
        fault::{Abort, Fault},
        filter::DirectResponse,
        fraction::Fraction,
        grpc,
        host::HostPattern,
        redirect::{Redirect, RedirectPort, Scheme},
        rewrite::{PathChange, Rewrite},
    },
};

/// Where a rule of an object in a namespace sends requests.
pub(super) fn destination(mut object: Object, namespace: &str) -> Result<Target, Problem> {
    let (line, field) = (object.line_of("host"), object.path("host"));
    let host = object.required_text("host")?;
    if host.parse::<HostPattern>().is_err() || host.starts_with('*') {
        return Err(unfit(line, &field, &host));
    }
    let subset = object.text("subset")?.filter(|name| !name.is_empty());
    let mut number = None;
    if let Some(mut found) = object.object("port")? {
        number = found.mapped("number", |text| text.parse().ok().filter(|port| *port > 0))?;
        found.finish()?;
    }
    object.finish()?;
    Ok(Target::Host {
        namespace: namespace.into(),
        host: host.into(),
        port: number,
        subset: subset.map(Into::into),
    })
}

/// What becomes of the headers of requests and of answers.
pub(super) fn header_edits(mut object: Object) -> Result<(HeaderEdits, HeaderEdits), Problem> {
    let request = object
        .object("request")?
        .map(|object| edits(object, lines))
        .transpose()?;
    let response = object
        .object("response")?
        .map(|object| edits(object, lines))
        .transpose()?;
    object.finish()?;
    Ok((request.unwrap_or_default(), response.unwrap_or_default()))
}

fn lines(object: &mut Object, name: &str) -> Result<HeaderLines, Problem> {
    let mut lines = Vec::new();
    for (path, name, node) in object.object(name)?.into_iter().flat_map(Object::into_fields) {
        let (line, value) = text(&path, node)?;
        lines.push((changeable(line, &path, &name)?, field_value(line, &path, &value)?));
    }
    Ok(lines)
}

/// A share in percent. Without a value it is that of protobuf's default: no requests.
pub(super) fn percentage(mut object: Object) -> Result<Fraction, Problem> {
    let share = object.mapped("value", |text| Fraction::percent(text.parse().ok()?).ok())?;
    object.finish()?;
    Ok(share.unwrap_or(Fraction::NONE))
}

/// What goes wrong on purpose; without a share, for no requests.
pub(super) fn fault(mut object: Object) -> Result<Fault, Problem> {
    let mut fault = Fault::default();
    if let Some(mut delay) = object.object("delay")? {
        let (line, field) = (delay.line(), delay.path("fixedDelay").into());
        delay.refuse(&["percent", "exponentialDelay"])?;
        let share = delay.object("percentage")?.map(percentage).transpose()?;
        let time = delay.mapped("fixedDelay", duration::istio)?;
        let time = time.ok_or((line, ReadFault::Missing { field }))?;
        delay.finish()?;
        fault.delay = share.map(|share| (share, time));
    }
    if let Some(mut abort) = object.object("abort")? {
        let (line, field) = (abort.line(), abort.path("httpStatus"));
        abort.refuse(&["percent", "http2Error"])?;
        let share = abort.object("percentage")?.map(percentage).transpose()?;
        let http = abort.mapped("httpStatus", |text| {
            text.parse().ok().filter(|status| (200..=599).contains(status))
        })?;
        let grpc = abort.mapped("grpcStatus", grpc::parse)?;
        let answer = match (http, grpc) {
            (Some(http), None) => Abort::Http(http),
            (None, Some(grpc)) => Abort::Grpc(grpc),
            (None, None) => return Err((line, ReadFault::Missing { field: field.into() })),
            (Some(_), Some(_)) => {
                let (field, other) = (field.into(), abort.path("grpcStatus").into());
                return Err((line, ReadFault::Excluded { field, other }));
            }
        };
        abort.finish()?;
        fault.abort = share.map(|share| (share, answer));
    }
    object.finish()?;
    Ok(fault)
}

pub(super) fn rewrite(mut object: Object) -> Result<Rewrite, Problem> {
    let mut rewrite = Rewrite::default();
    object.refuse(&["uriRegexRewrite"])?;
    rewrite.host = precise_host(&mut object, "authority")?;
    rewrite.path = object.mapped("uri", |uri| {
        // As for the Gateway API's, which are bounded and hold only what a path may.
        PathChange::full(uri).ok().map(|_| PathChange::Matched(uri.into()))
    })?;
    object.finish()?;
    Ok(rewrite)
}

pub(super) fn redirect(mut object: Object) -> Result<Redirect, Problem> {
    let mut redirect = Redirect {
        scheme: object.word("scheme", &[("http", Scheme::Http), ("https", Scheme::Https)])?,
        host: precise_host(&mut object, "authority")?,
        path: object.mapped("uri", |uri| PathChange::full(uri).ok())?,
        ..Redirect::default()
    };
    let line = object.line_of("derivePort");
    let ports = [
        ("FROM_PROTOCOL_DEFAULT", RedirectPort::OfScheme),
        ("FROM_REQUEST_PORT", RedirectPort::Derived),
    ];
    let derived = object.word("derivePort", &ports)?;
    redirect.port = match (port(&mut object)?, derived) {
        (Some(_), Some(_)) => {
            let (field, other) = (object.path("derivePort").into(), object.path("port").into());
            return Err((line, ReadFault::Excluded { field, other }));
        }
        (Some(port), None) => RedirectPort::Is(port),
        (None, derived) => derived.unwrap_or(RedirectPort::Request),
    };
    let status = object.mapped("redirectCode", |text| {
        text.parse().ok().filter(|status| Redirect::STATUSES.contains(status))
    })?;
    redirect.status = status.unwrap_or(301);
    object.finish()?;
    Ok(redirect)
}

pub(super) fn direct_response(mut object: Object) -> Result<DirectResponse, Problem> {
    let (line, field) = (object.line(), object.path("status").into());
    let status = object.mapped("status", |text| {
        text.parse().ok().filter(|status| (200..=599).contains(status))
    })?;
    let mut response = DirectResponse::new(status.ok_or((line, ReadFault::Missing { field }))?);
    if let Some(mut body) = object.object("body")? {
        body.refuse(&["bytes"])?;
        response.body = body.text("string")?.unwrap_or_default().into_bytes().into();
        body.finish()?;
    }
    object.finish()?;
    Ok(response)
}
