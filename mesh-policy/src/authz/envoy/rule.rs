use super::{
    config::{Permission, Policy, Principal, Term},
    value::{ExportError, Writer, permission},
};
use crate::{
    authz::{
        dialect::Dialect,
        model::{Action, AuthorizationPolicy, Constraint, Rule, Value},
        validate::check_value,
    },
    facts::Attribute,
};

/// One policy's way into Envoy.
pub(super) struct Translation<'s> {
    pub(super) policy: &'s AuthorizationPolicy,
    pub(super) dialect: Dialect,
    pub(super) writer: Writer<'s>,
}

/// The order of a source's fields.
const SOURCE: [Attribute; 7] = [
    Attribute::Principal,
    Attribute::RequestPrincipal,
    Attribute::ServiceAccount,
    Attribute::TrustDomain,
    Attribute::Namespace,
    Attribute::RemoteIp,
    Attribute::SourceIp,
];

/// The order of an operation's fields.
const OPERATION: [Attribute; 4] = [
    Attribute::Host,
    Attribute::Method,
    Attribute::Path,
    Attribute::DestinationPort,
];

/// Why a rule that allows is left out: it asks for something that cannot be written.
struct Unwritable;

/// What becomes of a rule or a part of it.
type Written<T> = Result<Result<T, Unwritable>, ExportError>;

impl Translation<'_> {
    /// The policy for a rule, if there is one.
    pub(super) fn rule(&self, rule: &Rule) -> Result<Option<Policy>, ExportError> {
        let conditions: Vec<_> = rule.conditions().iter().map(|entry| entry.constraint()).collect();
        let (of_operation, of_source): (Vec<_>, Vec<_>) = conditions
            .into_iter()
            .partition(|constraint| is_of_operation(constraint.attribute()));
        let operations = rule.operations().iter().map(|operation| operation.fields());
        let sources = rule.sources().iter().map(|source| source.fields());
        let principal = |attribute: &Attribute, value: &str| self.writer.principals(attribute, value);
        let permission =
            |attribute: &Attribute, value: &str| permission(attribute, value).map(|permission| vec![permission]);
        let permissions: Written<Vec<Permission>> = self.half(operations, &OPERATION, &of_operation, permission);
        let principals: Written<Vec<Principal>> = self.half(sources, &SOURCE, &of_source, principal);
        Ok(match (permissions?, principals?) {
            (Ok(permissions), Ok(principals)) => Some(Policy {
                permissions,
                principals,
            }),
            _ => None,
        })
    }

    /// Each entry with the conditions, or the conditions by themselves if there is no entry.
    fn half<'r, T: Term>(
        &self,
        entries: impl ExactSizeIterator<Item = &'r [Constraint]>,
        order: &[Attribute],
        conditions: &[&Constraint],
        write: impl Fn(&Attribute, &str) -> Result<Vec<T>, ExportError>,
    ) -> Written<Vec<T>> {
        let mut terms = Vec::with_capacity(entries.len().max(1));
        let none: &[Constraint] = &[];
        let only_conditions = (entries.len() == 0).then_some(none);
        for fields in entries.chain(only_conditions) {
            let place = |field: &&Constraint| order.iter().position(|attribute| attribute == field.attribute());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(place);
            let mut all = Vec::new();
            for constraint in fields.into_iter().chain(conditions.iter().copied()) {
                match self.constraint(constraint, &write)? {
                    Ok(written) => all.extend(written),
                    Err(unwritable) => return Ok(Err(unwritable)),
                }
            }
            if all.is_empty() {
                all.push(T::any());
            }
            terms.push(T::all_of(all));
        }
        Ok(Ok(terms))
    }

    fn constraint<T: Term>(
        &self,
        constraint: &Constraint,
        write: impl Fn(&Attribute, &str) -> Result<Vec<T>, ExportError>,
    ) -> Written<Vec<T>> {
        let attribute = constraint.attribute();
        let is_unknown = self.dialect == Dialect::EnvoyTcp && attribute.is_http_only();
        let one_of = |values: &[Value]| -> Written<Option<T>> {
            let mut terms = Vec::with_capacity(values.len());
            for value in values {
                if is_unknown || check_value(attribute, value.text()).is_err() {
                    if *self.policy.action() == Action::Allow {
                        return Ok(Err(Unwritable));
                    }
                } else {
                    terms.extend(write(attribute, value.text())?);
                }
            }
            Ok(Ok((!terms.is_empty()).then(|| T::one_of(terms))))
        };
        Ok(match (one_of(constraint.any_of())?, one_of(constraint.none_of())?) {
            (Ok(any), Ok(none)) => Ok(any.into_iter().chain(none.map(T::negated)).collect()),
            _ => Err(Unwritable),
        })
    }
}

/// Whether a condition stands with the permissions.
fn is_of_operation(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::DestinationIp | Attribute::DestinationPort | Attribute::Sni | Attribute::Metadata { .. }
    )
}
