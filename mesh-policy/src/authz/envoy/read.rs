use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    config::Action as Written,
    fault::{Problem, ReadError, ReadFault, of_file},
    half::{Half, operations, sources},
    message::{expect_type, message, placed, required},
};
use crate::{
    authz::model::{Action, AuthorizationPolicy, PolicyName, Rule},
    budget::Budget,
    manifest::{
        node::{Documents, Kind, Node},
        object::Object,
    },
};

/// The two filters, by name and type.
const HTTP: (&str, &str) = (
    "envoy.filters.http.rbac",
    "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
);
const NETWORK: (&str, &str) = (
    "envoy.filters.network.rbac",
    "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
);

/// What stands for policies that allow and have lost all of their rules: their names are lost, too.
const ALLOW_NOTHING: [&str; 2] = ["allow-nothing", "allow-nothing-dry-run"];

/// Reads RBAC filters from a file of YAML or JSON, as istiod and [`export`](super::export) write
/// them: one filter, or a list of them, in each document. Fields may have the names of the `.proto`
/// files or of protobuf's JSON. `file` is its name, for messages.
///
/// The policies decide as the filters do for a mesh of the trust domains that the filters were
/// written for. They name no workloads, since filters are those of one; rules that were left out
/// are not there, so that later ones have other numbers. What allows without any rule left is
/// `default/allow-nothing`, or, if it is only tried out, `default/allow-nothing-dry-run`.
///
/// ```
/// use mesh_policy::{Budget, authz::envoy};
///
/// let file = r#"
/// name: envoy.filters.http.rbac
/// typedConfig:
///   "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
///   rules:
///     action: DENY
///     policies:
///       ns[shop]-policy[cart]-rule[0]:
///         permissions:
///         - andRules: {rules: [{notRule: {orRules: {rules: [{destinationPort: 80}]}}}]}
///         principals:
///         - andIds: {ids: [{any: true}]}
/// "#;
/// let policies = envoy::read("filters.yaml", file, &Budget::new())?;
/// let constraint = &policies[0].rules()[0].operations()[0].fields()[0];
/// assert_eq!(constraint.none_of()[0].text(), "80");
///
/// let more = file.replace("destinationPort: 80", "destinationPortRange: {start: 80}");
/// let error = envoy::read("filters.yaml", &more, &Budget::new()).unwrap_err();
/// assert!(error.to_string().starts_with("filters.yaml:10: no policy becomes a `destination_port_range`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The first thing that istiod does not make of a policy, and whatever no policy asks for: left
/// out, it would make a rule match more, or less.
pub fn read(file: &str, text: &str, budget: &Budget) -> Result<Vec<AuthorizationPolicy>, ReadError> {
    let file: Arc<str> = file.into();
    let place = |(line, fault): Problem| ReadError {
        file: Arc::clone(&file),
        line,
        fault,
    };
    let mut found = Found::default();
    for document in Documents::new(text, budget) {
        let document = document.map_err(of_file).map_err(place)?;
        read_document(&mut found, document).map_err(place)?;
    }
    Ok(found.policies(&file))
}

fn read_document(found: &mut Found, document: Node) -> Result<(), Problem> {
    match document.kind {
        Kind::Null => Ok(()),
        Kind::List(filters) => placed("", filters)
            .into_iter()
            .try_for_each(|(path, node)| read_filter(found, &path, node)),
        Kind::Map(_) | Kind::Text(_) => read_filter(found, "", document),
    }
}

fn read_filter(found: &mut Found, path: &str, node: Node) -> Result<(), Problem> {
    let mut filter = message(path, node)?;
    let (line, field) = (filter.line_of("name"), filter.path("name"));
    let name = filter.required_text("name").map_err(of_file)?;
    let Some((_, expected)) = [HTTP, NETWORK].into_iter().find(|(known, _)| *known == name) else {
        let (field, kind) = (field.into(), name.into());
        return Err((line, ReadFault::Kind { field, kind }));
    };
    let config = required(&mut filter, "typed_config")?;
    let config_path = filter.path("typed_config");
    filter.finish().map_err(of_file)?;
    let mut config = message(&config_path, config)?;
    expect_type(&mut config, &[expected])?;
    let (prefix_line, prefix_path) = (
        config.line_of("shadow_rules_stat_prefix"),
        config.path("shadow_rules_stat_prefix"),
    );
    let prefix = config.text("shadow_rules_stat_prefix").map_err(of_file)?;
    if expected == NETWORK.1 {
        config.required_text("stat_prefix").map_err(of_file)?;
    }
    for (name, is_shadow) in [("rules", false), ("shadow_rules", true)] {
        let path = config.path(name);
        let Some(node) = config.take(name) else { continue };
        let action = read_rbac(found, &path, node, is_shadow)?;
        // Where Envoy leaves the verdict of what is tried out is known from the prefix alone.
        let expected = match action {
            _ if !is_shadow => continue,
            Class::Custom => Some("istio_ext_authz_"),
            Class::Of(Written::Allow) => Some("istio_dry_run_allow_"),
            Class::Of(Written::Deny) => Some("istio_dry_run_deny_"),
            Class::Of(Written::Log) => None,
        };
        if expected.is_some() && prefix.as_deref() != expected {
            let field = prefix_path.as_str().into();
            return Err((prefix_line, ReadFault::Value { field }));
        }
    }
    config.finish().map_err(of_file)
}

/// What kind of policies rules are of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Of(Written),
    /// What finds out whether a provider is to be asked.
    Custom,
}

