use std::{sync::Arc, time::Duration};

use super::{duration, metadata::Metadata, scope::field_name};
use crate::{
    authz::TargetRef,
    manifest::{Object, Problem, ReadFault, object::unfit},
    traffic::{
        gateway::GATEWAY_API,
        header::{HeaderMatch, HeaderTest},
        pattern::Pattern,
        rate::{Action, Limit, LimitKey, LimitTarget, LocalLimit, RateLimitPolicy},
    },
};

/// Targets, limits and descriptors of a policy, and entries of a descriptor.
const MAX_ENTRIES: usize = 16;

/// Targets by their kind: the API group, and whether they have rules with names.
const KINDS: [(&str, (&str, bool)); 5] = [
    ("Service", ("", false)),
    ("ServiceEntry", ("networking.istio.io", false)),
    ("HTTPRoute", (GATEWAY_API, true)),
    ("GRPCRoute", (GATEWAY_API, true)),
    ("VirtualService", ("networking.istio.io", true)),
];

pub(super) fn read(metadata: &Metadata, mut spec: Object, file: &Arc<str>) -> Result<RateLimitPolicy, Problem> {
    let mut policy = RateLimitPolicy::new(&metadata.namespace, &metadata.name);
    policy.place = Some((Arc::clone(file), metadata.line));
    let (line, field) = (spec.line_of("targetRefs"), spec.path("targetRefs").into());
    for object in spec.objects_at_most(MAX_ENTRIES, "targetRefs")? {
        let target = target(object)?;
        if !policy.targets.contains(&target) {
            policy.targets.push(target);
        }
    }
    if policy.targets.is_empty() {
        return Err((line, ReadFault::Missing { field }));
    }
    for object in spec.objects_at_most(MAX_ENTRIES, "limits")? {
        policy.limits.push(limit(object)?);
    }
    for mut object in spec.objects_at_most(MAX_ENTRIES, "descriptors")? {
        let (line, field) = (object.line(), object.path("entries").into());
        let entries = object.objects_at_most(MAX_ENTRIES, "entries")?;
        object.finish()?;
        if entries.is_empty() {
            return Err((line, ReadFault::Missing { field }));
        }
        let actions = entries.into_iter().map(action).collect::<Result<Vec<_>, _>>()?;
        policy.descriptors = std::mem::take(&mut policy.descriptors).with(actions);
    }
    let (line, field) = (spec.line(), spec.path("limits").into());
    spec.finish()?;
    if policy.limits.is_empty() && policy.descriptors.is_empty() {
        return Err((line, ReadFault::Missing { field }));
    }
    Ok(policy)
}

fn target(mut object: Object) -> Result<LimitTarget, Problem> {
    let (line, path) = (object.line(), object.path("kind").into());
    let words = KINDS.map(|(kind, rest)| (kind, (kind, rest)));
    let kind = object.word("kind", &words)?;
    let (kind, (group, has_rules)) = kind.ok_or((line, ReadFault::Missing { field: path }))?;
    object.word("group", &[(group, ())])?;
    let target = LimitTarget {
        object: TargetRef {
            group: group.into(),
            kind: kind.into(),
            name: object.required_text("name")?,
        },
        rule: if has_rules {
            object.text("sectionName")?.map(Into::into)
        } else {
            None
        },
    };
    object.finish()?;
    Ok(target)
}

fn limit(mut object: Object) -> Result<LocalLimit, Problem> {
    let (line, field) = (object.line(), object.path("requests").into());
    let name = object.text("name")?.map(Into::into);
    let requests = object.parsed("requests")?.ok_or((line, ReadFault::Missing { field }))?;
    let per = object.mapped("per", period)?.unwrap_or(Duration::from_secs(1));
    let burst = object.parsed("burst")?.unwrap_or(requests);
    let by = object.object("by")?.map(limit_key).transpose()?;
    object.finish()?;
    Ok(LocalLimit {
        name,
        limit: Limit::token_bucket(burst, requests, per),
        by: by.unwrap_or(LimitKey::Everyone),
    })
}

/// From a millisecond to a day.
fn period(text: &str) -> Option<Duration> {
    let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
    duration::gateway_api(text).filter(|period| range.contains(period))
}

fn limit_key(mut object: Object) -> Result<LimitKey, Problem> {
    #[derive(Clone, Copy)]
    enum Type {
        Identity,
        Header,
    }
    let (line, field) = (object.line(), object.path("type").into());
    let types = [("Identity", Type::Identity), ("Header", Type::Header)];
    let kind = object
        .word("type", &types)?
        .ok_or((line, ReadFault::Missing { field }))?;
    let keys = object.mapped("keys", |text| {
        text.parse()
            .ok()
            .filter(|keys| (1..=LimitKey::MOST_KEYS).contains(keys))
    })?;
    let keys = keys.unwrap_or(LimitKey::KEYS);
    let key = match kind {
        Type::Identity => LimitKey::Identity { keys },
        Type::Header => LimitKey::Header {
            name: header(&mut object, "header")?,
            keys,
        },
    };
    object.finish()?;
    Ok(key)
}

/// An entry of a descriptor, by the names of Envoy's actions.
fn action(mut object: Object) -> Result<Action, Problem> {
    let (line, path) = (object.line(), object.path("type"));
    let kind = object.required_text("type")?;
    let text = |object: &mut Object, name: &str| object.required_text(name).map(Box::<str>::from);
    let key = |object: &mut Object, default: &str| -> Result<Box<str>, Problem> {
        Ok(object.text("key")?.as_deref().unwrap_or(default).into())
    };
    let action = match kind.as_str() {
        "SourceCluster" => Action::SourceCluster,
        "DestinationCluster" => Action::DestinationCluster,
        "RemoteAddress" => Action::RemoteAddress,
        "RequestHeader" => Action::Header {
            name: header(&mut object, "header")?,
            key: text(&mut object, "key")?,
            optional: object.flag("skipIfAbsent")?,
        },
        "QueryParameter" => Action::QueryParameter {
            name: text(&mut object, "parameter")?,
            key: text(&mut object, "key")?,
            optional: object.flag("skipIfAbsent")?,
        },
        "GenericKey" => Action::Generic {
            key: key(&mut object, "generic_key")?,
            value: text(&mut object, "value")?,
        },
        "HeaderMatch" => Action::HeaderMatch {
            key: key(&mut object, "header_match")?,
            value: text(&mut object, "value")?,
            tests: vec![header_match(&mut object)?],
            expected: true,
        },
        _ => return Err(unfit(line, &path, &kind)),
    };
    object.finish()?;
    Ok(action)
}

fn header(object: &mut Object, field: &str) -> Result<Box<str>, Problem> {
    let (line, path) = (object.line_of(field), object.path(field));
    let name = field_name(line, &path, &object.required_text(field)?)?;
    Ok(name.as_str().into())
}

/// A header that has exactly a value, or is there.
fn header_match(object: &mut Object) -> Result<HeaderMatch, Problem> {
    let (line, path) = (object.line_of("header"), object.path("header"));
    let name = field_name(line, &path, &object.required_text("header")?)?;
    let exact = object.text("exact")?;
    let test = exact.map_or(HeaderTest::Present, |exact| {
        HeaderTest::Is(Pattern::Exact(exact.into()))
    });
    Ok(HeaderMatch { name, test })
}
