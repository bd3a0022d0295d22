use super::{
    DEFAULT_NAMESPACE, ReadFault,
    node::{Kind, Node},
    object::{Object, Problem, text},
};
use crate::authz::{
    model::{
        Action, AuthorizationPolicy, Condition, ConditionKey, Operation, OperationField, PolicyName, Rule, Source,
        SourceField, Value, field_names,
    },
    target::{Labels, Target, TargetRef},
};

const DRY_RUN: &str = "istio.io/dry-run";

/// What all objects of the API have beside their spec.
pub(super) struct Metadata {
    pub(super) name: PolicyName,
    annotations: Vec<(String, String)>,
    line: u32,
}

/// Reads the metadata, and passes over what Kubernetes adds to an object.
pub(super) fn metadata(object: &mut Object) -> Result<Metadata, Problem> {
    object.take("status");
    let line = object.line;
    let mut metadata = object.object("metadata")?.ok_or_else(|| {
        let field = "metadata".into();
        (line, ReadFault::Missing { field })
    })?;
    let name = metadata.required_text("name")?;
    let namespace = metadata.text("namespace")?;
    let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let line = metadata.line_of("annotations");
    let annotations = metadata.object("annotations")?.map(Object::into_texts).transpose()?;
    Ok(Metadata {
        name: PolicyName::new(namespace, &name),
        annotations: annotations.unwrap_or_default(),
        line,
    })
}

pub(super) fn read(mut object: Object) -> Result<AuthorizationPolicy, Problem> {
    let metadata = metadata(&mut object)?;
    let dry_run = dry_run(&metadata)?;
    let Some(mut spec) = object.object("spec")? else {
        object.finish()?;
        return Ok(AuthorizationPolicy::new(metadata.name, Action::Allow).dry_run(dry_run));
    };
    object.finish()?;
    let action = action(&mut spec)?;
    let mut policy = AuthorizationPolicy::new(metadata.name, action).dry_run(dry_run);
    policy = match target(&mut spec)? {
        Target::Namespace => policy,
        Target::Selector(labels) => policy.selector(labels),
        Target::Refs(refs) => policy.target_refs(refs),
    };
    for (at, node) in spec.list("rules")?.into_iter().enumerate() {
        policy = policy.rule(rule(&spec.path(&format!("rules[{at}]")), node)?);
    }
    spec.finish()?;
    Ok(policy)
}

/// As Go reads a truth value.
fn dry_run(metadata: &Metadata) -> Result<bool, Problem> {
    let Some((_, value)) = metadata.annotations.iter().find(|(name, _)| name == DRY_RUN) else {
        return Ok(false);
    };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err((
            metadata.line,
            ReadFault::Value {
                field: format!("metadata.annotations.{DRY_RUN}").into(),
                value: value.as_str().into(),
            },
        )),
    }
}

fn action(spec: &mut Object) -> Result<Action, Problem> {
    let line = spec.line_of("action");
    let action = spec.text("action")?;
    let provider_line = spec.line_of("provider");
    let provider = match spec.object("provider")? {
        None => None,
        Some(mut provider) => {
            let name = provider.text("name")?.unwrap_or_default();
            provider.finish()?;
            Some(name)
        }
    };
    match (action.as_deref().unwrap_or("ALLOW"), provider) {
        ("CUSTOM", provider) => Ok(Action::Custom {
            provider: provider.unwrap_or_default().into(),
        }),
        (_, Some(_)) => Err((
            provider_line,
            ReadFault::UnknownField {
                field: "spec.provider".into(),
            },
        )),
        ("ALLOW", None) => Ok(Action::Allow),
        ("DENY", None) => Ok(Action::Deny),
        ("AUDIT", None) => Ok(Action::Audit),
        (other, None) => Err((
            line,
            ReadFault::Value {
                field: "spec.action".into(),
                value: other.into(),
            },
        )),
    }
}

/// `selector`, `targetRef` or `targetRefs`.
pub(super) fn target(spec: &mut Object) -> Result<Target, Problem> {
    let line = spec.line;
    let selector = selector(spec)?;
    let singular = spec.take("targetRef");
    let plural = spec.list("targetRefs")?;
    let given = [selector.is_some(), singular.is_some(), !plural.is_empty()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err((line, ReadFault::Targets));
    }
    if let Some(labels) = selector {
        return Ok(Target::Selector(labels));
    }
    let refs: Vec<_> = singular.into_iter().chain(plural).collect();
    if refs.is_empty() {
        return Ok(Target::Namespace);
    }
    refs.into_iter()
        .map(target_ref)
        .collect::<Result<_, _>>()
        .map(Target::Refs)
}

