//! The permissions of a rule as operations, its principals as sources, and what stands in each of
//! them as conditions.

use super::{
    config::{Permission, Principal, Term},
    fault::{Problem, ReadFault, of_file},
    inverse::{self, Asked},
    message::{self, Choice, choice, only_list, placed},
};
use crate::{
    authz::model::{Condition, ConditionKey, Entry, OperationField, SourceField, Value},
    facts::Attribute,
    manifest::{node::Node, object},
};

/// What one half of a rule says.
pub(super) enum Half<F> {
    /// It matches nothing.
    Never,
    /// One of the entries, and all of the conditions.
    Asks {
        entries: Vec<Entry<F>>,
        conditions: Vec<Condition>,
    },
}

pub(super) fn operations(path: &str, permissions: Vec<Node>) -> Result<Half<OperationField>, Problem> {
    half::<Permission>(path, permissions)
}

pub(super) fn sources(path: &str, principals: Vec<Node>) -> Result<Half<SourceField>, Problem> {
    half::<Principal>(path, principals)
}

/// What the two halves have different names for.
trait Matcher: Term {
    const ALL: [&'static str; 2];
    const ONE: [&'static str; 2];
    const NOT: &'static str;
    /// A field of the entries that it becomes.
    type Field: Into<Attribute>;

    fn field(attribute: &Attribute) -> Option<Self::Field>;
    fn read(choice: Choice) -> Result<Self, Problem>;
    /// The values that become it, one for each field that can have it.
    fn asked(&self) -> Vec<Asked>;
}

impl Matcher for Permission {
    const ALL: [&'static str; 2] = ["and_rules", "rules"];
    const ONE: [&'static str; 2] = ["or_rules", "rules"];
    const NOT: &'static str = "not_rule";
    type Field = OperationField;

    fn field(attribute: &Attribute) -> Option<OperationField> {
        OperationField::ALL
            .into_iter()
            .find(|field| field.attribute() == *attribute)
    }

    fn read(choice: Choice) -> Result<Self, Problem> {
        message::permission(choice)
    }

    fn asked(&self) -> Vec<Asked> {
        inverse::of_permission(self)
    }
}

impl Matcher for Principal {
    const ALL: [&'static str; 2] = ["and_ids", "ids"];
    const ONE: [&'static str; 2] = ["or_ids", "ids"];
    const NOT: &'static str = "not_id";
    type Field = SourceField;

    fn field(attribute: &Attribute) -> Option<SourceField> {
        SourceField::ALL
            .into_iter()
            .find(|field| field.attribute() == *attribute)
    }

    fn read(choice: Choice) -> Result<Self, Problem> {
        message::principal(choice)
    }

    fn asked(&self) -> Vec<Asked> {
        inverse::of_principal(self)
    }
}

/// A list of values that one attribute must or must not have.
struct Demand {
    line: u32,
    path: String,
    negated: bool,
    /// The attribute that the values are of, and others that they can be of as well.
    readings: Vec<(Attribute, Vec<Value>)>,
}

impl Demand {
    /// Whether another one asks the same, wherever it stands.
    fn is_same(&self, other: &Self) -> bool {
        let texts = |demand: &Self| -> Vec<(Attribute, Vec<Box<str>>)> {
            let readings = demand.readings.iter();
            let texts = |values: &[Value]| values.iter().map(|value| value.text().into()).collect();
            readings
                .map(|(attribute, values)| (attribute.clone(), texts(values)))
                .collect()
        };
        self.negated == other.negated && texts(self) == texts(other)
    }
}

/// A field of an entry, or its twin.
#[derive(Clone)]
struct Field {
    attribute: Attribute,
    negated: bool,
    values: Vec<Value>,
}

fn half<M: Matcher>(path: &str, nodes: Vec<Node>) -> Result<Half<M::Field>, Problem> {
    let mut entries = Vec::with_capacity(nodes.len());
    for (path, node) in placed(path, nodes) {
        match demands::<M>(&path, node)? {
            Some(demands) => entries.push(demands),
            None => return Ok(Half::Never),
        }
    }
    let shared = shared(&entries);
    let mut all_fields = Vec::with_capacity(entries.len());
    for demands in &entries {
        let mut fields = Vec::new();
        let own = demands.len() - shared;
        for demand in demands.iter().take(own) {
            let field = field::<M>(&fields, demand).ok_or_else(|| combination(demand))?;
            fields.push(field);
        }
        all_fields.push(fields);
    }
    // What all entries have is part of each of them for as long as it can be.
    let common: Vec<_> = entries
        .first()
        .map_or(&[][..], |demands| {
            demands.get(demands.len() - shared..).unwrap_or_default()
        })
        .iter()
        .collect();
    let mut conditions = Vec::new();
    for demand in common {
        let fields: Option<Vec<_>> = all_fields.iter().map(|fields| field::<M>(fields, demand)).collect();
        match fields {
            Some(added) if conditions.is_empty() => {
                for (fields, field) in all_fields.iter_mut().zip(added) {
                    fields.push(field);
                }
            }
            _ => conditions.push(condition(demand)?),
        }
    }
    // An alternative that asks for nothing leaves nothing to ask of the others.
    if all_fields.iter().any(Vec::is_empty) {
        all_fields.clear();
    }
    Ok(Half::Asks {
        entries: all_fields.into_iter().map(entry::<M>).collect(),
        conditions,
    })
}

fn entry<M: Matcher>(fields: Vec<Field>) -> Entry<M::Field> {
    fields
        .into_iter()
        .fold(Entry::new(), |entry, field| match M::field(&field.attribute) {
            Some(known) if field.negated => entry.none_of(known, field.values),
            Some(known) => entry.any_of(known, field.values),
            None => entry,
        })
}

/// How many demands all entries end in.
fn shared(entries: &[Vec<Demand>]) -> usize {
    let Some((first, others)) = entries.split_first() else {
        return 0;
    };
    let from_end = |at: usize| {
        let demand = |demands: &'_ [Demand]| demands.len().checked_sub(at + 1);
        let Some(wanted) = demand(first).and_then(|at| first.get(at)) else {
            return false;
        };
        others.iter().all(|other| {
            let found = demand(other).and_then(|at| other.get(at));
            found.is_some_and(|found| found.is_same(wanted))
        })
    };
    (0..first.len()).take_while(|at| from_end(*at)).count()
}

/// The demand as another field of an entry, if there is one that is free.
fn field<M: Matcher>(fields: &[Field], demand: &Demand) -> Option<Field> {
    let has = |attribute: &Attribute| fields.iter().any(|field| field.attribute == *attribute);
    let is_free = |attribute: &Attribute| {
        let is_taken = fields
            .iter()
            .any(|field| (&field.attribute, field.negated) == (attribute, demand.negated));
        let clashes = match attribute {
            Attribute::ServiceAccount => has(&Attribute::Principal) || has(&Attribute::Namespace),
            Attribute::Principal | Attribute::Namespace => has(&Attribute::ServiceAccount),
            _ => false,
        };
        M::field(attribute).is_some() && !is_taken && !clashes
    };
    let (attribute, values) = demand.readings.iter().find(|(attribute, _)| is_free(attribute))?;
    Some(Field {
        attribute: attribute.clone(),
        negated: demand.negated,
        values: values.clone(),
    })
}

fn condition(demand: &Demand) -> Result<Condition, Problem> {
    let (attribute, values) = demand.readings.first().ok_or_else(|| combination(demand))?;
    let key: ConditionKey = attribute.to_string().parse().map_err(|_| combination(demand))?;
    let condition = Condition::new(key);
    Ok(match demand.negated {
        true => condition.none_of(values.iter().cloned()),
        false => condition.any_of(values.iter().cloned()),
    })
}

fn combination(demand: &Demand) -> Problem {
    let field = demand.path.as_str().into();
    (demand.line, ReadFault::Combination { field })
}

/// What one permission or principal demands; none if it is one that never matches.
fn demands<M: Matcher>(path: &str, node: Node) -> Result<Option<Vec<Demand>>, Problem> {
    let choice = choice(path, node)?;
    let terms = if choice.name == M::ALL[0] {
        only_list(&choice.path, choice.node, M::ALL[1])?
    } else {
        return Ok(match term::<M>(choice)? {
            Read::Anything => Some(Vec::new()),
            Read::Nothing => None,
            Read::Demand(demand) => Some(vec![demand]),
        });
    };
    let mut demands = Vec::with_capacity(terms.len());
    for (path, node) in terms {
        match term::<M>(message::choice(&path, node)?)? {
            Read::Anything => {}
            Read::Nothing => return Ok(None),
            Read::Demand(demand) => demands.push(demand),
        }
    }
    Ok(Some(demands))
}

/// What a part of an entry comes to.
enum Read {
    Anything,
    Nothing,
    Demand(Demand),
}

fn term<M: Matcher>(outer: Choice) -> Result<Read, Problem> {
    if outer.name == "any" {
        return any(outer);
    }
    let (negated, choice) = if outer.name == M::NOT {
        (true, choice(&outer.path, outer.node)?)
    } else {
        (false, outer)
    };
    let (line, path) = (choice.node.line, choice.path.clone());
    let alternatives = if choice.name == M::ONE[0] {
        let mut choices = Vec::new();
        for (path, node) in only_list(&choice.path, choice.node, M::ONE[1])? {
            choices.push(message::choice(&path, node)?);
        }
        choices
    } else if negated && choice.name == "any" {
        any(choice)?;
        return Ok(Read::Nothing);
    } else {
        vec![choice]
    };
    let mut readings: Option<Vec<(Attribute, Vec<Value>)>> = None;
    for choice in alternatives {
        let (line, path) = (choice.node.line, choice.path.clone());
        let asked = M::read(choice)?.asked();
        if asked.is_empty() {
            let field = path.into();
            return Err((line, ReadFault::Value { field }));
        }
        let value = |text: &str| Value::at(text, line);
        match &mut readings {
            None => {
                let first = asked
                    .into_iter()
                    .map(|(attribute, text)| (attribute, vec![value(&text)]));
                readings = Some(first.collect());
            }
            Some(readings) => readings.retain_mut(|(attribute, values)| {
                let same = asked.iter().find(|(other, _)| other == attribute);
                same.is_some_and(|(_, text)| {
                    // A value in each of several trust domains is more often there than written.
                    if !values.iter().any(|value| value.text() == text) {
                        values.push(value(text));
                    }
                    true
                })
            }),
        }
    }
    let readings = readings.unwrap_or_default();
    if readings.is_empty() {
        let field = path.into();
        return Err((line, ReadFault::Mixed { field }));
    }
    Ok(Read::Demand(Demand {
        line,
        path,
        negated,
        readings,
    }))
}

/// `any` is always true.
fn any(choice: Choice) -> Result<Read, Problem> {
    let (line, text) = object::text(&choice.path, choice.node).map_err(of_file)?;
    if text == "true" {
        return Ok(Read::Anything);
    }
    let field = choice.path.into();
    Err((line, ReadFault::Value { field }))
}
