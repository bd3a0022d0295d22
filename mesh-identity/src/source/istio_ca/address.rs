use std::{
    fmt,
    path::{Path, PathBuf},
};

use http::uri::Authority;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;

use crate::pem::{self, PemError};

/// Where an authority is, and how to know it.
#[derive(Clone, Debug)]
pub struct CaAddress {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: Authority,
    pub(super) security: Security,
}

#[derive(Clone)]
pub(super) enum Security {
    Tls { name: ServerName<'static>, roots: CaRoots },
    Plaintext,
}

impl CaAddress {
    /// An authority that speaks TLS at `host`, a DNS name or an IP address, and `port`; in Istio
    /// `istiod.istio-system.svc` and 15012. It has to present a certificate for `host` that leads to
    /// one of `roots`.
    ///
    /// # Errors
    ///
    /// `host` is neither a DNS name nor an IP address.
    pub fn new(host: &str, port: u16, roots: CaRoots) -> Result<Self, CaAddressError> {
        let name = server_name(host)?;
        Self::of(host, port, Security::Tls { name, roots })
    }

    /// An authority at `host` and `port` that speaks in the clear.
    ///
    /// Whoever sits between learns the bearer token, and may answer in the authority's place: with
    /// roots of its own choice, unless [`CaConfig::roots`](super::CaConfig::roots) are given. This is
    /// for connections that are protected otherwise.
    ///
    /// # Errors
    ///
    /// `host` is neither a DNS name nor an IP address.
    pub fn dangerous_plaintext(host: &str, port: u16) -> Result<Self, CaAddressError> {
        server_name(host)?;
        Self::of(host, port, Security::Plaintext)
    }

    /// Expects a certificate for `name` in place of the host's, as is needed where the authority is
    /// reached by another name than its own. Without effect in the clear.
    ///
    /// # Errors
    ///
    /// `name` is neither a DNS name nor an IP address.
    pub fn server_name(mut self, name: &str) -> Result<Self, CaAddressError> {
        let expected = server_name(name)?;
        if let Security::Tls { name, .. } = &mut self.security {
            *name = expected;
        }
        Ok(self)
    }

    fn of(host: &str, port: u16, security: Security) -> Result<Self, CaAddressError> {
        let host = host.to_owned();
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        match Authority::try_from(authority) {
            Ok(authority) => Ok(Self {
                host,
                port,
                authority,
                security,
            }),
            Err(_) => Err(CaAddressError { host }),
        }
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, CaAddressError> {
    ServerName::try_from(host.to_owned()).map_err(|_| CaAddressError { host: host.to_owned() })
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { name, roots } => write!(f, "Tls({name:?}, {roots:?})"),
            Self::Plaintext => f.write_str("Plaintext"),
        }
    }
}

/// The roots that an authority's own TLS certificate leads to.
#[derive(Clone)]
pub struct CaRoots(pub(super) RootsFrom);

#[derive(Clone)]
pub(super) enum RootsFrom {
    File(PathBuf),
    Text(Vec<CertificateDer<'static>>),
}

impl CaRoots {
    /// Those of a PEM file, which is read anew for every connection, so that a rotation is followed;
    /// in Istio `/var/run/secrets/istio/root-cert.pem`.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(RootsFrom::File(path.into()))
    }

    /// Those of a PEM text.
    ///
    /// # Errors
    ///
    /// As [`pem::certificates`].
    pub fn from_pem(text: &[u8]) -> Result<Self, PemError> {
        pem::certificates(text).map(|roots| Self(RootsFrom::Text(roots)))
    }
}

impl fmt::Debug for CaRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            RootsFrom::File(path) => write!(f, "CaRoots({})", Path::display(path)),
            RootsFrom::Text(roots) => write!(f, "CaRoots({} certificates)", roots.len()),
        }
    }
}

/// A host that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{host}` is neither a dns name nor an ip address")]
pub struct CaAddressError {
    host: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for (host, authority) in [
            ("istiod.istio-system.svc", "istiod.istio-system.svc:15012"),
            ("10.0.0.1", "10.0.0.1:15012"),
            ("fd00::1", "[fd00::1]:15012"),
        ] {
            let address = CaAddress::dangerous_plaintext(host, 15012).unwrap();
            assert_eq!(address.authority.as_str(), authority);
        }
        for host in ["", "a b", "user@host", "host:1", "https://host", "[fd00::1]", "a/b"] {
            let error = CaAddress::dangerous_plaintext(host, 1).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{host}` is neither a dns name nor an ip address")
            );
        }
    }
}
