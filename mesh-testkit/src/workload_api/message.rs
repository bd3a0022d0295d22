use mesh_identity::source::dev_ca::{DevCa, Issued};
use mesh_identity::{SpiffeId, TrustDomain};
use rustls::pki_types::CertificateDer;

use super::protobuf::Writer;

/// A message of the X.509 stream: what a workload is and whom it may believe, with any field wrong.
#[derive(Clone, Debug, Default)]
pub struct X509Message(Writer);

impl X509Message {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With an SVID of `issued`, which is to bear the name `id`, and the bundle of its issuer.
    #[must_use]
    pub fn svid(self, id: &SpiffeId, issued: &Issued, authority: &DevCa) -> Self {
        self.with(X509Entry::new(id, issued, [authority.root_certificate()]))
    }

    /// With an SVID of any kind.
    #[must_use]
    pub fn with(self, entry: X509Entry) -> Self {
        let X509Entry {
            id,
            chain,
            key,
            bundle,
            hint,
        } = entry;
        let entry = Writer::default()
            .field(1, id)
            .field(2, chain)
            .field(3, key)
            .field(4, bundle)
            .field(5, hint);
        Self(self.0.field(1, entry.finish()))
    }

    /// With a revocation list, or what is to be taken for one.
    #[must_use]
    pub fn revocation_list(self, der: &[u8]) -> Self {
        Self(self.0.field(2, der))
    }

    /// With the bundle of another trust domain.
    #[must_use]
    pub fn federated<'r>(
        self,
        trust_domain: &TrustDomain,
        roots: impl IntoIterator<Item = &'r CertificateDer<'static>>,
    ) -> Self {
        self.federated_under(&format!("spiffe://{trust_domain}"), &run(roots))
    }

    /// With a bundle of these bytes under any name.
    #[must_use]
    pub fn federated_under(self, name: &str, bundle: &[u8]) -> Self {
        let entry = Writer::default().field(1, name).field(2, bundle);
        Self(self.0.field(3, entry.finish()))
    }

    pub(super) fn encode(self) -> Vec<u8> {
        self.0.finish()
    }
}

/// One SVID of an [`X509Message`], each field as it goes over the wire.
#[derive(Clone, Debug)]
pub struct X509Entry {
    /// The name beside the certificate.
    pub id: String,
    /// Certificates in DER, one after the other.
    pub chain: Vec<u8>,
    /// The key in PKCS#8.
    pub key: Vec<u8>,
    /// Roots in DER, one after the other.
    pub bundle: Vec<u8>,
    /// What the operator says about the use of the identity.
    pub hint: String,
}

impl X509Entry {
    /// An SVID as it should be, without a hint.
    #[must_use]
    pub fn new<'r>(
        id: &SpiffeId,
        issued: &Issued,
        roots: impl IntoIterator<Item = &'r CertificateDer<'static>>,
    ) -> Self {
        Self {
            id: id.to_string(),
            chain: run(issued.chain()),
            key: issued.key().secret_der().to_vec(),
            bundle: run(roots),
            hint: String::new(),
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: &str) -> Self {
        Self {
            hint: hint.to_owned(),
            ..self
        }
    }
}

/// A message of the JWT bundles stream: a key set for each name.
#[must_use]
pub fn jwt_bundles<'b>(bundles: impl IntoIterator<Item = (&'b str, &'b str)>) -> Vec<u8> {
    let message = bundles.into_iter().fold(Writer::default(), |message, (name, keys)| {
        message.field(1, Writer::default().field(1, name).field(2, keys).finish())
    });
    message.finish()
}

/// The answer to a request for JWT-SVIDs: a token with the name beside it and a hint, each.
#[must_use]
pub fn jwt_svids<'s>(svids: impl IntoIterator<Item = (&'s str, &'s str, &'s str)>) -> Vec<u8> {
    let message = svids.into_iter().fold(Writer::default(), |message, (id, token, hint)| {
        message.field(
            1,
            Writer::default().field(1, id).field(2, token).field(3, hint).finish(),
        )
    });
    message.finish()
}

/// The answer to a request to validate a JWT-SVID.
#[must_use]
pub fn validated(id: &str) -> Vec<u8> {
    Writer::default().field(1, id).finish()
}

fn run<'r>(certificates: impl IntoIterator<Item = &'r CertificateDer<'static>>) -> Vec<u8> {
    certificates
        .into_iter()
        .flat_map(|certificate| certificate.to_vec())
        .collect()
}
