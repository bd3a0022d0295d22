//! Policies as Envoy's RBAC filters, as istiod writes them.
//!
//! For what a plane of Envoy would be sent: to compare it with what a control plane sends, to run
//! Envoy without one, and to hold this crate's decisions against Envoy's own.
//!
//! ```
//! use mesh_policy::authz::{AuthorizationPolicy, Compiler, Dialect, envoy, model::Rule};
//!
//! let set = Compiler::new(Dialect::EnvoyHttp)
//!     .compile([AuthorizationPolicy::deny("shop", "closed").rule(Rule::new())])?;
//! let filters = envoy::export(&set, envoy::PeerSource::Certificate)?;
//! let json = serde_json::to_value(&filters)?;
//! assert_eq!(json[0]["name"], "envoy.filters.http.rbac");
//! assert_eq!(json[0]["typed_config"]["rules"]["action"], "DENY");
//! let read: Vec<envoy::Filter> = serde_json::from_value(json)?;
//! assert_eq!(read, filters);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Filter`] implements serde's traits in the JSON form of its protobuf message, with the names of
//! fields as in the `.proto` files. Reading refuses whatever istiod does not write. With the feature
//! `k8s`, `read` makes policies of filters again.

use std::collections::BTreeMap;

pub use self::{
    config::Filter,
    value::{ExportError, PeerSource},
};
use self::{
    config::{Action, Config, HttpRbac, NetworkRbac, Policy, Rbac},
    rule::Translation,
    value::Writer,
};
#[cfg(feature = "k8s")]
pub use self::{
    fault::{ReadError, ReadFault},
    read::read,
};
use super::{
    compile::{PolicySet, RuleName},
    dialect::Dialect,
    model::{self, AuthorizationPolicy},
};

mod config;
#[cfg(feature = "k8s")]
mod fault;
#[cfg(feature = "k8s")]
mod half;
#[cfg(feature = "k8s")]
mod inverse;
#[cfg(feature = "k8s")]
mod message;
#[cfg(feature = "k8s")]
mod read;
mod rule;
mod text;
mod value;

/// The filters for a set's policies, in the order in which istiod puts them: what CUSTOM policies
/// ask about for each provider, sorted; then AUDIT, DENY and ALLOW. A class without policies has no
/// filter.
///
/// Of what decides CUSTOM policies there is only the filter that finds out which rule matches. It
/// leaves that under `istio_ext_authz_shadow_effective_policy_id`; the filter that asks the provider
/// depends on where that is, and goes behind it.
///
/// As from istiod, invalid values are left out: of a rule that allows, the whole rule, and of others
/// the value. [`PolicySet::diagnostics`] tells which.
///
/// # Errors
///
/// A set of another plane's dialect, or a header that Envoy does not take.
pub fn export(set: &PolicySet, peer: PeerSource) -> Result<Vec<Filter>, ExportError> {
    let dialect = set.dialect();
    if !matches!(dialect, Dialect::EnvoyHttp | Dialect::EnvoyTcp) {
        return Err(ExportError::Dialect { dialect });
    }
    let mut filters = Vec::new();
    for provider in set.providers() {
        let rules = rules(
            set,
            peer,
            Action::Deny,
            |policy| matches!(policy.action(), model::Action::Custom { provider: name } if **name == *provider),
        )?;
        filters.push(filter(dialect, None, rules, Some("istio_ext_authz_")));
    }
    for (action, written, prefix) in [
        (model::Action::Audit, Action::Log, None),
        (model::Action::Deny, Action::Deny, Some("istio_dry_run_deny_")),
        (model::Action::Allow, Action::Allow, Some("istio_dry_run_allow_")),
    ] {
        let class = |dry_run| {
            rules(set, peer, written, |policy| {
                *policy.action() == action && policy.is_dry_run() == dry_run
            })
        };
        let (enforced, tried) = (class(false)?, class(true)?);
        if enforced.is_some() || tried.is_some() {
            filters.push(filter(dialect, enforced, tried, prefix));
        }
    }
    Ok(filters)
}

/// The rules of a class of policies, if there is a policy of it.
fn rules(
    set: &PolicySet,
    peer: PeerSource,
    action: Action,
    is_in_class: impl Fn(&AuthorizationPolicy) -> bool,
) -> Result<Option<Rbac>, ExportError> {
    let mut is_empty = true;
    let mut policies = BTreeMap::new();
    for policy in set.policies().filter(|policy| is_in_class(policy)) {
        is_empty = false;
        let translation = Translation {
            policy,
            dialect: set.dialect(),
            writer: Writer {
                namespace: &policy.name().namespace,
                trust_domains: set.trust_domains(),
                peer,
            },
        };
        for (index, rule) in policy.rules().iter().enumerate() {
            if let Some(written) = translation.rule(rule)? {
                policies.insert(RuleName::new(policy, index).to_string(), written);
            }
        }
        if policy.rules().is_empty() {
            policies.insert(RuleName::new(policy, 0).to_string(), Policy::never());
        }
    }
    Ok((!is_empty).then_some(Rbac { action, policies }))
}

fn filter(dialect: Dialect, rules: Option<Rbac>, shadow_rules: Option<Rbac>, prefix: Option<&str>) -> Filter {
    let shadow_rules_stat_prefix = prefix.filter(|_| shadow_rules.is_some()).map(str::to_owned);
    let (name, typed_config) = if dialect == Dialect::EnvoyTcp {
        let rbac = NetworkRbac {
            rules,
            shadow_rules,
            shadow_rules_stat_prefix,
            stat_prefix: "tcp.".to_owned(),
        };
        ("envoy.filters.network.rbac", Config::Network(rbac))
    } else {
        let rbac = HttpRbac {
            rules,
            shadow_rules,
            shadow_rules_stat_prefix,
        };
        ("envoy.filters.http.rbac", Config::Http(rbac))
    };
    Filter {
        name: name.to_owned(),
        typed_config,
    }
}
