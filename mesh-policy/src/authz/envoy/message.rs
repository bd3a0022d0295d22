//! Messages of Envoy in a file, as far as istiod writes them, with the lines that they stand in.

use super::{
    config::{
        Authenticated, CidrRange, FilterState, ListMatcher, MetadataMatcher, OrMatcher, PathMatcher, Permission,
        Principal, PrincipalSet, Segment, TemplateConfig, UriTemplate, ValueMatcher,
    },
    fault::{Problem, ReadFault, of_file},
    text::{HeaderMatcher, StringMatcher, StringPattern},
};
use crate::manifest::{
    fault::ReadFault as FileFault,
    node::{Kind, Node},
    object::{Object, text as text_of},
};

/// The type of a template's configuration.
const TEMPLATE: &str = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

/// A message. Fields are named as in the `.proto` files, or as JSON names them.
pub(super) fn message(path: &str, node: Node) -> Result<Object, Problem> {
    Object::new(path, snake_case(node)).map_err(of_file)
}

/// Something in a file with one field: which it is, the path to it, and what it has.
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) node: Node,
}

/// A message of which one field is set.
pub(super) fn choice(path: &str, node: Node) -> Result<Choice, Problem> {
    let line = node.line;
    let mut fields = message(path, node)?.into_fields();
    let (Some((path, name, node)), None) = (fields.next(), fields.next()) else {
        let field = path.into();
        return Err((line, ReadFault::NotOne { field }));
    };
    Ok(Choice { name, path, node })
}

impl Choice {
    pub(super) fn unknown(self) -> Problem {
        let (field, kind) = (self.path.into(), self.name.into());
        (self.node.line, ReadFault::Kind { field, kind })
    }
}

/// The field of a message that has to be there.
pub(super) fn required(object: &mut Object, name: &str) -> Result<Node, Problem> {
    let (line, field) = (object.line, object.path(name).into());
    let missing = FileFault::Missing { field };
    object.take(name).ok_or_else(|| of_file((line, missing)))
}

/// The list that is the only field of a message.
pub(super) fn only_list(path: &str, node: Node, name: &str) -> Result<Vec<(String, Node)>, Problem> {
    let mut object = message(path, node)?;
    let path = object.path(name);
    let items = object.filled_list(name).map_err(of_file)?;
    object.finish().map_err(of_file)?;
    Ok(placed(&path, items))
}

/// The entries of a list with their paths.
pub(super) fn placed(path: &str, items: Vec<Node>) -> Vec<(String, Node)> {
    let items = items.into_iter().enumerate();
    items.map(|(at, node)| (format!("{path}[{at}]"), node)).collect()
}

/// What a permission asks for, if it is no combination of others.
pub(super) fn permission(choice: Choice) -> Result<Permission, Problem> {
    let Choice { name, path, node } = choice;
    Ok(match name.as_str() {
        "header" => Permission::Header(header(&path, node)?),
        "url_path" => Permission::UrlPath(path_matcher(&path, node)?),
        "uri_template" => Permission::UriTemplate(template(&path, node)?),
        "destination_ip" => Permission::DestinationIp(block(&path, node)?),
        "destination_port" => Permission::DestinationPort(number(&path, node)?),
        "requested_server_name" => Permission::RequestedServerName(string(&path, node)?),
        "metadata" => Permission::Metadata(metadata(&path, node)?),
        _ => return Err(Choice { name, path, node }.unknown()),
    })
}

/// What a principal asks for, if it is no combination of others. Issuer and subject of a token are
/// one thing.
pub(super) fn principal(choice: Choice) -> Result<Principal, Problem> {
    let Choice { name, path, node } = choice;
    Ok(match name.as_str() {
        "authenticated" => {
            let mut object = message(&path, node)?;
            let name = required(&mut object, "principal_name")?;
            let principal_name = string(&object.path("principal_name"), name)?;
            object.finish().map_err(of_file)?;
            Principal::Authenticated(Authenticated { principal_name })
        }
        "filter_state" => {
            let mut object = message(&path, node)?;
            let key = object.required_text("key").map_err(of_file)?;
            let found = required(&mut object, "string_match")?;
            let string_match = string(&object.path("string_match"), found)?;
            object.finish().map_err(of_file)?;
            Principal::FilterState(FilterState { key, string_match })
        }
        "direct_remote_ip" => Principal::DirectRemoteIp(block(&path, node)?),
        "remote_ip" => Principal::RemoteIp(block(&path, node)?),
        "header" => Principal::Header(header(&path, node)?),
        "metadata" => Principal::Metadata(metadata(&path, node)?),
        "and_ids" => {
            let ids = only_list(&path, node, "ids")?.into_iter();
            let ids = ids.map(|(path, node)| match choice_of_metadata(&path, node)? {
                Ok(found) => Ok(Principal::Metadata(found)),
                Err(other) => Err(other.unknown()),
            });
            Principal::AndIds(PrincipalSet {
                ids: ids.collect::<Result<_, Problem>>()?,
            })
        }
        _ => return Err(Choice { name, path, node }.unknown()),
    })
}

fn choice_of_metadata(path: &str, node: Node) -> Result<Result<MetadataMatcher, Choice>, Problem> {
    let Choice { name, path, node } = choice(path, node)?;
    Ok(match name.as_str() {
        "metadata" => Ok(metadata(&path, node)?),
        _ => Err(Choice { name, path, node }),
    })
}

fn header(path: &str, node: Node) -> Result<HeaderMatcher, Problem> {
    let mut object = message(path, node)?;
    let name = object.required_text("name").map_err(of_file)?;
    let is_presence = object.flag("present_match").map_err(of_file)?;
    let (line, place) = (object.line, object.path("string_match"));
    let value = object
        .take("string_match")
        .map(|node| string(&place, node))
        .transpose()?;
    object.finish().map_err(of_file)?;
    if is_presence == value.is_some() {
        let field = path.into();
        return Err((line, ReadFault::NotOne { field }));
    }
    Ok(HeaderMatcher { name, value })
}

