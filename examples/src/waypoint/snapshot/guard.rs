//! Who may use something, and whose tokens are believed there.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_policy::authz::attach::Recipient;
use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, PolicySet, RequestAuthentication, TrustDomains};
use mesh_policy::jwt::Authenticator;

use super::frame::Terms;
use super::index::Index;

/// Who may use something, and whose tokens are believed there.
#[derive(Debug)]
pub(in crate::waypoint) struct Guard {
    pub(in crate::waypoint) protection: Protection,
    /// What the protection was made of.
    policies: Box<[Arc<AuthorizationPolicy>]>,
    /// Whose tokens are believed, or why nobody's request can be judged.
    pub(in crate::waypoint) authenticator: Authentication,
    /// What that was made of.
    believed: Box<[Arc<RequestAuthentication>]>,
}

/// Who may use something.
#[derive(Clone, Debug)]
pub(in crate::waypoint) enum Protection {
    Policies(Arc<PolicySet>),
    /// Nobody, because a policy that counts is not to be had.
    Closed(Arc<str>),
}

type Authentication = Result<Arc<Authenticator>, Arc<str>>;

impl Guard {
    /// Why nobody is let pass at all.
    pub(in crate::waypoint) fn closed(&self) -> Option<&str> {
        self.reasons().next()
    }

    /// What is wrong with it.
    pub(super) fn reasons(&self) -> impl Iterator<Item = &str> {
        let of_policies = match &self.protection {
            Protection::Policies(_) => None,
            Protection::Closed(reason) => Some(&**reason),
        };
        let of_tokens = self.authenticator.as_ref().err().map(|reason| &**reason);
        of_policies.into_iter().chain(of_tokens)
    }

    /// Whether nobody may use it whatever policies say that are about it.
    fn was_closed(&self) -> bool {
        self.policies.is_empty() && matches!(self.protection, Protection::Closed(_))
    }

    /// Whether all of it is the same as that of another, and not only alike.
    fn is(&self, other: &Self) -> bool {
        let protection = match (&self.protection, &other.protection) {
            (Protection::Policies(one), Protection::Policies(other)) => Arc::ptr_eq(one, other),
            (Protection::Closed(one), Protection::Closed(other)) => one == other,
            _ => false,
        };
        let authenticator = match (&self.authenticator, &other.authenticator) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.as_ref().err() == other.as_ref().err(),
        };
        protection
            && authenticator
            && are_same(&self.policies, &other.policies)
            && are_same(&self.believed, &other.believed)
    }
}

/// Makes guards.
pub(super) struct Guards<'a> {
    terms: &'a Terms,
    index: &'a Index<'a>,
    version: &'a mut u64,
    /// Where the same policies and authentications are about two things these share a guard,
    known: HashMap<(Addresses, Addresses), Arc<Guard>>,
    /// where the same policies are, a set,
    protections: HashMap<Addresses, Protection>,
    /// and where the same authentications are, what verifies tokens.
    authenticators: HashMap<Addresses, Authentication>,
}

/// Names objects, as long as they are there.
type Addresses = Box<[usize]>;

impl<'a> Guards<'a> {
    /// `version` is that of the policies that were compiled last.
    pub(super) fn new(terms: &'a Terms, index: &'a Index<'a>, version: &'a mut u64) -> Self {
        Self {
            terms,
            index,
            version,
            known: HashMap::new(),
            protections: HashMap::new(),
            authenticators: HashMap::new(),
        }
    }

    /// That of a recipient, which is `before` if it is still the same.
    pub(super) fn of(&mut self, recipient: &Recipient<'_>, before: Option<&Arc<Guard>>) -> Arc<Guard> {
        let root = &self.terms.root_namespace;
        let policies = self.index.policies.about(name(recipient));
        let policies = policies.filter(|policy| recipient.is_subject_to(policy, root));
        let believed = self.index.authentications.about(name(recipient));
        let believed = believed.filter(|found| recipient.believes_by(found, root));
        let (policies, believed): (Box<[_]>, Box<[_]>) = match self.index.closed {
            Some(_) => (Box::default(), believed.cloned().collect()),
            None => (policies.cloned().collect(), believed.cloned().collect()),
        };
        let names = (addresses(&policies), addresses(&believed));
        if let Some(known) = self.known.get(&names) {
            return Arc::clone(known);
        }
        let guard = Guard {
            protection: self.protection(&policies, &names.0, before),
            policies,
            authenticator: self.authenticator(&believed, &names.1, before),
            believed,
        };
        let guard = match before.filter(|before| before.is(&guard)) {
            Some(before) => Arc::clone(before),
            None => Arc::new(guard),
        };
        self.known.insert(names, Arc::clone(&guard));
        guard
    }

    fn protection(
        &mut self,
        policies: &[Arc<AuthorizationPolicy>],
        names: &Addresses,
        before: Option<&Arc<Guard>>,
    ) -> Protection {
        if let Some(reason) = &self.index.closed {
            return Protection::Closed(Arc::clone(reason));
        }
        if let Some(known) = self.protections.get(names) {
            return known.clone();
        }
        let same = before.filter(|before| *before.policies == *policies && !before.was_closed());
        let protection = match same {
            Some(before) => before.protection.clone(),
            None => self.compiled(policies),
        };
        self.protections.insert(names.clone(), protection.clone());
        protection
    }

    fn compiled(&mut self, policies: &[Arc<AuthorizationPolicy>]) -> Protection {
        *self.version += 1;
        let compiler = Compiler::new(Dialect::Strict)
            .trust_domains(TrustDomains::new(&self.terms.trust_domain))
            .version(*self.version);
        match compiler.compile(policies.iter().cloned()) {
            Ok(set) => Protection::Policies(Arc::new(set)),
            Err(error) => Protection::Closed(error.to_string().into()),
        }
    }

    fn authenticator(
        &mut self,
        believed: &[Arc<RequestAuthentication>],
        names: &Addresses,
        before: Option<&Arc<Guard>>,
    ) -> Authentication {
        if let Some(known) = self.authenticators.get(names) {
            return known.clone();
        }
        let authenticator = match before.filter(|before| *before.believed == *believed) {
            Some(before) => before.authenticator.clone(),
            None => Authenticator::new(believed.iter().map(|found| &**found))
                .map(Arc::new)
                .map_err(|error| error.to_string().into()),
        };
        self.authenticators.insert(names.clone(), authenticator.clone());
        authenticator
    }
}

/// The namespace and name of the service that is asked for, if it is one.
fn name<'r>(recipient: &Recipient<'r>) -> Option<(&'r str, &'r str)> {
    match recipient {
        Recipient::Waypoint { service, .. } => service.map(|service| (service.namespace, service.name)),
        _ => None,
    }
}

fn are_same<T>(these: &[Arc<T>], others: &[Arc<T>]) -> bool {
    these.len() == others.len() && these.iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other))
}

fn addresses<T>(objects: &[Arc<T>]) -> Addresses {
    objects.iter().map(|object| Arc::as_ptr(object).addr()).collect()
}
