use crate::{
    authz::{
        model::PolicyName,
        target::{Labels, Target, TargetRef},
    },
    manifest::{
        self,
        fault::{Problem, ReadFault},
        node::Node,
        object::Object,
    },
};

const DRY_RUN: &str = "istio.io/dry-run";

/// What all objects of the API have beside their spec.
pub(super) struct Metadata {
    pub(super) name: PolicyName,
    annotations: Vec<(String, String)>,
    line: u32,
}

impl Metadata {
    /// As Go reads a truth value.
    pub(super) fn dry_run(&self) -> Result<bool, Problem> {
        let Some((_, value)) = self.annotations.iter().find(|(name, _)| name == DRY_RUN) else {
            return Ok(false);
        };
        match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err((
                self.line,
                ReadFault::Value {
                    field: format!("metadata.annotations.{DRY_RUN}").into(),
                    value: value.as_str().into(),
                },
            )),
        }
    }
}

/// Reads the metadata, and passes over what Kubernetes adds to an object.
pub(super) fn metadata(object: &mut Object) -> Result<Metadata, Problem> {
    object.take("status");
    let mut found = manifest::metadata::Metadata::read(object)?;
    let line = found.rest.line_of("annotations");
    let annotations = found.rest.object("annotations")?.map(Object::into_texts).transpose()?;
    Ok(Metadata {
        name: PolicyName::new(&found.namespace, &found.name),
        annotations: annotations.unwrap_or_default(),
        line,
    })
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
