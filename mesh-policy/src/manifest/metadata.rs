use super::{
    fault::{Problem, ReadFault},
    object::Object,
};

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// What every object has beside its spec.
pub(crate) struct Metadata {
    pub(crate) namespace: Box<str>,
    pub(crate) name: Box<str>,
    /// The fields that only some readers look at. What is left of them is Kubernetes' own.
    pub(crate) rest: Object,
}

impl Metadata {
    pub(crate) fn read(object: &mut Object) -> Result<Self, Problem> {
        let (line, field) = (object.line, "metadata".into());
        let mut rest = object.object("metadata")?.ok_or((line, ReadFault::Missing { field }))?;
        let name = rest.required_text("name")?.into();
        let namespace = rest.text("namespace")?;
        Ok(Self {
            namespace: namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE).into(),
            name,
            rest,
        })
    }
}
