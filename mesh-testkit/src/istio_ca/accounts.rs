//! Who may have a certificate for whom.

use std::collections::{BTreeMap, BTreeSet};

use mesh_identity::{SpiffeId, TrustDomain};

/// What istiod knows about its callers.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    workloads: BTreeMap<String, SpiffeId>,
    /// By the node agent's token, the identities that run on its node.
    nodes: BTreeMap<String, BTreeSet<SpiffeId>>,
}

impl Accounts {
    pub(super) fn admit(&mut self, token: &str, id: SpiffeId) {
        self.workloads.insert(token.to_owned(), id);
    }

    pub(super) fn admit_node(&mut self, token: &str, ids: impl IntoIterator<Item = SpiffeId>) {
        self.nodes.insert(token.to_owned(), ids.into_iter().collect());
    }

    pub(super) fn revoke(&mut self, token: &str) {
        self.workloads.remove(token);
        self.nodes.remove(token);
    }

    /// The identity that a certificate for this caller is made out to; or why there is none, in words.
    ///
    /// Istio's own authority does not compare the impersonated trust domain with its own; this one does.
    pub(super) fn judge(
        &self,
        token: Option<&str>,
        impersonated: Option<&str>,
        trust_domain: &TrustDomain,
    ) -> Result<SpiffeId, &'static str> {
        let token = token.ok_or("no bearer token")?;
        let Some(impersonated) = impersonated else {
            return self.workloads.get(token).cloned().ok_or("unknown token");
        };
        let node = self
            .nodes
            .get(token)
            .ok_or("the caller is not a trusted node account")?;
        let id: SpiffeId = impersonated
            .parse()
            .map_err(|_| "the impersonated identity is malformed")?;
        if id.trust_domain() != trust_domain {
            return Err("the impersonated identity is of another trust domain");
        }
        if !node.contains(&id) {
            return Err("the impersonated identity does not run on this node");
        }
        Ok(id)
    }
}
