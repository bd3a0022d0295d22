//! Open connections, held to the trust that they began with.
//!
//! A handshake is a verdict of one moment. Afterwards a root may be replaced, a certificate revoked,
//! a policy changed, or the certificate expires, and nothing in TLS would ever notice. [`Live`]
//! does: a connection is registered with the peer that was verified, and its [`Guard`] says when the
//! ground that it stands on is gone, and why.
//!
//! - **Exactly those affected.** A connection is judged again only when something it depends on has
//!   changed: its trust domain's bundle no longer has its anchor, a revocation list names one of its
//!   certificates, the names of its trust domain are others, its [`Scope`] has another policy, its
//!   own identity is gone. It stays open if its peer would be accepted today as well, such as by
//!   another root that is in its chain.
//!   A revocation list that merely grows old closes nothing, even under a profile that refuses new
//!   handshakes for it.
//! - **No gap.** Registering judges the peer by what the source has published by then, whatever it
//!   was verified with. What is published later finds the connection registered.
//! - **Nobody unwatched.** Where the driver is gone, be it by a panic, open connections are to be
//!   closed and no others are admitted.
//! - **Rotation is no reason.** A new SVID of one's own, a new root beside the old one, or a root
//!   that leaves after its last certificate closes nothing.
//!
//! ```
//! # #[cfg(all(feature = "dev-ca", feature = "aws-lc-rs"))]
//! # mod example {
//! use mesh_identity::{PeerPolicy, live::{CloseReason, Live, Urgency}, source::{Source, dev_ca::DevCaSource}};
//! use mesh_identity::{SpiffeId, VerifiedPeer};
//! # async fn example(source: DevCaSource, own: SpiffeId, peer: VerifiedPeer) -> Result<(), CloseReason> {
//!
//! let provider = mesh_identity::provider::aws_lc_rs();
//! let (live, driver) = Live::builder(source.follow(), provider).build();
//! let listener = live.scope(PeerPolicy::member_of(peer.id().trust_domain().clone()));
//!
//! // After each handshake, with what it yielded:
//! let mut guard = listener.register(&own, peer)?;
//! tokio::select! {
//!     closing = guard.closed() => match closing.urgency() {
//!         Urgency::Drain => { /* finish what is under way */ }
//!         Urgency::Abort => { /* drop it all */ }
//!     },
//!     () = driver => unreachable!("never completes"),
//! }
//! # Ok(())
//! # }
//! # }
//! ```

mod closing;
mod judge;
mod registry;
mod tracker;

pub use self::{
    closing::{ClosePolicy, CloseReason, Closing, Urgency},
    tracker::{Guard, Live, LiveBuilder, Scope},
};
