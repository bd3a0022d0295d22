//! Authorization: who may connect to whom and ask for what, by Istio's AuthorizationPolicy.

mod compile;
mod decision;
mod dialect;
mod eval;
mod invalid;
pub mod model;
mod target;
mod validate;

pub use self::{
    compile::{CompileError, Compiler, MAX_PROVIDERS, PolicySet, RuleName},
    decision::{Admission, AllowReason, Consultation, Decision, Denial, DenyReason, DryRun, Permit, RuleRef, Verdict},
    dialect::{Diagnostic, Dialect, Note, TrustDomains},
    invalid::{Clause, Fault, FieldPath, FieldValue, Invalid, RulePart},
    model::{Action, AuthorizationPolicy, PolicyName},
    target::{Labels, Target, TargetRef},
};
