#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
};

use rustls_pki_types::UnixTime;

use super::{
    closing::CloseReason,
    judge::{Grounds, Rules, Stage},
};
use crate::{
    authorize::PeerPolicy,
    bundle::{Anchor, TrustBundle},
    revocation::RevocationList,
    source::Snapshot,
    spiffe_id::SpiffeId,
    trust_domain::TrustDomain,
    verify::VerifiedPeer,
};

/// Names a connection. No name is given twice.
pub(super) type Key = u64;
/// Names a scope. No name is given twice.
pub(super) type ScopeKey = u64;

/// How many bytes of a revocation list are hashed while one signature is checked, roughly.
const BYTES_PER_SIGNATURE: usize = 128 << 10;

/// The open connections, and what each depends on.
///
/// A change makes suspects of the connections that it may concern, found by the indexes; suspects
/// are judged by and by, so that no single call takes long.
pub(super) struct Registry {
    rules: Arc<Rules>,
    snapshot: Arc<Snapshot>,
    connections: HashMap<Key, Connection>,
    scopes: HashMap<ScopeKey, Members>,
    by_anchor: HashMap<TrustDomain, Index<Arc<Anchor>>>,
    by_local: Index<SpiffeId>,
    deadlines: BTreeSet<(UnixTime, Key)>,
    suspects: VecDeque<Key>,
    last_key: u64,
}

struct Connection {
    grounds: Grounds,
    scope: ScopeKey,
    is_suspect: bool,
}

/// What a new connection is judged by: nothing that is in the registry itself, so that others may
/// use it in the meantime.
pub(super) struct Terms {
    rules: Arc<Rules>,
    snapshot: Arc<Snapshot>,
    policy: PeerPolicy,
}

/// The connections that one policy decides about.
struct Members {
    policy: PeerPolicy,
    connections: HashSet<Key>,
    /// Whether more may come.
    is_open: bool,
}

impl Registry {
    pub(super) fn new(rules: Rules, snapshot: Arc<Snapshot>) -> Self {
        Self {
            rules: Arc::new(rules),
            snapshot,
            connections: HashMap::new(),
            scopes: HashMap::new(),
            by_anchor: HashMap::new(),
            by_local: HashMap::new(),
            deadlines: BTreeSet::new(),
            suspects: VecDeque::new(),
            last_key: 0,
        }
    }

    pub(super) fn open_scope(&mut self, policy: PeerPolicy) -> ScopeKey {
        let key = self.new_key();
        let members = Members {
            policy,
            connections: HashSet::new(),
            is_open: true,
        };
        self.scopes.insert(key, members);
        key
    }

    /// No more connections come; those that there are keep their policy.
    pub(super) fn close_scope(&mut self, key: ScopeKey) {
        if let Some(members) = self.scopes.get_mut(&key) {
            members.is_open = false;
            if members.connections.is_empty() {
                self.scopes.remove(&key);
            }
        }
    }

    /// What a new connection of this scope is judged by.
    ///
    /// # Errors
    ///
    /// The scope is closed; it is open as long as somebody can register in it.
    pub(super) fn terms(&self, scope: ScopeKey) -> Result<Terms, CloseReason> {
        let members = self.scopes.get(&scope).ok_or(CloseReason::Deauthorized)?;
        Ok(Terms {
            rules: Arc::clone(&self.rules),
            snapshot: Arc::clone(&self.snapshot),
            policy: members.policy.clone(),
        })
    }

    /// Takes in a connection that was judged by the terms of this moment.
    pub(super) fn admit(&mut self, scope: ScopeKey, grounds: Grounds) -> Key {
        let key = self.new_key();
        self.insert(
            key,
            Connection {
                grounds,
                scope,
                is_suspect: false,
            },
        );
        key
    }

    pub(super) fn remove(&mut self, key: Key) {
        let Some(connection) = self.connections.remove(&key) else {
            return;
        };
        drop_from(&mut self.by_local, &connection.grounds.local, key);
        self.leave(key, &connection.grounds.peer);
        if let Some(members) = self.scopes.get_mut(&connection.scope) {
            members.connections.remove(&key);
            if members.connections.is_empty() && !members.is_open {
                self.scopes.remove(&connection.scope);
            }
        }
    }

    /// From now on this snapshot counts.
    pub(super) fn apply(&mut self, snapshot: Arc<Snapshot>) {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        let mut concerned = Vec::new();
        for (local, keys) in &self.by_local {
            if self.snapshot.svid(local).is_none() {
                concerned.extend(keys);
            }
        }
        if !Arc::ptr_eq(before.trust(), self.snapshot.trust()) {
            for (trust_domain, index) in &self.by_anchor {
                self.concerned_in(trust_domain, index, &before, &mut concerned);
            }
        }
        self.suspect(concerned);
    }

    /// From now on this policy decides about the connections of a scope.
    pub(super) fn set_policy(&mut self, scope: ScopeKey, policy: PeerPolicy) {
        let Some(members) = self.scopes.get_mut(&scope) else {
            return;
        };
        if members.policy != policy {
            members.policy = policy;
            let concerned = members.connections.iter().copied().collect();
            self.suspect(concerned);
        }
    }

