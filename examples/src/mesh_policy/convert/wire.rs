//! Messages to ztunnel in protobuf's JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_policy::{Budget, OverBudget, Resource};
use mesh_xds_types::security;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Messages in a text: one, or a list of them. What exceeds the budget of a file is not read.
pub(super) fn read(text: &str, budget: &Budget) -> Result<Vec<security::Authorization>, WireError> {
    budget.check(Resource::DocumentBytes, text.len())?;
    budget.check(Resource::DocumentNodes, nodes(text))?;
    let messages = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Authorization>>(text)?
    } else {
        vec![serde_json::from_str(text)?]
    };
    Ok(messages.into_iter().map(Into::into).collect())
}

/// As many values and names as a text can have: each but the first stands behind one of four
/// characters.
fn nodes(text: &str) -> usize {
    let (mut nodes, mut is_quoted, mut is_escaped) = (1, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b'{' | b'[' | b',' | b':' if !is_quoted => nodes += 1,
            _ => {}
        }
    }
    nodes
}

/// Why a text is none of messages.
#[derive(Debug, thiserror::Error)]
pub(in crate::mesh_policy) enum WireError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl WireError {
    /// The line, which is the first for the whole text.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::Json(error) => error.line(),
            Self::OverBudget(_) => 1,
        }
    }
}

