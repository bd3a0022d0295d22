//! Policies as Kubernetes has them: YAML or JSON, many documents to a file.
//!
//! ```
//! use mesh_policy::{Budget, authz::{Compiler, Dialect, k8s}};
//!
//! let file = "
//! apiVersion: security.istio.io/v1
//! kind: AuthorizationPolicy
//! metadata: {name: reviews, namespace: shop}
//! spec:
//!   rules:
//!   - from:
//!     - source: {ipBlocks: [10.0.0.300]}
//! ";
//! let manifests = k8s::read("policies.yaml", file, &Budget::new())?;
//! let error = Compiler::new(Dialect::Strict).compile(manifests.authorization).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "policies.yaml:8: policy `shop/reviews`: rules[0].from[0].source.ipBlocks[0]: \
//!      `10.0.0.300` is no IP address or CIDR block",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, sync::Arc};

pub use self::{
    sample::read_sample,
    write::{Manifest, write},
};
use super::{
    model::AuthorizationPolicy, peer_authentication::PeerAuthentication, request_authentication::RequestAuthentication,
};
pub use crate::manifest::{Item, Object, Problem, ReadError, ReadFault};
use crate::{budget::Budget, manifest::Items};

mod authentication;
mod authorization;
mod metadata;
mod sample;
mod write;

/// The API group of all three kinds.
const GROUP: &str = "security.istio.io";

const KINDS: [&str; 3] = ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"];

/// The objects of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifests {
    /// Who may do what.
    pub authorization: Vec<AuthorizationPolicy>,
    /// Which connections need a certificate.
    pub peer_authentication: Vec<PeerAuthentication>,
    /// Which tokens are believed.
    pub request_authentication: Vec<RequestAuthentication>,
    /// Objects of other kinds and groups, for whoever knows these.
    pub others: Vec<Item>,
}

/// Reads the text of a file. `file` is its name, for messages.
///
/// Fields that the API does not have are errors, like those of a wrong type: a field that is
/// misspelt would otherwise be a restriction that is not there. Values are checked when a
/// [`Compiler`](super::Compiler) reads them.
///
/// # Errors
///
/// The first problem of the file.
pub fn read(file: &str, text: &str, budget: &Budget) -> Result<Manifests, ReadError> {
    let mut reader = Reader::new(file, text, budget);
    let others = reader.by_ref().collect();
    Ok(Manifests {
        others,
        ..reader.finish()?
    })
}

/// Reads the text of a file one object after the other, so that of a large file only what it means
/// takes memory. An iterator over the objects of other kinds and groups; the policies are there in
/// the end.
///
/// ```
/// use mesh_policy::{Budget, authz::k8s::Reader, traffic::k8s};
///
/// # let text = "";
/// let mut reader = Reader::new("mesh.yaml", text, &Budget::new());
/// let traffic = k8s::read_items("mesh.yaml", reader.by_ref(), &Budget::new());
/// let policies = reader.finish()?;
/// # let _ = (traffic, policies);
/// # Ok::<(), mesh_policy::manifest::ReadError>(())
/// ```
pub struct Reader<'t> {
    items: Items<'t, fn(&str, &str) -> bool>,
    manifests: Manifests,
    /// What ended it.
    problem: Option<ReadError>,
}

impl<'t> Reader<'t> {
    /// Begins with the text of a file. `file` is its name, for messages.
    pub fn new(file: &str, text: &'t str, budget: &Budget) -> Self {
        let is_known: fn(&str, &str) -> bool = |group, kind| group == GROUP && KINDS.contains(&kind);
        Self {
            items: Items::new(file.into(), text, budget, is_known),
            manifests: Manifests::default(),
            problem: None,
        }
    }

    /// The policies of the file, and no others. Reads what is left of it; objects of other kinds that
    /// have not been taken by then are dropped.
    ///
    /// # Errors
    ///
    /// The first problem of the file: what came before it is not all that the file says.
    pub fn finish(mut self) -> Result<Manifests, ReadError> {
        self.by_ref().for_each(drop);
        self.problem.map_or(Ok(self.manifests), Err)
    }

    fn take(&mut self, item: Item) -> Result<Option<Item>, ReadError> {
        let file = self.items.file();
        read_item(&mut self.manifests, file, item).map_err(|(line, fault)| ReadError {
            file: Arc::clone(file),
            line,
            fault,
        })
    }
}

impl Iterator for Reader<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.problem.is_none() {
            match self.items.next()?.and_then(|item| self.take(item)) {
                Ok(None) => {}
                Ok(other) => return other,
                Err(problem) => self.problem = Some(problem),
            }
        }
        None
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("file", self.items.file())
            .field("problem", &self.problem)
            .finish_non_exhaustive()
    }
}

/// Reads objects of a file.
///
/// # Errors
///
/// The first problem of the objects.
pub fn read_items(file: &str, items: impl IntoIterator<Item = Item>) -> Result<Manifests, ReadError> {
    let file: Arc<str> = file.into();
    let mut manifests = Manifests::default();
    for item in items {
        let other = read_item(&mut manifests, &file, item).map_err(|(line, fault)| ReadError {
            file: Arc::clone(&file),
            line,
            fault,
        })?;
        manifests.others.extend(other);
    }
    Ok(manifests)
}

/// Takes an object, or gives it back if it is of another kind or group.
fn read_item(manifests: &mut Manifests, file: &Arc<str>, item: Item) -> Result<Option<Item>, Problem> {
    if !is_meant(&item) {
        return Ok(Some(item));
    }
    let Item {
        api_version,
        kind,
        line,
        object,
    } = item;
    let version = api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/'));
    if !version.is_some_and(|version| ["v1", "v1beta1"].contains(&version)) {
        let api_version = api_version.into();
        return Err((line, ReadFault::Version { api_version }));
    }
    match &*kind {
        "AuthorizationPolicy" => {
            let policy = authorization::read(object)?.read_from(file, line);
            manifests.authorization.push(policy);
        }
        "PeerAuthentication" => manifests.peer_authentication.push(authentication::read_peer(object)?),
        "RequestAuthentication" => manifests
            .request_authentication
            .push(authentication::read_request(object, file)?),
        _ => return Err((line, ReadFault::Kind { kind: kind.into() })),
    }
    Ok(None)
}

/// Whether an object is one of this API, be it written right or not. Others have kinds of these
/// names, too: Linkerd has an AuthorizationPolicy.
fn is_meant(item: &Item) -> bool {
    let group = item.group();
    let is_like_ours = group.is_empty() || group.to_ascii_lowercase().contains("istio");
    group == GROUP || (KINDS.contains(&item.kind.as_str()) && is_like_ours)
}

#[cfg(test)]
mod tests;
