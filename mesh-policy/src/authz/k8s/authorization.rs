use super::metadata::{metadata, target};
use crate::{
    authz::{
        model::{
            Action, AuthorizationPolicy, Condition, ConditionKey, Entry, OperationField, Rule, SourceField, Value,
            field_names,
        },
        target::Target,
    },
    facts::Attribute,
    manifest::{
        fault::{Problem, ReadFault},
        node::{Kind, Node},
        object::{Object, text, wrong},
    },
};

pub(super) fn read(mut object: Object) -> Result<AuthorizationPolicy, Problem> {
    let metadata = metadata(&mut object)?;
    let dry_run = metadata.dry_run()?;
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
    Ok(policy.shrunk())
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

fn rule(path: &str, node: Node) -> Result<Rule, Problem> {
    // Nothing at all is what `{}` is: a rule that matches everything must be written out.
    if node.kind == Kind::Null {
        return Err(wrong(node.line, path, "a mapping"));
    }
    let mut object = Object::new(path, node)?;
    let mut rule = Rule::new();
    for (at, node) in object.filled_list("from")?.into_iter().enumerate() {
        rule = rule.from(entry(&format!("{path}.from[{at}]"), node, "source", SourceField::ALL)?);
    }
    for (at, node) in object.filled_list("to")?.into_iter().enumerate() {
        rule = rule.to(entry(
            &format!("{path}.to[{at}]"),
            node,
            "operation",
            OperationField::ALL,
        )?);
    }
    for (at, node) in object.list("when")?.into_iter().enumerate() {
        rule = rule.when(condition(&format!("{path}.when[{at}]"), node)?);
    }
    object.finish()?;
    Ok(rule)
}

/// An entry of `from` or `to`, whose fields are all in one mapping.
fn entry<F: Copy + Into<Attribute>>(
    path: &str,
    node: Node,
    mapping: &str,
    known: impl IntoIterator<Item = F>,
) -> Result<Entry<F>, Problem> {
    let mut object = Object::new(path, node)?;
    let fields = object.object(mapping)?;
    object.finish()?;
    let mut entry = Entry::new();
    let Some(mut fields) = fields else { return Ok(entry) };
    for field in known {
        let Some((plain, negated)) = field_names(&field.into()) else {
            continue;
        };
        let (any, none) = (values(&mut fields, plain)?, values(&mut fields, negated)?);
        if !any.is_empty() {
            entry = entry.any_of(field, any);
        }
        if !none.is_empty() {
            entry = entry.none_of(field, none);
        }
    }
    fields.finish()?;
    Ok(entry)
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
