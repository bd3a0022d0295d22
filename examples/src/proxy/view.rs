//! Whoever keeps up with a mesh.

use mesh_xds::delta::{Push, Refusal};
use mesh_xds::store::Snapshot;

/// Takes what becomes of a mesh.
pub(crate) trait View: Send + 'static {
    /// The mesh as it is now.
    fn update(&mut self, mesh: Snapshot);

    /// What a discovery server says of another type that it was asked for. The answer names what
    /// cannot be taken.
    fn take(&mut self, push: &Push) -> Vec<Refusal>;

    /// Whether anybody looks at it any more.
    fn is_wanted(&self) -> bool;
}
