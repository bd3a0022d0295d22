use std::time::Duration;

use super::{
    duration,
    scope::{Scope, field_name},
};
use crate::{
    manifest::{Object, Problem, object::unfit},
    traffic::{
        cors::{Cors, Listed, OriginMatch},
        pattern::Pattern,
    },
};

/// A filter of the Gateway API.
pub(super) fn gateway_api(mut object: Object) -> Result<Cors, Problem> {
    let path = object.path("allowOrigins");
    let origins = object.texts("allowOrigins")?.into_iter();
    let origins = origins.map(|(line, text)| OriginMatch::parse(&text).ok_or_else(|| unfit(line, &path, &text)));
    let mut cors = Cors::new(origins.collect::<Result<_, _>>()?);
    read_names(&mut object, &mut cors)?;
    let age = object.mapped("maxAge", |text| text.parse().ok().filter(|age| *age >= 1))?;
    cors.max_age = Some(Duration::from_secs(age.unwrap_or(5)));
    object.finish()?;
    Ok(cors)
}

/// A policy of a VirtualService.
pub(super) fn istio(mut object: Object, scope: &mut Scope) -> Result<Cors, Problem> {
    object.refuse(&["allowOrigin"])?;
    let mut cors = Cors::new(Vec::new());
    for origin in object.objects("allowOrigins")? {
        let (line, path) = (origin.line(), origin.path("exact"));
        cors.origins.push(match scope.string_match(origin)? {
            Some(Pattern::Exact(text)) if &*text == "*" => OriginMatch::Any,
            Some(pattern) => OriginMatch::Text(pattern),
            None => return Err(unfit(line, &path, "")),
        });
    }
    read_names(&mut object, &mut cors)?;
    cors.max_age = object.mapped("maxAge", duration::istio)?;
    let unmatched = [("UNSPECIFIED", true), ("FORWARD", true), ("IGNORE", false)];
    cors.forwards_unmatched = object.word("unmatchedPreflights", &unmatched)?.unwrap_or(true);
    object.finish()?;
    Ok(cors)
}

fn read_names(object: &mut Object, cors: &mut Cors) -> Result<(), Problem> {
    cors.credentials = object.flag("allowCredentials")?;
    cors.methods = listed(object, "allowMethods")?;
    cors.request_headers = listed(object, "allowHeaders")?;
    cors.exposed_headers = listed(object, "exposeHeaders")?;
    Ok(())
}

/// Names of methods or headers, or a star for all of them.
fn listed(object: &mut Object, name: &str) -> Result<Listed, Problem> {
    let path = object.path(name);
    let mut names: Vec<Box<str>> = Vec::new();
    for (line, text) in object.texts(name)? {
        if text == "*" {
            return Ok(Listed::All);
        }
        field_name(line, &path, &text)?;
        names.push(text.into());
    }
    Ok(Listed::Names(names))
}