    /// Judges some suspects, one or as many as may cost up to `budget` signatures, and says which
    /// connections are to be closed. They are no longer held.
    pub(super) fn judge(&mut self, now: UnixTime, budget: usize) -> Vec<(Key, CloseReason)> {
        self.suspect_expired(now);
        let mut closing = Vec::new();
        let mut spent = 0;
        while spent < budget {
            let Some(key) = self.suspects.pop_front() else {
                break;
            };
            spent += self.cost(key);
            if let Err(reason) = self.judge_one(key, now) {
                self.remove(key);
                closing.push((key, reason));
            }
        }
        closing
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The last second in which no connection has reached its deadline.
    pub(super) fn next_deadline(&self) -> Option<UnixTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(super) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// The members of a trust domain that a change of snapshot may concern.
    fn concerned_in(
        &self,
        trust_domain: &TrustDomain,
        index: &Index<Arc<Anchor>>,
        before: &Snapshot,
        concerned: &mut Vec<Key>,
    ) {
        let (old, new) = (before.trust(), self.snapshot.trust());
        let members = || index.values().flatten();
        if old.aliases().synonyms(trust_domain) != new.aliases().synonyms(trust_domain) {
            return concerned.extend(members());
        }
        let (old, new) = (old.for_members_of(trust_domain), new.for_members_of(trust_domain));
        let Some(new) = new else {
            return concerned.extend(members());
        };
        if old == Some(new) {
            return;
        }
        let orphans = index.iter().filter(|(anchor, _)| !new.holds(anchor));
        concerned.extend(orphans.flat_map(|(_, keys)| keys));
        if old.map(TrustBundle::revocation_lists) != Some(new.revocation_lists()) {
            concerned
                .extend(members().filter(|key| self.rules.ask_for_lists(Stage::Open) || self.is_listed(**key, new)));
        }
    }

    fn is_listed(&self, key: Key, bundle: &TrustBundle) -> bool {
        let connection = self.connections.get(&key);
        connection.is_some_and(|connection| connection.grounds.are_listed(bundle))
    }

    fn suspect(&mut self, keys: Vec<Key>) {
        for key in keys {
            if let Some(connection) = self.connections.get_mut(&key)
                && !connection.is_suspect
            {
                connection.is_suspect = true;
                self.suspects.push_back(key);
            }
        }
    }

    fn suspect_expired(&mut self, now: UnixTime) {
        let expired = self.deadlines.iter().take_while(|(deadline, _)| *deadline < now);
        let expired = expired.map(|(_, key)| *key).collect();
        self.suspect(expired);
    }

    /// What judging a connection may cost, in signatures.
    fn cost(&self, key: Key) -> usize {
        let connection = self.connections.get(&key);
        let trust_domain = connection.map(|connection| connection.grounds.peer.id().trust_domain());
        let bundle = trust_domain.and_then(|name| self.snapshot.trust().for_members_of(name));
        let lists = bundle.map_or(&[][..], TrustBundle::revocation_lists);
        1 + lists.iter().map(RevocationList::size).sum::<usize>() / BYTES_PER_SIGNATURE
    }

    fn judge_one(&mut self, key: Key, now: UnixTime) -> Result<(), CloseReason> {
        let Some(connection) = self.connections.get_mut(&key) else {
            return Ok(());
        };
        connection.is_suspect = false;
        let policy = self.scopes.get(&connection.scope).map(|members| &members.policy);
        let policy = policy.ok_or(CloseReason::Deauthorized)?;
        let anew = self
            .rules
            .judge(&connection.grounds, Stage::Open, policy, &self.snapshot, now)?;
        if let Some(anew) = anew {
            self.renew(key, &anew);
        }
        Ok(())
    }

    fn insert(&mut self, key: Key, connection: Connection) {
        let Grounds { local, peer, .. } = &connection.grounds;
        self.by_local.entry(local.clone()).or_default().insert(key);
        if let Some(members) = self.scopes.get_mut(&connection.scope) {
            members.connections.insert(key);
        }
        self.enter(key, peer);
        self.connections.insert(key, connection);
    }

    /// Puts a connection where its peer, verified anew, belongs by now.
    fn renew(&mut self, key: Key, peer: &VerifiedPeer) {
        if let Some(connection) = self.connections.get_mut(&key) {
            let before = std::mem::replace(&mut connection.grounds.peer, peer.clone());
            self.leave(key, &before);
            self.enter(key, peer);
        }
    }

    fn enter(&mut self, key: Key, peer: &VerifiedPeer) {
        self.by_anchor
            .entry(peer.id().trust_domain().clone())
            .or_default()
            .entry(Arc::clone(peer.anchor()))
            .or_default()
            .insert(key);
        self.deadlines
            .extend(self.rules.deadline(peer).map(|deadline| (deadline, key)));
    }

    fn leave(&mut self, key: Key, peer: &VerifiedPeer) {
        let trust_domain = peer.id().trust_domain();
        if let Some(index) = self.by_anchor.get_mut(trust_domain) {
            drop_from(index, peer.anchor(), key);
            if index.is_empty() {
                self.by_anchor.remove(trust_domain);
            }
        }
        if let Some(deadline) = self.rules.deadline(peer) {
            self.deadlines.remove(&(deadline, key));
        }
    }

    fn new_key(&mut self) -> u64 {
        self.last_key += 1;
        self.last_key
    }
}

impl Terms {
    pub(super) fn judge(&self, grounds: &mut Grounds, now: UnixTime) -> Result<(), CloseReason> {
        let anew = self
            .rules
            .judge(grounds, Stage::New, &self.policy, &self.snapshot, now)?;
        if let Some(anew) = anew {
            grounds.peer = anew;
        }
        Ok(())
    }

    pub(super) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &others.snapshot) && self.policy == others.policy
    }
}

/// Connections by what they depend on; no set is empty.
type Index<T> = HashMap<T, HashSet<Key>>;

fn drop_from<T: Eq + Hash>(index: &mut Index<T>, place: &T, key: Key) {
    if let Some(keys) = index.get_mut(place) {
        keys.remove(&key);
        if keys.is_empty() {
            index.remove(place);
        }
    }
}
