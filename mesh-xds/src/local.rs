//! A mesh from a file: ztunnel's local format, in YAML.
//!
//! ```
//! let mesh = mesh_xds::local::read("mesh.yaml", r#"
//! workloads:
//! - uid: cluster1//Pod/shop/till
//!   namespace: shop
//!   serviceAccount: till
//!   workloadIps: [10.0.0.2]
//!   protocol: HBONE
//!   services:
//!     shop/till.shop.svc: {80: 8080}
//! services:
//! - namespace: shop
//!   hostname: till.shop.svc
//!   vips: ["/10.96.0.1"]
//!   ports: {80: 8080}
//!   appProtocols: {80: HTTP11}
//! "#)?;
//! assert_eq!(mesh.snapshot().workload_count(), 1);
//! # Ok::<(), mesh_xds::local::LocalError>(())
//! ```

mod fault;
mod fields;
mod node;
mod policy;
mod service;
mod workload;

use std::collections::BTreeSet;

use thiserror::Error;

use crate::store::Store;
use fault::Located;
use fields::{Fields, items};
use node::Node;

pub use fault::{LocalFault, MAX_DEPTH, MAX_LENGTH};

/// Why a file is no mesh: which file, which line, which field, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}, line {line}: {fault}")]
#[non_exhaustive]
pub struct LocalError {
    /// The name that was given for the file.
    pub file: String,
    /// The line, counting from one.
    pub line: usize,
    /// What is wrong there.
    pub fault: LocalFault,
}

/// Reads a mesh from the text of a file. `file` is its name, for errors.
///
/// # Errors
///
/// Anything in the file that cannot be taken as it is meant; then there is no mesh, so that whoever
/// has an earlier one can keep it.
pub fn read(file: &str, text: &str) -> Result<Store, LocalError> {
    let read = node::document(text).and_then(|document| match document {
        Some(document) => mesh(&document),
        None => Ok(Store::new()),
    });
    read.map_err(|(line, fault)| LocalError {
        file: file.to_owned(),
        line,
        fault,
    })
}

fn mesh(document: &Node) -> Located<Store> {
    let mut store = Store::new();
    let mut fields = Fields::new(document, "")?;
    let workloads = fields.take("workloads");
    let services = fields.take("services");
    let policies = fields.take("policies");
    fields.end()?;
    for node in items(workloads, "workloads")? {
        let workload = workload::read(node)?;
        require(node, !workload.uid.is_empty(), "uid")?;
        store
            .insert_workload(&workload)
            .map_err(|error| (node.line, error.into()))?;
    }
    for node in items(services, "services")? {
        let service = service::read(node)?;
        store
            .insert_service(&service)
            .map_err(|error| (node.line, error.into()))?;
    }
    let mut names = BTreeSet::new();
    for node in items(policies, "policies")? {
        let policy = policy::read(node)?;
        // Of two the store would keep the later one, and the other would restrict nobody.
        let name = format!("{}/{}", policy.namespace, policy.name);
        if let Some(twice) = names.replace(name) {
            return Err((node.line, LocalFault::Repeated(twice)));
        }
        store.insert_policy(policy).map_err(|error| (node.line, error.into()))?;
    }
    Ok(store)
}

fn require(node: &Node, is_there: bool, field: &'static str) -> Located<()> {
    if is_there {
        Ok(())
    } else {
        Err((node.line, LocalFault::Missing(field)))
    }
}
