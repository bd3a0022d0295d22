//! What all objects have beside their spec.

use std::fmt;
use std::sync::Arc;

use mesh_policy::authz::Labels;
use mesh_policy::authz::k8s::{Object, Problem};

use super::Place;
use super::fields::{bad, labels};

/// The longest name that Kubernetes allows.
const MAX_NAME_BYTES: usize = 253;

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// The name of an object among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::control_plane) struct Key {
    /// Empty for a kind that has none.
    pub(in crate::control_plane) namespace: String,
    pub(in crate::control_plane) name: String,
}

impl Key {
    /// A name in a namespace. As both become parts of SPIFFE IDs and of resources' names, they have
    /// to be what Kubernetes allows.
    pub(super) fn new(line: u32, namespace: &str, name: &str) -> Result<Self, Problem> {
        for (field, value) in [("metadata.namespace", namespace), ("metadata.name", name)] {
            if !is_name(value) {
                return Err(bad(line, field, value));
            }
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Another object of the same namespace.
    pub(in crate::control_plane) fn beside(&self, name: &str) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

#[derive(Clone, Debug)]
pub(in crate::control_plane) struct Metadata {
    pub(in crate::control_plane) key: Key,
    pub(in crate::control_plane) place: Place,
    pub(in crate::control_plane) labels: Labels,
    pub(in crate::control_plane) annotations: Labels,
    /// What controls the object: kind and name.
    pub(in crate::control_plane) controller: Option<(String, String)>,
    /// Whether it is being deleted.
    pub(in crate::control_plane) is_going: bool,
}

impl Metadata {
    /// For a kind that has no namespace.
    pub(super) fn without_namespace(mut self) -> Self {
        self.key.namespace.clear();
        self
    }

    pub(in crate::control_plane) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub(in crate::control_plane) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }
}

pub(super) fn read(file: &Arc<str>, object: &mut Object) -> Result<Metadata, Problem> {
    let line = object.line();
    let place = Place {
        file: Arc::clone(file),
        line,
    };
    let mut metadata = object.required_object("metadata")?;
    let key = key(&mut metadata)?;
    let mut controller = None;
    for mut owner in metadata.objects("ownerReferences")? {
        if owner.flag("controller")? {
            controller = Some((owner.required_text("kind")?, owner.required_text("name")?));
        }
    }
    let (of_object, is_going) = (
        (labels(&mut metadata, "labels")?, labels(&mut metadata, "annotations")?),
        metadata.text("deletionTimestamp")?.is_some(),
    );
    metadata.pass_over(&[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    ]);
    metadata.finish()?;
    let (labels, annotations) = of_object;
    Ok(Metadata {
        key,
        place,
        labels,
        annotations,
        controller,
        is_going,
    })
}

/// The name of an object in its namespace.
pub(super) fn key(metadata: &mut Object) -> Result<Key, Problem> {
    let line = metadata.line_of("name");
    let name = metadata.required_text("name")?;
    let namespace = metadata.text("namespace")?;
    Key::new(line, namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE), &name)
}

/// Labels and dots (RFC 1123).
pub(in crate::control_plane) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= MAX_NAME_BYTES && text.split('.').all(is_label)
}
