//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use mesh_identity::TrustDomain;

use super::compile::Settings;
use super::objects::Key;

/// Control plane of an ambient mesh: what istiod is to ztunnel.
///
/// Compiles a directory of Kubernetes objects to the workloads, services and policies that node
/// proxies ask for, follows the directory as it changes, and signs the certificates of the
/// workloads.
#[derive(Debug, Parser)]
#[command(name = "control-plane", version, max_term_width = 100)]
pub(super) struct Args {
    /// Directory of YAML and JSON files, with those below it.
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// The name of the cluster, the first part of workloads' UIDs.
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub(super) cluster: String,
    /// The trust domain of the workloads' identities.
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(super) trust_domain: TrustDomain,
    /// The namespace whose policies are about the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub(super) root_namespace: String,
    /// The service account of node proxies, as namespace and name. Who brings a token of it, bound
    /// to a Pod, may have certificates of the workloads of that Pod's node.
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "istio-system/ztunnel", value_parser = account)]
    pub(super) node_account: Key,
    /// Print what nodes would be told, as JSON, and end.
    #[arg(long)]
    pub(super) print: bool,
}

impl Args {
    pub(super) fn parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(args)
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            cluster: self.cluster.clone(),
            trust_domain: self.trust_domain.clone(),
            root_namespace: self.root_namespace.clone(),
            node_account: self.node_account.clone(),
        }
    }
}

fn account(text: &str) -> Result<Key, &'static str> {
    let (namespace, name) = text.split_once('/').ok_or("not a namespace, a slash and a name")?;
    Ok(Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
