//! The values of policies that become a matcher of Envoy.
//!
//! What is guessed here is written again: a value counts only if the very same matcher comes out.

use super::{
    config::{CidrRange, MetadataMatcher, Permission, Principal, ValueMatcher},
    text::{HeaderMatcher, StringMatcher, StringPattern},
    value::{self, JWT_FILTER, JWT_KEY, PEER_KEY, SCHEME},
};
use crate::{
    authz::{model::ConditionKey, validate::check_value},
    facts::Attribute,
};

/// A value, and what it is asked of.
pub(super) type Asked = (Attribute, String);

/// What a permission asks for.
pub(super) fn of_permission(matcher: &Permission) -> Vec<Asked> {
    let guess = match matcher {
        Permission::Header(HeaderMatcher { name, value }) => {
            let attribute = match name.as_str() {
                ":authority" => Attribute::Host,
                ":method" => Attribute::Method,
                _ => return Vec::new(),
            };
            present_or(value).map(|value| (attribute, value))
        }
        Permission::UrlPath(path) => text(&path.path).map(|value| (Attribute::Path, value)),
        Permission::UriTemplate(template) => Some((Attribute::Path, template.written())),
        Permission::DestinationIp(block) => Some((Attribute::DestinationIp, cidr(block))),
        Permission::DestinationPort(port) => Some((Attribute::DestinationPort, port.to_string())),
        Permission::RequestedServerName(name) => text(name).map(|value| (Attribute::Sni, value)),
        Permission::Metadata(found) => of_metadata(found),
        Permission::AndRules(_) | Permission::OrRules(_) | Permission::NotRule(_) | Permission::Any(_) => None,
    };
    let comes_out =
        |(attribute, value): &Asked| value::permission(attribute, value).is_ok_and(|written| written == *matcher);
    guess.into_iter().filter(is_asked).filter(comes_out).collect()
}

/// What a principal asks for. That of one that asks for a trust domain can be said in two ways.
pub(super) fn of_principal(matcher: &Principal) -> Vec<Asked> {
    let guesses = match matcher {
        Principal::Authenticated(peer) => return of_peer(&peer.principal_name),
        Principal::FilterState(state) if state.key == PEER_KEY => return of_peer(&state.string_match),
        Principal::DirectRemoteIp(block) => Some((Attribute::SourceIp, cidr(block))),
        Principal::RemoteIp(block) => Some((Attribute::RemoteIp, cidr(block))),
        Principal::Header(HeaderMatcher { name, value }) => {
            present_or(value).map(|value| (Attribute::Header(name.to_ascii_lowercase().into()), value))
        }
        Principal::Metadata(found) => of_claim(found),
        Principal::AndIds(all) => request_principal(&all.ids).map(|value| (Attribute::RequestPrincipal, value)),
        Principal::FilterState(_) | Principal::OrIds(_) | Principal::NotId(_) | Principal::Any(_) => None,
    };
    let comes_out = |(attribute, value): &Asked| {
        value::principal(attribute, value).is_ok_and(|written| match (&written, matcher) {
            // Names of headers have no case.
            (Principal::Header(written), Principal::Header(read)) => {
                written.value == read.value && written.name.eq_ignore_ascii_case(&read.name)
            }
            (written, read) => written == read,
        })
    };
    guesses.into_iter().filter(is_asked).filter(comes_out).collect()
}

/// Whether a policy can ask that, which has no empty values and no odd keys.
fn is_asked((attribute, value): &Asked) -> bool {
    let has_key = match attribute {
        Attribute::Header(_) | Attribute::Claim(_) | Attribute::Metadata { .. } => {
            let key = attribute.to_string().parse::<ConditionKey>();
            key.is_ok_and(|key| key.attribute() == attribute)
        }
        _ => true,
    };
    has_key && check_value(attribute, value).is_ok()
}

fn of_peer(name: &StringMatcher) -> Vec<Asked> {
    let domain = |text: &str| (Attribute::TrustDomain, text.to_owned());
    let principal = |text: String| (Attribute::Principal, text);
    let guesses = match &name.pattern {
        StringPattern::Exact(text) => text
            .strip_prefix(SCHEME)
            .map(|text| vec![principal(text.to_owned())])
            .unwrap_or_default(),
        StringPattern::Prefix(text) => match text.strip_prefix(SCHEME) {
            None => Vec::new(),
            Some("") => vec![domain("*")],
            Some(start) => {
                let of_domain = start.strip_suffix('/').map(domain);
                [principal(format!("{start}*"))].into_iter().chain(of_domain).collect()
            }
        },
        StringPattern::Suffix(_) => Vec::new(),
        StringPattern::Regex(regex) => of_regex(regex),
    };
    let comes_out = |(attribute, value): &Asked| value::identity(attribute, "", value).as_ref() == Some(name);
    guesses.into_iter().filter(is_asked).filter(comes_out).collect()
}

