//! Objects of Kubernetes in files: YAML or JSON, many documents to a file, and every fault with its
//! line.

use self::node::{Kind, Node};
pub use self::{
    fault::{Problem, ReadError, ReadFault},
    object::Object,
};
use crate::budget::Budget;

pub(crate) mod fault;
pub(crate) mod metadata;
pub(crate) mod node;
pub(crate) mod object;
mod write;

/// An object, of which kind and API have been read and nothing else. It can be written again, for
/// whoever passes it on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The object's `apiVersion`.
    pub api_version: String,
    /// The object's `kind`.
    pub kind: String,
    /// The line that it begins in, from 1.
    pub line: u32,
    /// All fields but these two.
    pub object: Object,
}

impl Item {
    /// The API group, empty for Kubernetes' core. Without a slash `apiVersion` is the version of
    /// that, or a group that lacks its version.
    pub fn group(&self) -> &str {
        group(&self.api_version)
    }
}

/// Reads the objects of a file, which [`authz`](crate::authz::k8s::read_items) and
/// [`traffic`](crate::traffic::k8s::read_items) know more about. `file` is its name, for messages.
///
/// Lists are taken apart: those of kind `List`, and those of a kind that is known, by group and name,
/// with `List` behind it.
///
/// # Errors
///
/// The first problem of the file: it is no YAML, too large, or has something else than objects.
pub fn read(
    file: &str,
    text: &str,
    budget: &Budget,
    is_known: impl Fn(&str, &str) -> bool,
) -> Result<Vec<Item>, ReadError> {
    items(text, budget, is_known).map_err(|(line, fault)| ReadError {
        file: file.into(),
        line,
        fault,
    })
}

/// As [`read`], without the file's name.
pub(crate) fn items(text: &str, budget: &Budget, is_known: impl Fn(&str, &str) -> bool) -> Result<Vec<Item>, Problem> {
    let mut items = Vec::new();
    for document in node::documents(text, budget)? {
        read_document(&mut items, document, &is_known)?;
    }
    Ok(items)
}

fn read_document(items: &mut Vec<Item>, document: Node, is_known: &impl Fn(&str, &str) -> bool) -> Result<(), Problem> {
    let line = document.line;
    if document.kind == Kind::Null {
        return Ok(());
    }
    let mut object = Object::new("", document)?;
    let api_version = object.required_text("apiVersion")?;
    let kind = object.required_text("kind")?;
    if is_list(&api_version, &kind, is_known) {
        object.take("metadata");
        let mut nodes = object.required_list("items")?.into_iter();
        object.finish()?;
        return nodes.try_for_each(|node| read_document(items, node, is_known));
    }
    items.push(Item {
        api_version,
        kind,
        line,
        object,
    });
    Ok(())
}

/// What `kubectl` writes for several objects, or an API server for those of one kind.
fn is_list(api_version: &str, kind: &str, is_known: &impl Fn(&str, &str) -> bool) -> bool {
    kind == "List"
        || kind
            .strip_suffix("List")
            .is_some_and(|kind| is_known(group(api_version), kind))
}

fn group(api_version: &str) -> &str {
    match api_version.split_once('/') {
        Some((group, _)) => group,
        None if api_version.contains('.') => api_version,
        None => "",
    }
}
