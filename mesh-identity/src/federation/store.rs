use std::io;

use crate::{bundle::document::BundleDocument, trust_domain::TrustDomain};

/// Where fetched bundles outlive the process (SPIFFE Federation §7.2), so that a restart neither
/// forgets a trust domain nor takes an older bundle for a newer one.
///
/// Bundles hold no secrets, but whoever can change what is stored can add authorities.
///
/// The calls are made where the driver is polled, so they should not take long.
pub trait BundleStore: Send + Sync {
    /// The text that was last saved for a trust domain, if any.
    ///
    /// # Errors
    ///
    /// The text is there and cannot be read.
    fn load(&self, trust_domain: &TrustDomain) -> io::Result<Option<Vec<u8>>>;

    /// Saves a bundle, of which [`BundleDocument::to_json`] is the text, in place of the one before
    /// it.
    ///
    /// # Errors
    ///
    /// It was not saved. The bundle is used nonetheless, and saved with the next fetch that succeeds.
    fn save(&self, document: &BundleDocument) -> io::Result<()>;
}
