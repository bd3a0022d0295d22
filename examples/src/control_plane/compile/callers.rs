//! Who calls the control plane, by tokens.

use std::collections::HashMap;

use rustls::pki_types::UnixTime;

use super::super::objects::{Bearer, DEFAULT_ACCOUNT, Key, Objects, Secret};
use super::waypoints::GATEWAY_NAME;
use super::{MeshError, Notice, Settings};

/// The service account that brings a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control_plane) struct Caller {
    pub(in crate::control_plane) account: Key,
    /// The node of the Pod that the token is bound to, if the account is one that speaks for nodes.
    pub(in crate::control_plane) node: Option<String>,
    /// The waypoint that it is, as the directory has it.
    pub(in crate::control_plane) waypoint: Option<Key>,
    /// When the token ends by its own words.
    pub(in crate::control_plane) expires: Option<UnixTime>,
}

pub(super) fn compile(
    objects: &Objects,
    settings: &Settings,
    notices: &mut Vec<Notice>,
) -> Result<HashMap<Bearer, Caller>, MeshError> {
    let mut known: HashMap<Bearer, &Secret> = HashMap::new();
    let mut callers = HashMap::new();
    for secret in objects.secrets.values() {
        let place = secret.metadata.place.clone();
        if let Some(other) = known.insert(secret.token.clone(), secret) {
            let other = other.metadata.key.clone();
            return Err(MeshError::SharedToken { place, other });
        }
        match caller(objects, settings, secret) {
            Ok(caller) => {
                callers.insert(secret.token.clone(), caller);
            }
            Err(reason) => notices.push(Notice::Token { place, reason }),
        }
    }
    Ok(callers)
}

/// Whom a token stands for, as long as its account and its Pod are there.
fn caller(objects: &Objects, settings: &Settings, secret: &Secret) -> Result<Caller, &'static str> {
    let account = secret.account.clone();
    if account.name != DEFAULT_ACCOUNT && !objects.accounts.contains_key(&account) {
        return Err("there is no such ServiceAccount");
    }
    let mut node = None;
    if let Some(pod) = &secret.pod {
        let pod = objects.pods.get(pod).ok_or("there is no such Pod")?;
        if pod.account != account.name {
            return Err("its Pod has another service account");
        }
        if pod.has_ended {
            return Err("its Pod has ended");
        }
        node = Some(pod.node.clone()).filter(|node| !node.is_empty() && account == settings.node_account);
    }
    Ok(Caller {
        waypoint: waypoint(objects, secret),
        account,
        node,
        expires: secret.expires,
    })
}

/// The waypoint whose token it is: that of its Pod, as the Pod's label says, or else the one that is
/// called like the account. Both are of the account's own namespace.
fn waypoint(objects: &Objects, secret: &Secret) -> Option<Key> {
    let waypoint = match &secret.pod {
        Some(pod) => pod.beside(objects.pods.get(pod)?.metadata.label(GATEWAY_NAME)?),
        None => secret.account.clone(),
    };
    objects.gateways.contains_key(&waypoint).then_some(waypoint)
}
