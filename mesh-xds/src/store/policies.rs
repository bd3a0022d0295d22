use std::collections::BTreeMap;
use std::sync::Arc;

use super::model::{Policy, PolicyList, PolicyScope, Workload};

/// Policies that are remembered as not understood, each by itself.
const MAX_REFUSED: usize = 1024;

/// The policies of a mesh, by whom they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    by_key: PolicyList,
    global: PolicyList,
    by_namespace: Arc<BTreeMap<Arc<str>, PolicyList>>,
    refused: Arc<BTreeMap<Arc<str>, Refused>>,
}

/// A policy that there is and that nobody here understands.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// `None` if not even that is understood.
    scope: Option<PolicyScope>,
    /// Whether it is from an earlier stream, so that it may be gone.
    is_stale: bool,
}

impl Policies {
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Policy>> {
        self.by_key.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The policies for a workload, and the keys of those that may be for it and are not known.
    pub(super) fn of<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Result<&'a Arc<Policy>, &'a Arc<str>>> {
        let own = self.by_namespace.get(&workload.identity.namespace);
        let general = self
            .global
            .values()
            .chain(own.into_iter().flat_map(|list| list.values()));
        let selected = workload.policies.iter().map(|key| self.by_key.get(key).ok_or(key));
        let refused = self
            .refused
            .iter()
            .filter(|(key, refused)| refused.may_be_for(key, workload))
            .map(|(key, _)| Err(key));
        general.map(Ok).chain(selected).chain(refused)
    }

    pub(super) fn insert(&mut self, policy: Arc<Policy>) {
        self.remove(&policy.key);
        let list = match policy.scope {
            PolicyScope::Global => Some(&mut self.global),
            PolicyScope::Namespace => {
                let namespaces = Arc::make_mut(&mut self.by_namespace);
                Some(namespaces.entry(Arc::clone(&policy.namespace)).or_default())
            }
            PolicyScope::Selector => None,
        };
        if let Some(list) = list {
            Arc::make_mut(list).insert(Arc::clone(&policy.key), Arc::clone(&policy));
        }
        Arc::make_mut(&mut self.by_key).insert(Arc::clone(&policy.key), policy);
    }

    pub(super) fn remove(&mut self, key: &str) {
        if self.refused.contains_key(key) {
            Arc::make_mut(&mut self.refused).remove(key);
        }
        if !self.by_key.contains_key(key) {
            return;
        }
        let Some(policy) = Arc::make_mut(&mut self.by_key).remove(key) else {
            return;
        };
        match policy.scope {
            PolicyScope::Global => {
                Arc::make_mut(&mut self.global).remove(key);
            }
            PolicyScope::Namespace => {
                let namespaces = Arc::make_mut(&mut self.by_namespace);
                if let Some(list) = namespaces.get_mut(&policy.namespace) {
                    Arc::make_mut(list).remove(key);
                    if list.is_empty() {
                        namespaces.remove(&policy.namespace);
                    }
                }
            }
            PolicyScope::Selector => {}
        }
    }

    /// Remembers that there is a policy that is not understood, unless an earlier version is.
    pub(super) fn refuse(&mut self, key: &str, scope: Option<PolicyScope>) {
        if self.by_key.contains_key(key) {
            return;
        }
        let refused = Arc::make_mut(&mut self.refused);
        let is_known = refused.contains_key(key);
        // One without a name stands for all that there is no room for.
        let (key, scope) = if is_known || refused.len() < MAX_REFUSED {
            (key, scope)
        } else {
            ("", None)
        };
        let is_stale = false;
        refused.insert(key.into(), Refused { scope, is_stale });
    }

    /// What was refused may be taken back without a word.
    pub(super) fn doubt_refused(&mut self) {
        if !self.refused.is_empty() {
            let all = Arc::make_mut(&mut self.refused).values_mut();
            all.for_each(|refused| refused.is_stale = true);
        }
    }

    /// What has not been refused again is not there any more.
    pub(super) fn forget_doubted(&mut self) {
        if self.refused.values().any(|refused| refused.is_stale) {
            Arc::make_mut(&mut self.refused).retain(|_, refused| !refused.is_stale);
        }
    }
}

impl Refused {
    /// One that selects is asked for by the workloads themselves.
    fn may_be_for(self, key: &str, workload: &Workload) -> bool {
        match self.scope {
            Some(PolicyScope::Selector) => false,
            Some(PolicyScope::Namespace) => key.split('/').next() == Some(&*workload.identity.namespace),
            Some(PolicyScope::Global) | None => true,
        }
    }
}
