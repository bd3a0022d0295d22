//! What the mesh is asked for as connections want it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hbone::{Authority, Host};
use mesh_xds::client::{FindError, Handle};
use mesh_xds::delta::Outcome;
use mesh_xds_types::ADDRESS_TYPE_URL;

use super::mesh::Mesh;

/// Asks the discovery server for destinations that are not known yet.
pub(super) struct Demand {
    handle: Arc<OnceLock<Handle>>,
    /// How long a connection waits.
    patience: Duration,
}

impl Demand {
    /// Asks by a handle that will be there once the server is called.
    pub(super) fn new(handle: Arc<OnceLock<Handle>>, patience: Duration) -> Self {
        Self { handle, patience }
    }

    /// Waits until the mesh knows what is at an address, or knows that nothing is.
    pub(super) async fn address(&self, mesh: &Mesh, ip: IpAddr) -> Result<(), DemandError> {
        let key = mesh.key(ip);
        // Around what nobody has asked for yet there may be a block of somebody else's.
        if !mesh.snapshot.has_address(&key) {
            self.find(&format!("{}/{}", key.network, key.address)).await?;
        }
        Ok(())
    }

    /// Waits until the mesh knows a destination of a workload in `namespace`, or knows that there is
    /// none.
    pub(super) async fn destination(
        &self,
        mesh: &Mesh,
        namespace: &str,
        target: &Authority,
    ) -> Result<(), DemandError> {
        match target.host() {
            Host::Ip(ip) => self.address(mesh, ip).await,
            Host::Name(name) => {
                let service = mesh.snapshot.service_named(name, Some(namespace));
                if service.is_none() && mesh.snapshot.workload_named(name).is_none() {
                    self.find(&format!("{}/{name}", namespace_of(name).unwrap_or(namespace)))
                        .await?;
                }
                Ok(())
            }
        }
    }

    async fn find(&self, name: &str) -> Result<(), DemandError> {
        let handle = self.handle.get().ok_or(DemandError::NotConnected)?;
        match handle.find(ADDRESS_TYPE_URL, name, self.patience).await {
            Ok(Outcome::Present | Outcome::Absent) => Ok(()),
            Ok(outcome) => Err(DemandError::Unanswered(outcome)),
            Err(reason) => Err(DemandError::Refused(reason)),
        }
    }
}

/// Why it is not known what the mesh has.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemandError {
    #[error("the server has not been called yet")]
    NotConnected,
    #[error("no answer that is of use: {0:?}")]
    Unanswered(Outcome),
    #[error(transparent)]
    Refused(FindError),
}

/// The namespace that a name of Kubernetes' own kind says: `SERVICE.NAMESPACE.svc.DOMAIN`.
fn namespace_of(name: &str) -> Option<&str> {
    let mut labels = name.split('.').skip(1);
    let namespace = labels.next()?;
    (labels.next() == Some("svc")).then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_say_their_namespace() {
        for (name, namespace) in [
            ("till.shop.svc.cluster.local", Some("shop")),
            ("till.shop.svc", Some("shop")),
            ("till.example.com", None),
            ("till", None),
        ] {
            assert_eq!(namespace_of(name), namespace);
        }
    }
}
