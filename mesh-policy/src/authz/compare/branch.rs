//! Requests that one way through a rule matches.

use super::{
    name,
    point::{self, Point},
};
use crate::{
    authz::{
        compile::test::Test,
        cover::{Effort, FieldView, RuleView},
    },
    facts::{Attribute, Facts, Known},
    normalize::PathNormalization,
    sample::{Sample, SampleRequest},
};

/// So many ways through one rule are looked at.
const MAX_BRANCHES: usize = 24;

/// So many combinations of identity parts are tried for one way through a rule.
const MAX_NAMES: usize = 64;

/// A request of a workload that no policy is likely to speak of.
pub(super) fn ordinary() -> Sample {
    let mut sample = Sample::default();
    point::peer(&name::workload(name::DOMAIN, b"default", b"default")).apply(&mut sample);
    sample.source_ip = Some([10, 0, 0, 1].into());
    sample.remote_ip = sample.source_ip;
    sample.destination_ip = Some([10, 0, 0, 2].into());
    sample.destination_port = Some(8080);
    sample.sni = Known::Absent;
    sample.metadata = Known::Absent;
    let mut request = SampleRequest::new(b"GET");
    request.authority = Known::Present(b"service.example"[..].into());
    request.headers = Known::Absent;
    request.claims = Known::Absent;
    let mut buffer = Vec::new();
    if let Ok(path) = PathNormalization::Base.normalize(b"/", &mut buffer) {
        request.path = Known::Present(path.to_owned());
    }
    sample.request = Some(request);
    sample
}

/// For each way through a rule, a request that takes it, so far as one is found: its first source
/// with each operation, and its first operation with each source.
pub(super) fn matches(rule: &RuleView<'_>, effort: &Effort) -> Vec<Sample> {
    let nothing = Vec::new();
    let or_nothing = |entries: &[Vec<FieldView<'_>>]| entries.len().max(1);
    let entry = |entries: &'_ [Vec<FieldView<'_>>], at: usize| entries.get(at).map_or(0, Vec::len);
    let ways = (0..or_nothing(&rule.from))
        .map(|from| (from, 0))
        .chain((1..or_nothing(&rule.to)).map(|to| (0, to)));
    ways.take(MAX_BRANCHES)
        .map(|(from, to)| {
            let mut fields: Vec<&FieldView<'_>> = Vec::with_capacity(entry(&rule.from, from) + entry(&rule.to, to));
            fields.extend(rule.from.get(from).unwrap_or(&nothing));
            fields.extend(rule.to.get(to).unwrap_or(&nothing));
            fields.extend(&rule.when);
            satisfy(&fields, effort)
        })
        .collect()
}

/// A request for which all of the fields are true, or nearly all.
fn satisfy(fields: &[&FieldView<'_>], effort: &Effort) -> Sample {
    let mut sample = ordinary();
    for field in fields {
        if !effort.spend_many(fields.len() as u64) {
            break;
        }
        let same: Vec<_> = fields
            .iter()
            .filter(|other| is_same_fact(other.attribute, field.attribute))
            .copied()
            .collect();
        let holds = |sample: &Sample| sample.with(|facts| same.iter().all(|field| passes(field, &facts, effort)));
        if holds(&sample) {
            continue;
        }
        let around = tests(&same).flat_map(|(attribute, test)| point::around(attribute, test));
        let names = || match field.attribute.is_identity() {
            true => identities(&same),
            false => Vec::new(),
        };
        let last = std::iter::once_with(|| [names(), point::without(field.attribute)].concat());
        let points = around.chain(last.flatten());
        let found = points.take_while(|_| effort.spend()).find_map(|point| {
            let mut changed = sample.clone();
            point.apply(&mut changed);
            holds(&changed).then_some(changed)
        });
        sample = found.unwrap_or(sample);
    }
    sample
}

/// Whether two attributes are read from the same fact, so that they must be satisfied together.
fn is_same_fact(one: &Attribute, other: &Attribute) -> bool {
    let is_host = |attribute: &Attribute| match attribute {
        Attribute::Host => true,
        Attribute::Header(name) => matches!(&**name, "host" | ":authority"),
        _ => false,
    };
    let is_path = |attribute: &Attribute| match attribute {
        Attribute::Path => true,
        Attribute::Header(name) => &**name == ":path",
        _ => false,
    };
    one == other
        || (one.is_identity() && other.is_identity())
        || (is_host(one) && is_host(other))
        || (is_path(one) && is_path(other))
}

/// Names of all combinations of the parts that identity fields ask for.
fn identities(fields: &[&FieldView<'_>]) -> Vec<Point> {
    let mut domains = Vec::new();
    let mut namespaces = Vec::new();
    let mut accounts = Vec::new();
    for (attribute, test) in tests(fields) {
        for point in point::around(attribute, test) {
            let Point::Peer(Known::Present(peer)) = point else {
                continue;
            };
            for name in peer.uris() {
                let Some((domain, (namespace, account))) = name.trust_domain().zip(name.workload()) else {
                    continue;
                };
                for (all, part) in [
                    (&mut domains, domain),
                    (&mut namespaces, namespace),
                    (&mut accounts, account),
                ] {
                    if all.len() < MAX_NAMES && !all.iter().any(|other: &Vec<u8>| other == part) {
                        all.push(part.to_vec());
                    }
                }
            }
        }
    }
    let mut points = Vec::new();
    for domain in &domains {
        for namespace in &namespaces {
            for account in &accounts {
                if points.len() == MAX_NAMES {
                    return points;
                }
                points.push(point::peer(&name::workload(domain, namespace, account)));
            }
        }
    }
    points
}

fn tests<'v>(fields: &'v [&FieldView<'v>]) -> impl Iterator<Item = (&'v Attribute, &'v Test)> {
    fields.iter().flat_map(|field| {
        let any = field.any.iter().flatten();
        any.chain(&field.none).map(|test| (field.attribute, *test))
    })
}

fn passes(field: &FieldView<'_>, facts: &Facts<'_>, effort: &Effort) -> bool {
    let passes = |test: &&Test| test.passes(field.attribute, facts);
    !facts.lacks(field.attribute)
        && field.any.as_ref().is_none_or(|any| effort.any(any, passes))
        && effort.all(&field.none, |test| !passes(test))
}
