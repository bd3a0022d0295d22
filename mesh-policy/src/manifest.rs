//! Objects of Kubernetes in files: YAML or JSON, many documents to a file, and every fault with its
//! line.

use std::{sync::Arc, vec};

use self::node::{Documents, Kind, Node};
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
    Items::new(file.into(), text, budget, is_known).collect()
}

/// The objects of a file, each read when it is asked for. After a problem there is nothing more.
pub(crate) struct Items<'t, K> {
    file: Arc<str>,
    documents: Documents<'t>,
    /// Those of a list.
    read: vec::IntoIter<Item>,
    is_known: K,
}

impl<'t, K: Fn(&str, &str) -> bool> Items<'t, K> {
    pub(crate) fn new(file: Arc<str>, text: &'t str, budget: &Budget, is_known: K) -> Self {
        Self {
            file,
            documents: Documents::new(text, budget),
            read: Vec::new().into_iter(),
            is_known,
        }
    }

    pub(crate) fn file(&self) -> &Arc<str> {
        &self.file
    }

    fn read(&mut self, document: Result<Node, Problem>) -> Result<(), Problem> {
        let mut items = Vec::new();
        read_document(&mut items, document?, &self.is_known)?;
        self.read = items.into_iter();
        Ok(())
    }
}

impl<K: Fn(&str, &str) -> bool> Iterator for Items<'_, K> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.read.next() {
                return Some(Ok(item));
            }
            let document = self.documents.next()?;
            if let Err((line, fault)) = self.read(document) {
                self.documents.end();
                let file = Arc::clone(&self.file);
                return Some(Err(ReadError { file, line, fault }));
            }
        }
    }
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
