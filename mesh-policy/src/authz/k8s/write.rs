use std::collections::BTreeMap;

use serde::Serialize;

use crate::authz::{
    model::{Action, AuthorizationPolicy, Condition, Constraint, Rule, Value, field_names},
    target::{Labels, Target, TargetRef},
};

/// An AuthorizationPolicy as Kubernetes has it, for any of serde's formats.
///
/// Made by [`write()`].
#[derive(Clone, Debug, Serialize)]
pub struct Manifest<'p> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'p>,
    spec: Spec<'p>,
}

#[derive(Clone, Debug, Serialize)]
struct Metadata<'p> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, &'static str>,
    name: &'p str,
    namespace: &'p str,
}

#[derive(Clone, Debug, Serialize)]
struct Spec<'p> {
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<Provider<'p>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector<'p>>,
    #[serde(rename = "targetRefs", skip_serializing_if = "Vec::is_empty")]
    target_refs: Vec<Reference<'p>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<WrittenRule<'p>>,
}

#[derive(Clone, Debug, Serialize)]
struct Provider<'p> {
    name: &'p str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Selector<'p> {
    match_labels: &'p Labels,
}

#[derive(Clone, Debug, Serialize)]
struct Reference<'p> {
    group: &'p str,
    kind: &'p str,
    name: &'p str,
}

#[derive(Clone, Debug, Serialize)]
struct WrittenRule<'p> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    from: Vec<From<'p>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to: Vec<To<'p>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    when: Vec<When<'p>>,
}

/// An entry's fields by their names.
type Fields<'p> = BTreeMap<&'static str, Vec<&'p str>>;

#[derive(Clone, Debug, Serialize)]
struct From<'p> {
    source: Fields<'p>,
}

#[derive(Clone, Debug, Serialize)]
struct To<'p> {
    operation: Fields<'p>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct When<'p> {
    key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<&'p str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_values: Vec<&'p str>,
}

/// A policy as Kubernetes has it: what [`read`](super::read) reads from it is the policy, without
/// its file and lines.
///
/// ```
/// use mesh_policy::authz::{AuthorizationPolicy, k8s, model::Rule};
///
/// let policy = AuthorizationPolicy::deny("shop", "closed").rule(Rule::new());
/// let json = serde_json::to_value(k8s::write(&policy))?;
/// assert_eq!(json["spec"], serde_json::json!({"action": "DENY", "rules": [{}]}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write(policy: &AuthorizationPolicy) -> Manifest<'_> {
    let dry_run = policy.is_dry_run().then_some(("istio.io/dry-run", "true"));
    Manifest {
        api_version: "security.istio.io/v1",
        kind: "AuthorizationPolicy",
        metadata: Metadata {
            annotations: dry_run.into_iter().collect(),
            name: &policy.name().name,
            namespace: &policy.name().namespace,
        },
        spec: Spec {
            action: policy.action().to_string(),
            provider: match policy.action() {
                Action::Custom { provider } => Some(Provider { name: provider }),
                Action::Allow | Action::Deny | Action::Audit => None,
            },
            selector: match policy.target() {
                Target::Selector(match_labels) => Some(Selector { match_labels }),
                Target::Namespace | Target::Refs(_) => None,
            },
            target_refs: match policy.target() {
                Target::Refs(refs) => refs.iter().map(reference).collect(),
                Target::Namespace | Target::Selector(_) => Vec::new(),
            },
            rules: policy.rules().iter().map(rule).collect(),
        },
    }
}

fn reference(TargetRef { group, kind, name }: &TargetRef) -> Reference<'_> {
    Reference { group, kind, name }
}

fn rule(rule: &Rule) -> WrittenRule<'_> {
    let sources = rule.sources().iter().map(|source| From {
        source: fields(source.fields()),
    });
    let operations = rule.operations().iter().map(|operation| To {
        operation: fields(operation.fields()),
    });
    WrittenRule {
        from: sources.collect(),
        to: operations.collect(),
        when: rule.conditions().iter().map(condition).collect(),
    }
}

fn fields(constraints: &[Constraint]) -> Fields<'_> {
    let mut fields = Fields::new();
    for constraint in constraints {
        let Some((plain, negated)) = field_names(constraint.attribute()) else {
            continue;
        };
        for (name, values) in [(plain, constraint.any_of()), (negated, constraint.none_of())] {
            if !values.is_empty() {
                fields.insert(name, texts(values));
            }
        }
    }
    fields
}

fn condition(condition: &Condition) -> When<'_> {
    let constraint = condition.constraint();
    When {
        key: constraint.attribute().to_string(),
        values: texts(constraint.any_of()),
        not_values: texts(constraint.none_of()),
    }
}

fn texts(values: &[Value]) -> Vec<&str> {
    values.iter().map(Value::text).collect()
}