pub(super) fn selector(spec: &mut Object) -> Result<Option<Labels>, Problem> {
    let Some(mut selector) = spec.object("selector")? else {
        return Ok(None);
    };
    let labels = selector.object("matchLabels")?.map(Object::into_texts).transpose()?;
    selector.finish()?;
    Ok(Some(labels.unwrap_or_default().into_iter().collect()))
}

fn target_ref(node: Node) -> Result<TargetRef, Problem> {
    let mut target = Object::new("spec.targetRefs", node)?;
    let group = target.text("group")?.unwrap_or_default();
    let kind = target.required_text("kind")?;
    let name = target.required_text("name")?;
    // The API knows it and admits no value.
    if let Some(namespace) = target.text("namespace")? {
        let field = "spec.targetRefs.namespace".into();
        let value = namespace.into();
        return Err((target.line, ReadFault::Value { field, value }));
    }
    target.finish()?;
    Ok(TargetRef { group, kind, name })
}

fn rule(path: &str, node: Node) -> Result<Rule, Problem> {
    // Nothing at all is what `{}` is: a rule that matches everything must be written out.
    if node.kind == Kind::Null {
        return Err(super::object::wrong(node.line, path, "a mapping"));
    }
    let mut object = Object::new(path, node)?;
    let mut rule = Rule::new();
    for (at, node) in object.filled_list("from")?.into_iter().enumerate() {
        rule = rule.from(source(&format!("{path}.from[{at}]"), node)?);
    }
    for (at, node) in object.filled_list("to")?.into_iter().enumerate() {
        rule = rule.to(operation(&format!("{path}.to[{at}]"), node)?);
    }
    for (at, node) in object.list("when")?.into_iter().enumerate() {
        rule = rule.when(condition(&format!("{path}.when[{at}]"), node)?);
    }
    object.finish()?;
    Ok(rule)
}

fn source(path: &str, node: Node) -> Result<Source, Problem> {
    let mut entry = Object::new(path, node)?;
    let fields = entry.object("source")?;
    entry.finish()?;
    let mut source = Source::new();
    let Some(mut fields) = fields else { return Ok(source) };
    for field in SourceField::ALL {
        let Some((plain, negated)) = field_names(&field.attribute()) else {
            continue;
        };
        let (any, none) = (values(&mut fields, plain)?, values(&mut fields, negated)?);
        if !any.is_empty() {
            source = source.any_of(field, any);
        }
        if !none.is_empty() {
            source = source.none_of(field, none);
        }
    }
    fields.finish()?;
    Ok(source)
}

fn operation(path: &str, node: Node) -> Result<Operation, Problem> {
    let mut entry = Object::new(path, node)?;
    let fields = entry.object("operation")?;
    entry.finish()?;
    let mut operation = Operation::new();
    let Some(mut fields) = fields else { return Ok(operation) };
    for field in OperationField::ALL {
        let Some((plain, negated)) = field_names(&field.attribute()) else {
            continue;
        };
        let (any, none) = (values(&mut fields, plain)?, values(&mut fields, negated)?);
        if !any.is_empty() {
            operation = operation.any_of(field, any);
        }
        if !none.is_empty() {
            operation = operation.none_of(field, none);
        }
    }
    fields.finish()?;
    Ok(operation)
}

fn condition(path: &str, node: Node) -> Result<Condition, Problem> {
    let mut fields = Object::new(path, node)?;
    let line = fields.line_of("key");
    let key = fields.required_text("key")?;
    let parsed: ConditionKey = key.parse().map_err(|fault| {
        let key = key.as_str().into();
        (line, ReadFault::Key { key, fault })
    })?;
    let condition = Condition::new(parsed)
        .any_of(values(&mut fields, "values")?)
        .none_of(values(&mut fields, "notValues")?);
    fields.finish()?;
    Ok(condition)
}

fn values(object: &mut Object, name: &str) -> Result<Vec<Value>, Problem> {
    let path = object.path(name);
    let items = object.list(name)?.into_iter().enumerate();
    items
        .map(|(at, node)| match node.kind {
            // Left empty, it would be no restriction where one was meant.
            Kind::Null => Ok(Value::at("", node.line)),
            _ => text(&format!("{path}[{at}]"), node).map(|(line, text)| Value::at(&text, line)),
        })
        .collect()
}
