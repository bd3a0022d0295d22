//! Authorization: who may connect to whom and ask for what, by Istio's AuthorizationPolicy.

pub mod analyze;
pub mod attach;
pub mod compare;
mod compile;
mod cover;
mod decision;
mod dialect;
#[cfg(feature = "envoy")]
pub mod envoy;
mod eval;
mod explain;
mod invalid;
#[cfg(feature = "k8s")]
pub mod k8s;
pub mod model;
mod peer_authentication;
mod request_authentication;
mod rule_ref;
mod target;
mod truth;
mod validate;
#[cfg(feature = "xds")]
pub mod xds;

pub use self::{
    compile::{CompileError, Compiler, MAX_PROVIDERS, PolicySet, RuleName},
    decision::{Admission, AllowReason, Consultation, Decision, Denial, DenyReason, DryRun, Permit, Verdict},
    dialect::{Diagnostic, Dialect, Note, TrustDomains},
    explain::{ExplainedClause, ExplainedField, ExplainedRule, Explanation, NearestMiss},
    invalid::{Clause, Fault, FieldPath, FieldValue, Invalid, RulePart},
    model::{Action, AuthorizationPolicy, PolicyName},
    peer_authentication::{MtlsMode, PeerAuthentication},
    request_authentication::{ClaimHeader, JwtRule, RequestAuthentication, TokenHeader},
    rule_ref::RuleRef,
    target::{Labels, Target, TargetRef},
    truth::Truth,
};
