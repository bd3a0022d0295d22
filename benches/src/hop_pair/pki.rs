//! The certificates of both relay ends, as files that every process can read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_identity::source::dev_ca::DevCa;
use mesh_identity::source::files;
use mesh_identity::tls::{ClientTls, ServerTls};
use mesh_identity::{PeerPolicy, SpiffeId, TrustBundles, TrustDomain, provider};
use rustls::pki_types::UnixTime;

/// Identities of the two ends.
pub const CLIENT: &str = "spiffe://bench.test/ns/bench/sa/client";
/// See [`CLIENT`].
pub const SERVER: &str = "spiffe://bench.test/ns/bench/sa/server";

const TRUST_DOMAIN: &str = "bench.test";

/// A folder of certificates.
pub struct Pki(PathBuf);

impl Pki {
    /// Issues new certificates into `folder`.
    pub fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let ca = DevCa::new(parsed(TRUST_DOMAIN)?, UnixTime::now()).map_err(io::Error::other)?;
        ca.write_roots(folder)?;
        for (name, id) in [("client", CLIENT), ("server", SERVER)] {
            let issued = ca.issue(&parsed(id)?, UnixTime::now()).map_err(io::Error::other)?;
            issued.write(folder, name)?;
        }
        Self::open(folder)
    }

    /// Uses the certificates in `folder`.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(folder.to_owned()))
    }

    /// Both ends' TLS.
    pub fn tls(&self) -> io::Result<(ClientTls, ServerTls)> {
        let provider = provider::aws_lc_rs();
        let bundle = files::load_bundle(parsed(TRUST_DOMAIN)?, &self.roots()).map_err(io::Error::other)?;
        let trust = Arc::new(TrustBundles::new([bundle]).map_err(io::Error::other)?);
        let svid = |name: &str| {
            files::load_svid(&self.cert(name), &self.key(name), &provider, UnixTime::now())
                .map(Arc::new)
                .map_err(io::Error::other)
        };
        let client = ClientTls::builder(Arc::clone(&provider))
            .identity(svid("client")?)
            .trust(Arc::clone(&trust))
            .authorize(PeerPolicy::exact(parsed::<SpiffeId>(SERVER)?))
            .build();
        let server = ServerTls::builder(Arc::clone(&provider))
            .identity(svid("server")?)
            .trust(trust)
            .authorize(PeerPolicy::exact(parsed::<SpiffeId>(CLIENT)?))
            .build();
        Ok((client.map_err(io::Error::other)?, server.map_err(io::Error::other)?))
    }

    /// The certificate chain of `name`.
    pub fn cert(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }

    /// The key of `name`.
    pub fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// The trust anchors.
    pub fn roots(&self) -> PathBuf {
        self.0.join("roots.pem")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> io::Result<T> {
    text.parse().map_err(io::Error::other)
}

/// The trust domain of the benchmark.
pub fn trust_domain() -> io::Result<TrustDomain> {
    parsed(TRUST_DOMAIN)
}