/// A list of messages.
pub(super) fn write(messages: impl Iterator<Item = security::Authorization>) -> Result<Value, serde_json::Error> {
    serde_json::to_value(messages.map(Authorization::from).collect::<Vec<_>>())
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Authorization {
    name: String,
    namespace: String,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    action: Action,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rule>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Scope {
    #[default]
    Global,
    Namespace,
    WorkloadSelector,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Action {
    #[default]
    Allow,
    Deny,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    clauses: Vec<Clause>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    matches: Vec<Match>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Match {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    namespaces: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_namespaces: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    principals: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_principals: Vec<Text>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_source_ips: Vec<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    destination_ips: Vec<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_destination_ips: Vec<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    destination_ports: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_destination_ports: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    service_accounts: Vec<Account>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_service_accounts: Vec<Account>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Text {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Presence(Nothing),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    address: Bytes,
    #[serde(default)]
    length: u32,
}

/// Bytes, which are base64 in protobuf's JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes(Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Account {
    namespace: String,
    service_account: String,
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(Bytes(bytes): Bytes) -> Self {
        STANDARD.encode(bytes)
    }
}

// Whatever is not taken out of a message by name fails to compile: a new field must have its place.

impl From<security::Authorization> for Authorization {
    fn from(message: security::Authorization) -> Self {
        let (scope, action) = (message.scope(), message.action());
        let security::Authorization {
            name,
            namespace,
            scope: _,
            action: _,
            rules,
            dry_run,
            // What is written here has none.
            extensions: _,
        } = message;
        Self {
            name,
            namespace,
            scope: match scope {
                security::Scope::Global => Scope::Global,
                security::Scope::Namespace => Scope::Namespace,
                security::Scope::WorkloadSelector => Scope::WorkloadSelector,
            },
            action: match action {
                security::Action::Allow => Action::Allow,
                security::Action::Deny => Action::Deny,
            },
            rules: all(rules, |security::Rule { clauses }| Rule {
                clauses: all(clauses, |security::Clause { matches }| Clause {
                    matches: all(matches, Match::from),
                }),
            }),
            dry_run,
        }
    }
}

impl From<Authorization> for security::Authorization {
    fn from(message: Authorization) -> Self {
        Self {
            name: message.name,
            namespace: message.namespace,
            scope: match message.scope {
                Scope::Global => security::Scope::Global,
                Scope::Namespace => security::Scope::Namespace,
                Scope::WorkloadSelector => security::Scope::WorkloadSelector,
            }
            .into(),
            action: match message.action {
                Action::Allow => security::Action::Allow,
                Action::Deny => security::Action::Deny,
            }
            .into(),
            rules: all(message.rules, |Rule { clauses }| security::Rule {
                clauses: all(clauses, |Clause { matches }| security::Clause {
                    matches: all(matches, security::Match::from),
                }),
            }),
            dry_run: message.dry_run,
            extensions: Vec::new(),
        }
    }
}

impl From<security::Match> for Match {
    fn from(found: security::Match) -> Self {
        Self {
            namespaces: texts(found.namespaces),
            not_namespaces: texts(found.not_namespaces),
            principals: texts(found.principals),
            not_principals: texts(found.not_principals),
            source_ips: all(found.source_ips, Address::from),
            not_source_ips: all(found.not_source_ips, Address::from),
            destination_ips: all(found.destination_ips, Address::from),
            not_destination_ips: all(found.not_destination_ips, Address::from),
            destination_ports: found.destination_ports,
            not_destination_ports: found.not_destination_ports,
            service_accounts: all(found.service_accounts, Account::from),
            not_service_accounts: all(found.not_service_accounts, Account::from),
        }
    }
}

impl From<Match> for security::Match {
    fn from(found: Match) -> Self {
        Self {
            namespaces: all(found.namespaces, Into::into),
            not_namespaces: all(found.not_namespaces, Into::into),
            principals: all(found.principals, Into::into),
            not_principals: all(found.not_principals, Into::into),
            source_ips: all(found.source_ips, Into::into),
            not_source_ips: all(found.not_source_ips, Into::into),
            destination_ips: all(found.destination_ips, Into::into),
            not_destination_ips: all(found.not_destination_ips, Into::into),
            destination_ports: found.destination_ports,
            not_destination_ports: found.not_destination_ports,
            service_accounts: all(found.service_accounts, Into::into),
            not_service_accounts: all(found.not_service_accounts, Into::into),
            extensions: Vec::new(),
        }
    }
}

/// What is written here always asks for something.
fn texts(texts: Vec<security::StringMatch>) -> Vec<Text> {
    use security::string_match::MatchType;
    let types = texts.into_iter().filter_map(|text| text.match_type);
    types
        .map(|kind| match kind {
            MatchType::Exact(text) => Text::Exact(text),
            MatchType::Prefix(text) => Text::Prefix(text),
            MatchType::Suffix(text) => Text::Suffix(text),
            MatchType::Presence(()) => Text::Presence(Nothing {}),
        })
        .collect()
}

impl From<Text> for security::StringMatch {
    fn from(text: Text) -> Self {
        use security::string_match::MatchType;
        let match_type = match text {
            Text::Exact(text) => MatchType::Exact(text),
            Text::Prefix(text) => MatchType::Prefix(text),
            Text::Suffix(text) => MatchType::Suffix(text),
            Text::Presence(Nothing {}) => MatchType::Presence(()),
        };
        Self {
            match_type: Some(match_type),
        }
    }
}

impl From<security::Address> for Address {
    fn from(security::Address { address, length }: security::Address) -> Self {
        Self {
            address: Bytes(address),
            length,
        }
    }
}

impl From<Address> for security::Address {
    fn from(Address { address, length }: Address) -> Self {
        Self {
            address: address.0,
            length,
        }
    }
}

impl From<security::ServiceAccountMatch> for Account {
    fn from(account: security::ServiceAccountMatch) -> Self {
        let security::ServiceAccountMatch {
            namespace,
            service_account,
        } = account;
        Self {
            namespace,
            service_account,
        }
    }
}

impl From<Account> for security::ServiceAccountMatch {
    fn from(account: Account) -> Self {
        Self {
            namespace: account.namespace,
            service_account: account.service_account,
        }
    }
}

fn all<A, B>(items: Vec<A>, convert: impl Fn(A) -> B) -> Vec<B> {
    items.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_budget_of_a_file_is_not_read() {
        let text = r#"[{"name": "a, {b\": [", "namespace": "n"}]"#;
        assert_eq!(nodes(text), 6);
        let within = |resource, limit| read(text, &Budget::new().with_limit(resource, limit));
        assert_eq!(within(Resource::DocumentNodes, 6).unwrap().len(), 1);
        let error = within(Resource::DocumentNodes, 5).unwrap_err();
        assert_eq!(error.to_string(), "6 values and names in a file are more than 5");
        assert!(within(Resource::DocumentBytes, text.len()).is_ok());
        let error = within(Resource::DocumentBytes, 10).unwrap_err();
        assert!(matches!(error, WireError::OverBudget(_)) && error.line() == 1);
    }
}