fn path_matcher(path: &str, node: Node) -> Result<PathMatcher, Problem> {
    let Choice { name, path, node } = choice(path, node)?;
    match name.as_str() {
        "path" => Ok(PathMatcher {
            path: string(&path, node)?,
        }),
        _ => Err(Choice { name, path, node }.unknown()),
    }
}

fn template(path: &str, node: Node) -> Result<UriTemplate, Problem> {
    let mut object = message(path, node)?;
    let name = object.required_text("name").map_err(of_file)?;
    let config = required(&mut object, "typed_config")?;
    let mut config = message(&object.path("typed_config"), config)?;
    object.finish().map_err(of_file)?;
    expect_type(&mut config, &[TEMPLATE])?;
    let path_template = config.required_text("path_template").map_err(of_file)?;
    config.finish().map_err(of_file)?;
    Ok(UriTemplate {
        name,
        typed_config: TemplateConfig::Match { path_template },
    })
}

/// Which of some types a message has.
pub(super) fn expect_type(object: &mut Object, types: &[&'static str]) -> Result<&'static str, Problem> {
    let (line, field) = (object.line_of("@type"), object.path("@type").into());
    let kind = object.required_text("@type").map_err(of_file)?;
    let known = types.iter().find(|known| **known == kind);
    let kind = kind.into();
    known.copied().ok_or((line, ReadFault::Kind { field, kind }))
}

fn block(path: &str, node: Node) -> Result<CidrRange, Problem> {
    let mut object = message(path, node)?;
    let address_prefix = object.required_text("address_prefix").map_err(of_file)?;
    let bits = required(&mut object, "prefix_len")?;
    let prefix_len = number(&object.path("prefix_len"), bits)?;
    object.finish().map_err(of_file)?;
    Ok(CidrRange {
        address_prefix,
        prefix_len,
    })
}

fn number<N: std::str::FromStr>(path: &str, node: Node) -> Result<N, Problem> {
    let (line, text) = text_of(path, node).map_err(of_file)?;
    text.parse().map_err(|_| {
        let field = path.into();
        (line, ReadFault::Value { field })
    })
}

fn metadata(path: &str, node: Node) -> Result<MetadataMatcher, Problem> {
    let mut object = message(path, node)?;
    let filter = object.required_text("filter").map_err(of_file)?;
    let place = object.path("path");
    let segments = object.filled_list("path").map_err(of_file)?;
    let mut path = Vec::with_capacity(segments.len());
    for (place, node) in placed(&place, segments) {
        let mut segment = message(&place, node)?;
        let key = segment.required_text("key").map_err(of_file)?;
        segment.finish().map_err(of_file)?;
        path.push(Segment { key });
    }
    let found = required(&mut object, "value")?;
    let value = value(&object.path("value"), found)?;
    object.finish().map_err(of_file)?;
    Ok(MetadataMatcher { filter, path, value })
}

/// Nested no deeper than the file, whose depth has a budget.
fn value(path: &str, node: Node) -> Result<ValueMatcher, Problem> {
    let Choice { name, path, node } = choice(path, node)?;
    Ok(match name.as_str() {
        "string_match" => ValueMatcher::Text(string(&path, node)?),
        "list_match" => {
            let Choice { name, path, node } = choice(&path, node)?;
            if name != "one_of" {
                return Err(Choice { name, path, node }.unknown());
            }
            let one_of = Box::new(value(&path, node)?);
            ValueMatcher::List(ListMatcher { one_of })
        }
        "or_match" => {
            let values = only_list(&path, node, "value_matchers")?.into_iter();
            let value_matchers = values
                .map(|(path, node)| value(&path, node))
                .collect::<Result<_, _>>()?;
            ValueMatcher::Or(OrMatcher { value_matchers })
        }
        _ => return Err(Choice { name, path, node }.unknown()),
    })
}

fn string(path: &str, node: Node) -> Result<StringMatcher, Problem> {
    let mut object = message(path, node)?;
    let ignore_case = object.flag("ignore_case").map_err(of_file)?;
    let line = object.line;
    let mut fields = object.into_fields();
    let (Some((place, name, node)), None) = (fields.next(), fields.next()) else {
        let field = path.into();
        return Err((line, ReadFault::NotOne { field }));
    };
    let text = |node| text_of(&place, node).map_err(of_file);
    let pattern = match name.as_str() {
        "exact" => StringPattern::Exact(text(node)?.1),
        "prefix" => StringPattern::Prefix(text(node)?.1),
        "suffix" => StringPattern::Suffix(text(node)?.1),
        "safe_regex" => {
            let mut regex = message(&place, node)?;
            let text = regex.required_text("regex").map_err(of_file)?;
            regex.finish().map_err(of_file)?;
            StringPattern::Regex(text)
        }
        _ => {
            return Err(Choice {
                name,
                path: place,
                node,
            }
            .unknown());
        }
    };
    Ok(StringMatcher { pattern, ignore_case })
}

/// The fields of a mapping as the `.proto` files name them: `orRules` is `or_rules`.
fn snake_case(mut node: Node) -> Node {
    if let Kind::Map(fields) = &mut node.kind {
        for (name, _) in fields {
            if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                let mut snake = String::with_capacity(name.len() + 4);
                for letter in name.chars() {
                    if letter.is_ascii_uppercase() {
                        snake.push('_');
                    }
                    snake.push(letter.to_ascii_lowercase());
                }
                *name = snake;
            }
        }
    }
    node
}
