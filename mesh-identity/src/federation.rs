//! Bundles of other trust domains, fetched from where they are published, and one's own published to
//! others (SPIFFE Federation).
//!
//! [`Federation::new`] gives a handle, which is a [`Source`], and a [`FederationDriver`], which does
//! the work wherever it is polled. What it publishes has no identities, and bundles of the related
//! trust domains only, never of one's own: it is made to be merged with a source that has those.
//!
//! Bundles are fetched as often as they ask for, between every 30 s and once a day; every 5 minutes
//! if they do not say. When a fetch fails, the last good bundle stays in use, the
//! [`problem`](crate::source::Follower::problem), a [`FederationProblem`], is told, and the next fetch takes place in its turn.
//! Sequence numbers never go back. With a [`BundleStore`] all of this outlives the process.
//!
//! [`BundleEndpoint`] is the other side.
//!
//! ```no_run
//! use mesh_identity::{
//!     BundleDocument,
//!     federation::{EndpointProfile, Federation, FederationConfig, Relationship},
//!     provider,
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let partner = "partner.example".parse()?;
//! let endpoint = "spiffe://partner.example/spire/server".parse()?;
//! let bootstrap = BundleDocument::parse("partner.example".parse()?, &std::fs::read("partner.json")?)?;
//! let relationship = Relationship::new(
//!     partner,
//!     "https://bundles.partner.example:8443/".parse()?,
//!     EndpointProfile::HttpsSpiffe { endpoint },
//! );
//! let config = FederationConfig::new("example.org".parse()?).relate(relationship.bootstrap(bootstrap));
//! let (federation, driver) = Federation::new(config, provider::aws_lc_rs())?;
//! driver.run().await;
//! # drop(federation);
//! # Ok(())
//! # }
//! ```

mod authentication;
mod config;
mod driver;
mod endpoint;
mod fetch;
mod members;
mod polling;
mod record;
mod relationship;
mod store;
mod url;

use std::{convert::Infallible, fmt, sync::Arc};

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};

pub use self::{
    config::FederationConfig,
    driver::FederationDriver,
    endpoint::{BundleEndpoint, UnpublishableBundle},
    fetch::FetchError,
    members::{FederationError, FederationProblem},
    record::StaleBundle,
    relationship::{EndpointProfile, Relationship},
    store::BundleStore,
    url::{EndpointUrl, EndpointUrlError},
};
use self::{driver::Terms, members::Members};
use crate::{
    bundle::document::BundleDocument,
    source::{Follower, Publisher, Source},
};

/// The bundles of other trust domains. Cloning is cheap, and clones share everything.
///
/// A [`Follower`] of it waits for changes; [`Follower::ready`] would wait for an identity, of which
/// there are none here.
#[derive(Clone)]
pub struct Federation {
    follower: Follower,
    documents: watch::Receiver<Vec<Arc<BundleDocument>>>,
    /// Nothing is ever sent: the driver sees the last one go.
    _alive: mpsc::Sender<Infallible>,
}

impl Federation {
    /// A source, and the driver without which nothing is fetched. Bundles to begin with, be they
    /// configured or stored, are published at once.
    ///
    /// # Errors
    ///
    /// Relationships that contradict each other, or for which something is missing.
    pub fn new(
        config: FederationConfig,
        provider: Arc<CryptoProvider>,
    ) -> Result<(Self, FederationDriver), FederationError> {
        let web_roots = root_store(&config.web_roots)?;
        let members = Members::new(&config.own, config.relationships, &config.web_roots, config.store)?;
        let (alive, handles) = mpsc::channel(1);
        let (documents, current) = watch::channel(Vec::new());
        let driver = FederationDriver {
            terms: Terms {
                provider,
                clock: config.clock,
                dialer: config.dialer,
                deadline: config.deadline,
                profile: config.profile,
                web_roots,
            },
            members,
            publisher: Publisher::new(),
            documents,
            handles,
        };
        driver.publish();
        let federation = Self {
            follower: driver.publisher.follow(),
            documents: current,
            _alive: alive,
        };
        Ok((federation, driver))
    }

    /// The bundles as they were published, JWT authorities included, in the order of the
    /// relationships. Trust domains without a bundle are left out.
    pub fn documents(&self) -> Vec<Arc<BundleDocument>> {
        self.documents.borrow().clone()
    }
}

impl Source for Federation {
    fn follow(&self) -> Follower {
        self.follower.anew()
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Federation")
            .field("documents", &self.documents())
            .finish_non_exhaustive()
    }
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, FederationError> {
    let mut store = RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        let added = store.add(root.clone());
        added.map_err(|_| FederationError::WebRoot { number: index + 1 })?;
    }
    Ok(Arc::new(store))
}
