use std::{sync::Arc, time::Duration};

use mesh_identity::jws::KeySet;

/// Where the keys of rules come from that do not have them inline.
///
/// Asked in the middle of a request, so an answer must not wait: whoever implements it fetches keys
/// beforehand and keeps them. Keys belong to the pair of issuer and address; taking them by anything
/// that a token says, such as its key ID, would let one issuer speak for another. Addresses come
/// from policies, so a fetcher should refuse those that its operator would not want to be called.
pub trait KeySource {
    /// The keys as they are now. `None` says that there are none to be had, and refuses the tokens
    /// that need them.
    fn keys(&self, wanted: &WantedKeys<'_>) -> Option<Arc<KeySet>>;
}

/// Which keys a rule wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WantedKeys<'r> {
    /// The issuer; empty if the address alone decides.
    pub issuer: &'r str,
    /// Where the keys are. If the rule does not say, the issuer's discovery document does, at
    /// `/.well-known/openid-configuration` below the issuer (OpenID Connect Discovery §4).
    pub uri: Option<&'r str>,
    /// How long fetching them may take.
    pub timeout: Duration,
}

/// No keys but those inline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InlineOnly;

impl KeySource for InlineOnly {
    fn keys(&self, _: &WantedKeys<'_>) -> Option<Arc<KeySet>> {
        None
    }
}