/// What the regular expressions ask for that identities become.
fn of_regex(regex: &str) -> Vec<Asked> {
    let guess = |attribute, value: Option<String>| value.map(|value| (attribute, value));
    let after_scheme = regex.strip_prefix(SCHEME);
    let any = (regex == ".+").then(|| "*".to_owned());
    let namespace = regex.strip_prefix(".*/ns/").and_then(|rest| rest.strip_suffix("/.*"));
    let account = || {
        let rest = after_scheme?.strip_prefix(".+/ns/")?.strip_suffix("(/.+)?")?;
        let (namespace, account) = rest.split_once("/(.+/|)sa/")?;
        Some(format!("{}/{}", unquote(namespace), unquote(account)))
    };
    let domain = || {
        let rest = after_scheme?.strip_suffix("/.*")?;
        match rest.split_once("[^/]*")? {
            ("", end) => Some(format!("*{}", unquote(end))),
            (start, "") => Some(format!("{}*", unquote(start))),
            _ => None,
        }
    };
    let end = after_scheme.and_then(|rest| rest.strip_prefix(".*"));
    [
        guess(Attribute::Principal, any),
        guess(
            Attribute::Namespace,
            namespace.map(|text| unquote(&text.replace(".*", "*"))),
        ),
        guess(Attribute::ServiceAccount, account()),
        guess(Attribute::TrustDomain, domain()),
        guess(Attribute::Principal, end.map(|text| format!("*{}", unquote(text)))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The text that a regular expression was quoted from.
fn unquote(regex: &str) -> String {
    let mut text = String::with_capacity(regex.len());
    let mut is_quoted = false;
    for character in regex.chars() {
        is_quoted = character == '\\' && !is_quoted;
        if !is_quoted {
            text.push(character);
        }
    }
    text
}

/// A value with one outer star.
fn text(matcher: &StringMatcher) -> Option<String> {
    Some(match &matcher.pattern {
        StringPattern::Exact(text) => text.clone(),
        StringPattern::Prefix(text) => format!("{text}*"),
        StringPattern::Suffix(text) => format!("*{text}"),
        StringPattern::Regex(regex) if regex == ".+" => "*".to_owned(),
        StringPattern::Regex(_) => return None,
    })
}

fn present_or(value: &Option<StringMatcher>) -> Option<String> {
    match value {
        None => Some("*".to_owned()),
        Some(value) => text(value),
    }
}

fn cidr(block: &CidrRange) -> String {
    format!("{}/{}", block.address_prefix, block.prefix_len)
}

fn of_metadata(found: &MetadataMatcher) -> Option<Asked> {
    let filter = found.filter.strip_prefix("envoy.filters.")?.into();
    let [segment] = found.path.as_slice() else { return None };
    let key = segment.key.as_str().into();
    let value = match &found.value {
        ValueMatcher::Text(found) => text(found)?,
        ValueMatcher::List(list) => match &*list.one_of {
            ValueMatcher::Text(element) => format!("[{}]", text(element)?),
            ValueMatcher::List(_) | ValueMatcher::Or(_) => return None,
        },
        ValueMatcher::Or(_) => return None,
    };
    Some((Attribute::Metadata { filter, key }, value))
}

/// A claim of the token. The writer says whether the alternatives are those of one.
fn of_claim(found: &MetadataMatcher) -> Option<Asked> {
    let [first, names @ ..] = found.path.as_slice() else {
        return None;
    };
    let names: Vec<&str> = names.iter().map(|segment| segment.key.as_str()).collect();
    let ValueMatcher::Or(alternatives) = &found.value else {
        return None;
    };
    let value = alternatives.value_matchers.iter().find_map(|value| match value {
        ValueMatcher::Text(found) => text(found),
        ValueMatcher::List(_) | ValueMatcher::Or(_) => None,
    })?;
    let attribute = match names.as_slice() {
        _ if found.filter != JWT_FILTER || first.key != JWT_KEY => return None,
        ["aud"] => Attribute::Audiences,
        ["azp"] => Attribute::Presenter,
        names => Attribute::Claim(names.iter().map(|name| Box::from(*name)).collect()),
    };
    Some((attribute, value))
}

/// Issuer and subject as one value.
fn request_principal(ids: &[Principal]) -> Option<String> {
    let of = |name: &str| {
        let mut found = ids.iter().filter_map(|id| match id {
            Principal::Metadata(found) => Some(found),
            _ => None,
        });
        found.find_map(|found| match (found.path.last(), &found.value) {
            (Some(segment), ValueMatcher::Text(text)) if segment.key == name => Some(&text.pattern),
            _ => None,
        })
    };
    let value = |pattern: &StringPattern| text(&pattern.clone().into());
    Some(match (of("iss"), of("sub")) {
        (Some(StringPattern::Regex(issuer)), Some(StringPattern::Regex(subject))) if issuer == subject => {
            "*".to_owned()
        }
        (Some(issuer), Some(subject)) => format!("{}/{}", value(issuer)?, value(subject)?),
        (None, Some(only)) | (Some(only), None) => value(only)?,
        (None, None) => return None,
    })
}
