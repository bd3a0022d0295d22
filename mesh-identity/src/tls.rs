//! rustls configurations for mutually authenticated mesh connections.
//!
//! A side is built from an identity, the trust in others and a [`PeerPolicy`], in this order; the
//! type of the builder sees to it that none is left out. Fixed for both sides, because a mesh has
//! one correct answer: TLS 1.3, ALPN `h2`, certificates from both, no session resumption, no
//! tickets, no early data, no server name sent, no list of accepted authorities sent.
//!
//! A server that also has to serve clients without a certificate says so with
//! [`or_anonymous`](TlsBuilder::or_anonymous), and is a [`PermissiveServerTls`] from there on.
//!
#![cfg_attr(
    feature = "source",
    doc = "[`Identities`] makes these of what a source publishes, for each identity of a process, once."
)]
//!
//! Leaving out the policy does not compile:
//!
//! ```compile_fail,E0599
//! # use std::sync::Arc;
//! # use mesh_identity::{Svid, TrustBundles, tls::ServerTls};
//! fn careless(provider: Arc<rustls::crypto::CryptoProvider>, svid: Arc<Svid>, trust: Arc<TrustBundles>) {
//!     let _ = ServerTls::builder(provider).identity(svid).trust(trust).build();
//! }
//! ```
//!
//! Nor does leaving out the trust:
//!
//! ```compile_fail,E0599
//! # use std::sync::Arc;
//! # use mesh_identity::{PeerPolicy, Svid, tls::ClientTls};
//! fn careless(provider: Arc<rustls::crypto::CryptoProvider>, svid: Arc<Svid>, policy: PeerPolicy) {
//!     let _ = ClientTls::builder(provider).identity(svid).authorize(policy).build();
//! }
//! ```

mod builder;
mod client;
mod end;
mod handshake;
#[cfg(feature = "source")]
mod identities;
mod server;
#[cfg(feature = "source")]
mod shelf;
mod verdicts;
mod verifier;

#[cfg(feature = "source")]
pub use self::identities::{Identities, IdentityUnavailable};
#[cfg(feature = "federation")]
pub(crate) use self::verifier::{Anonymity, Expectations, PeerVerifier};
pub use self::{
    builder::{BuildError, Ready, TlsBuilder, WantsIdentity, WantsPolicy, WantsTrust},
    client::{Client, ClientTls},
    end::{End, Side},
    handshake::{Blame, HandshakeError, Unsupported},
    server::{Caller, PermissiveServer, PermissiveServerTls, Server, ServerTls},
};
#[cfg(doc)]
use crate::PeerPolicy;
