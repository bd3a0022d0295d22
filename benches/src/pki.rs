//! Certificates as files that every process can read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mesh_identity::source::dev_ca::DevCa;
use mesh_identity::source::files;
use mesh_identity::tls::{ClientTls, ServerTls};
use mesh_identity::{PeerPolicy, SpiffeId, Svid, TrustBundles, provider};
use rustls::pki_types::UnixTime;

/// Identities of two ends, whose certificates are called `client` and `server`.
pub const CLIENT: &str = "spiffe://bench.test/ns/bench/sa/client";
/// See [`CLIENT`].
pub const SERVER: &str = "spiffe://bench.test/ns/bench/sa/server";

/// The trust domain of every identity.
pub const TRUST_DOMAIN: &str = "bench.test";

/// A folder of certificates.
#[derive(Clone, Debug)]
pub struct Pki(PathBuf);

impl Pki {
    /// Issues new certificates into `folder`, for [`CLIENT`] and [`SERVER`].
    pub fn create(folder: &Path) -> io::Result<Self> {
        Self::issue(folder, [("client", CLIENT), ("server", SERVER)])
    }

    /// Issues new certificates into `folder`, for identities under names.
    pub fn issue<N: AsRef<str>, I: AsRef<str>>(
        folder: &Path,
        identities: impl IntoIterator<Item = (N, I)>,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let ca = DevCa::new(parsed(TRUST_DOMAIN)?, UnixTime::now()).map_err(io::Error::other)?;
        ca.write_roots(folder)?;
        for (name, id) in identities {
            let issued = ca.issue(&parsed(id.as_ref())?, UnixTime::now());
            issued.map_err(io::Error::other)?.write(folder, name.as_ref())?;
        }
        Ok(Self::open(folder))
    }

    /// Uses the certificates in `folder`.
    pub fn open(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// TLS of the ends that are called `client` and `server`.
    pub fn tls(&self) -> io::Result<(ClientTls, ServerTls)> {
        Ok((self.client_tls("client", SERVER)?, self.server_tls("server", CLIENT)?))
    }

    /// TLS of `name` when it calls `peer`.
    pub fn client_tls(&self, name: &str, peer: &str) -> io::Result<ClientTls> {
        let tls = ClientTls::builder(provider::aws_lc_rs())
            .identity(self.svid(name)?)
            .trust(self.trust()?)
            .authorize(PeerPolicy::exact(parsed::<SpiffeId>(peer)?))
            .build();
        tls.map_err(io::Error::other)
    }

    /// TLS of `name` when `peer` calls it.
    pub fn server_tls(&self, name: &str, peer: &str) -> io::Result<ServerTls> {
        let tls = ServerTls::builder(provider::aws_lc_rs())
            .identity(self.svid(name)?)
            .trust(self.trust()?)
            .authorize(PeerPolicy::exact(parsed::<SpiffeId>(peer)?))
            .build();
        tls.map_err(io::Error::other)
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

    /// Writes a file beside the certificates.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let file = self.0.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    fn svid(&self, name: &str) -> io::Result<Arc<Svid>> {
        let svid = files::load_svid(
            &self.cert(name),
            &self.key(name),
            &provider::aws_lc_rs(),
            UnixTime::now(),
        );
        svid.map(Arc::new).map_err(io::Error::other)
    }

    fn trust(&self) -> io::Result<Arc<TrustBundles>> {
        let bundle = files::load_bundle(parsed(TRUST_DOMAIN)?, &self.roots()).map_err(io::Error::other)?;
        TrustBundles::new([bundle]).map(Arc::new).map_err(io::Error::other)
    }
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> io::Result<T> {
    text.parse().map_err(io::Error::other)
}