fn read_rbac(found: &mut Found, path: &str, node: Node, is_shadow: bool) -> Result<Class, Problem> {
    let mut rbac = message(path, node)?;
    let (line, field) = (rbac.line_of("action"), rbac.path("action").into());
    let written = match rbac.text("action").map_err(of_file)?.as_deref() {
        None | Some("ALLOW") => Written::Allow,
        Some("DENY") => Written::Deny,
        Some("LOG") => Written::Log,
        Some(_) => return Err((line, ReadFault::Value { field })),
    };
    let line = rbac.line;
    if written == Written::Allow && !found.allows.insert(is_shadow) {
        return Err((line, ReadFault::SecondAllow { field: path.into() }));
    }
    let policies_path = rbac.path("policies");
    let policies = match rbac.take("policies") {
        None => Vec::new(),
        // The names of rules are no fields.
        Some(node) => Object::new(&policies_path, node)
            .map_err(of_file)?
            .into_fields()
            .collect(),
    };
    rbac.finish().map_err(of_file)?;
    if policies.is_empty() && written == Written::Allow {
        let [enforced, tried] = ALLOW_NOTHING;
        let name = PolicyName::new("default", if is_shadow { tried } else { enforced });
        found.policy(line, name, &Action::Allow, is_shadow)?;
    }
    let mut class = Class::Of(written);
    for (path, name, node) in policies {
        let line = node.line;
        let Some(read) = RuleKey::parse(&name, written, is_shadow) else {
            return Err((line, ReadFault::Name { name: name.into() }));
        };
        let RuleKey { policy, action, index } = read;
        let is_custom = matches!(action, Action::Custom { .. });
        if is_custom {
            class = Class::Custom;
        } else if class == Class::Custom {
            return Err((line, ReadFault::Name { name: name.into() }));
        }
        let rule = read_policy(&path, node)?;
        let tried = is_shadow && !is_custom;
        let policy = found.policy(line, policy, &action, tried)?;
        policy.rules.extend(rule.map(|rule| (index, rule)));
    }
    Ok(class)
}

/// The rule that a policy of Envoy stands for; none for what stands for no rules.
fn read_policy(path: &str, node: Node) -> Result<Option<Rule>, Problem> {
    let line = node.line;
    let mut policy = message(path, node)?;
    let (to, from) = (policy.path("permissions"), policy.path("principals"));
    let permissions = policy.filled_list("permissions").map_err(of_file)?;
    let principals = policy.filled_list("principals").map_err(of_file)?;
    policy.finish().map_err(of_file)?;
    match (operations(&to, permissions)?, sources(&from, principals)?) {
        (Half::Never, Half::Never) => Ok(None),
        (
            Half::Asks {
                entries: operations,
                conditions,
            },
            Half::Asks {
                entries: sources,
                conditions: more,
            },
        ) => {
            let rule = sources.into_iter().fold(Rule::new(), Rule::from);
            let rule = operations.into_iter().fold(rule, Rule::to);
            Ok(Some(conditions.into_iter().chain(more).fold(rule, Rule::when)))
        }
        (Half::Never, Half::Asks { .. }) | (Half::Asks { .. }, Half::Never) => {
            let field = path.into();
            Err((line, ReadFault::Combination { field }))
        }
    }
}

/// What the name of a rule says.
struct RuleKey {
    policy: PolicyName,
    action: Action,
    index: usize,
}

impl RuleKey {
    fn parse(name: &str, written: Written, is_shadow: bool) -> Option<Self> {
        let (action, rest) = match name.strip_prefix("istio-ext-authz-") {
            Some(rest) if is_shadow && written == Written::Deny => {
                let provider_end = rest.find("-ns[")?;
                let (provider, rest) = rest.split_at(provider_end);
                let provider = provider.into();
                (Action::Custom { provider }, rest.strip_prefix('-')?)
            }
            Some(_) => return None,
            None => {
                let action = match written {
                    Written::Allow => Action::Allow,
                    Written::Deny => Action::Deny,
                    Written::Log => Action::Audit,
                };
                (action, name)
            }
        };
        let (namespace, rest) = rest.strip_prefix("ns[")?.split_once("]-policy[")?;
        let (name, index) = rest.strip_suffix(']')?.rsplit_once("]-rule[")?;
        Some(Self {
            policy: PolicyName::new(namespace, name),
            action,
            index: index.parse().ok()?,
        })
    }
}

/// The policies that rules have been found of.
#[derive(Default)]
struct Found {
    policies: BTreeMap<PolicyName, FoundPolicy>,
    /// Whether rules that admit have been found: those that are tried out, and the others.
    allows: BTreeSet<bool>,
}

struct FoundPolicy {
    line: u32,
    action: Action,
    dry_run: bool,
    rules: Vec<(usize, Rule)>,
}

impl Found {
    fn policy(
        &mut self,
        line: u32,
        name: PolicyName,
        action: &Action,
        dry_run: bool,
    ) -> Result<&mut FoundPolicy, Problem> {
        let conflict = ReadFault::Conflict {
            policy: name.to_string().into(),
        };
        let policy = self.policies.entry(name).or_insert_with(|| FoundPolicy {
            line,
            action: action.clone(),
            dry_run,
            rules: Vec::new(),
        });
        if policy.action != *action || policy.dry_run != dry_run {
            return Err((line, conflict));
        }
        Ok(policy)
    }

    fn policies(self, file: &Arc<str>) -> Vec<AuthorizationPolicy> {
        let policies = self.policies.into_iter().map(|(name, mut found)| {
            found.rules.sort_by_key(|(index, _)| *index);
            let policy = AuthorizationPolicy::new(name, found.action).dry_run(found.dry_run);
            let policy = policy.read_from(file, found.line);
            found
                .rules
                .into_iter()
                .fold(policy, |policy, (_, rule)| policy.rule(rule))
        });
        policies.collect()
    }
}
