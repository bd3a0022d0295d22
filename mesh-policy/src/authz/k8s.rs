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

use std::sync::Arc;

use self::node::{Kind, Node};
pub use self::{
    fault::{Problem, ReadError, ReadFault},
    object::Object,
    sample::read_sample,
    write::{Manifest, write},
};
use super::{
    model::AuthorizationPolicy, peer_authentication::PeerAuthentication, request_authentication::RequestAuthentication,
};
use crate::budget::Budget;

mod authentication;
mod authorization;
mod fault;
mod metadata;
pub(in crate::authz) mod node;
pub(in crate::authz) mod object;
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
    pub others: Vec<Other>,
}

/// An object that is not of this API, nor seems to be meant for it: a kind that the API does not
/// have, or an API group that is only like this one, is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Other {
    /// The object's `apiVersion`.
    pub api_version: String,
    /// The object's `kind`.
    pub kind: String,
    /// The line that it begins in, from 1.
    pub line: u32,
    /// All fields but these two.
    pub object: Object,
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
    let file: Arc<str> = file.into();
    let place = |(line, fault): (u32, ReadFault)| ReadError {
        file: Arc::clone(&file),
        line,
        fault,
    };
    let mut manifests = Manifests::default();
    for document in node::documents(text, budget).map_err(place)? {
        read_document(&mut manifests, &file, document).map_err(place)?;
    }
    Ok(manifests)
}

fn read_document(manifests: &mut Manifests, file: &Arc<str>, document: Node) -> Result<(), Problem> {
    let line = document.line;
    if document.kind == Kind::Null {
        return Ok(());
    }
    let mut object = Object::new("", document)?;
    let api_version = object.required_text("apiVersion")?;
    let kind = object.required_text("kind")?;
    if is_list(&api_version, &kind) {
        object.take("metadata");
        let mut items = object.required_list("items")?.into_iter();
        object.finish()?;
        return items.try_for_each(|item| read_document(manifests, file, item));
    }
    if !is_meant(&api_version, &kind) {
        manifests.others.push(Other {
            api_version,
            kind,
            line,
            object,
        });
        return Ok(());
    }
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
    Ok(())
}

/// What `kubectl` writes for several objects, or an API server for those of one kind.
fn is_list(api_version: &str, kind: &str) -> bool {
    kind == "List"
        || (group(api_version) == GROUP && kind.strip_suffix("List").is_some_and(|kind| KINDS.contains(&kind)))
}

/// Whether an object is one of this API, be it written right or not. Others have kinds of these
/// names, too: Linkerd has an AuthorizationPolicy.
fn is_meant(api_version: &str, kind: &str) -> bool {
    let group = group(api_version);
    let is_like_ours = group.is_empty() || group.to_ascii_lowercase().contains("istio");
    group == GROUP || (KINDS.contains(&kind) && is_like_ours)
}

/// Without a slash it is the version of the core group, or a group that lacks its version.
fn group(api_version: &str) -> &str {
    match api_version.split_once('/') {
        Some((group, _)) => group,
        None if api_version.contains('.') => api_version,
        None => "",
    }
}

#[cfg(test)]
mod tests;
