//! The messages of Envoy's RBAC filters (`envoy.extensions.filters.{http,network}.rbac.v3`,
//! `envoy.config.rbac.v3`), as far as istiod uses them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::text::{HeaderMatcher, StringMatcher};

/// An RBAC filter of an HTTP connection manager or of a filter chain.
///
/// Its JSON is an element of `http_filters` or of `filters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    pub(super) name: String,
    pub(super) typed_config: Config,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "@type")]
pub(super) enum Config {
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC")]
    Http(HttpRbac),
    #[serde(rename = "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC")]
    Network(NetworkRbac),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpRbac {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rules: Option<Rbac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shadow_rules: Option<Rbac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shadow_rules_stat_prefix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkRbac {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rules: Option<Rbac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shadow_rules: Option<Rbac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shadow_rules_stat_prefix: Option<String>,
    pub(super) stat_prefix: String,
}

/// Present and without policies, it matches nothing, which is a denial of everything if its action
/// is to allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rbac {
    #[serde(default)]
    pub(super) action: Action,
    #[serde(default)]
    pub(super) policies: BTreeMap<String, Policy>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Action {
    // The enum's zero, which protobuf's JSON may leave out.
    #[default]
    Allow,
    Deny,
    Log,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) permissions: Vec<Permission>,
    pub(super) principals: Vec<Principal>,
}

impl Policy {
    /// What stands for a policy without rules.
    pub(super) fn never() -> Self {
        Self {
            permissions: vec![Permission::NotRule(Box::new(Permission::Any(true)))],
            principals: vec![Principal::NotId(Box::new(Principal::Any(true)))],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Permission {
    AndRules(PermissionSet),
    OrRules(PermissionSet),
    NotRule(Box<Self>),
    Any(bool),
    Header(HeaderMatcher),
    UrlPath(PathMatcher),
    UriTemplate(UriTemplate),
    DestinationIp(CidrRange),
    DestinationPort(u16),
    RequestedServerName(StringMatcher),
    Metadata(MetadataMatcher),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PermissionSet {
    pub(super) rules: Vec<Permission>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Principal {
    AndIds(PrincipalSet),
    OrIds(PrincipalSet),
    NotId(Box<Self>),
    Any(bool),
    Authenticated(Authenticated),
    FilterState(FilterState),
    DirectRemoteIp(CidrRange),
    RemoteIp(CidrRange),
    Header(HeaderMatcher),
    Metadata(MetadataMatcher),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalSet {
    pub(super) ids: Vec<Principal>,
}

/// A permission or a principal: what the two halves of a policy are made of in the same way.
pub(super) trait Term: Sized {
    fn any() -> Self;
    fn all_of(terms: Vec<Self>) -> Self;
    fn one_of(terms: Vec<Self>) -> Self;
    fn negated(self) -> Self;
}

impl Term for Permission {
    fn any() -> Self {
        Self::Any(true)
    }

    fn all_of(rules: Vec<Self>) -> Self {
        Self::AndRules(PermissionSet { rules })
    }

    fn one_of(rules: Vec<Self>) -> Self {
        Self::OrRules(PermissionSet { rules })
    }

    fn negated(self) -> Self {
        Self::NotRule(Box::new(self))
    }
}

impl Term for Principal {
    fn any() -> Self {
        Self::Any(true)
    }

    fn all_of(ids: Vec<Self>) -> Self {
        Self::AndIds(PrincipalSet { ids })
    }

    fn one_of(ids: Vec<Self>) -> Self {
        Self::OrIds(PrincipalSet { ids })
    }

    fn negated(self) -> Self {
        Self::NotId(Box::new(self))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authenticated {
    pub(super) principal_name: StringMatcher,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterState {
    pub(super) key: String,
    pub(super) string_match: StringMatcher,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathMatcher {
    pub(super) path: StringMatcher,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UriTemplate {
    pub(super) name: String,
    pub(super) typed_config: TemplateConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "@type", deny_unknown_fields)]
pub(super) enum TemplateConfig {
    #[serde(rename = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig")]
    Match { path_template: String },
}

impl UriTemplate {
    /// The template of a policy.
    pub(super) fn of(value: &str) -> Self {
        let path_template = value.replace("{**}", "**").replace("{*}", "*");
        Self {
            name: "uri-template".to_owned(),
            typed_config: TemplateConfig::Match { path_template },
        }
    }

    /// What a policy has for it.
    #[cfg(feature = "k8s")]
    pub(super) fn written(&self) -> String {
        let TemplateConfig::Match { path_template } = &self.typed_config;
        path_template
            .replace("**", "\0")
            .replace('*', "{*}")
            .replace('\0', "{**}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CidrRange {
    pub(super) address_prefix: String,
    pub(super) prefix_len: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetadataMatcher {
    pub(super) filter: String,
    pub(super) path: Vec<Segment>,
    pub(super) value: ValueMatcher,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ValueMatcher {
    #[serde(rename = "string_match")]
    Text(StringMatcher),
    #[serde(rename = "list_match")]
    List(ListMatcher),
    #[serde(rename = "or_match")]
    Or(OrMatcher),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListMatcher {
    pub(super) one_of: Box<ValueMatcher>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrMatcher {
    pub(super) value_matchers: Vec<ValueMatcher>,
}
