//! The same policies as an evaluator has them that looks at one rule after the other.

use std::net::IpAddr;

use mesh_policy::{Facts, Known};

use crate::world::{Kind, RULES};

/// Rules by policy, parsed.
pub struct Scan(Vec<Vec<Parsed>>);

impl Scan {
    pub fn new(kind: Kind, policies: usize) -> Self {
        let rules = |number| (0..RULES).map(|rule| parse(kind, number, rule)).collect();
        Self((0..policies).map(rules).collect())
    }

    /// Whether a connection or request is allowed: denials first, then what allows.
    pub fn decide(&self, facts: &Facts<'_>) -> bool {
        let matches = |denies: bool| {
            let of_kind = self
                .0
                .iter()
                .enumerate()
                .filter(move |(number, _)| (number % 4 == 3) == denies);
            let mut rules = of_kind.flat_map(|(_, rules)| rules);
            rules.any(|rule| (rule.source)(facts) && (rule.operation)(facts))
        };
        !matches(true) && matches(false)
    }
}

/// A rule as an evaluator without an index has it: parsed, in a list.
struct Parsed {
    source: Box<dyn Fn(&Facts<'_>) -> bool>,
    operation: Box<dyn Fn(&Facts<'_>) -> bool>,
}

fn parse(kind: Kind, number: usize, rule: usize) -> Parsed {
    let principal = |facts: &Facts<'_>, test: &dyn Fn(&[u8]) -> bool| {
        let peer = facts.peer().present();
        peer.is_some_and(|peer| peer.uris().iter().filter_map(|name| name.principal()).any(test))
    };
    let within = |text: String| text.into_bytes();
    let source: Box<dyn Fn(&Facts<'_>) -> bool> = match rule % 5 {
        0 => {
            let exact = within(format!("cluster.local/ns/n-{number}/sa/sa-{rule}"));
            Box::new(move |facts| principal(facts, &|text| text == exact))
        }
        1 => {
            let part = within(format!("/ns/space-{number}-{rule}/"));
            Box::new(move |facts| principal(facts, &|text| text.windows(part.len()).any(|window| window == part)))
        }
        2 => {
            let end = within(format!("/ns/n-{number}/sa/account-{rule}"));
            Box::new(move |facts| principal(facts, &|text| text.ends_with(&end)))
        }
        3 => {
            let address: IpAddr = format!("10.{}.{}.{rule}", number / 256, number % 256).parse().unwrap();
            Box::new(move |facts| facts.source_ip() == Known::Present(address))
        }
        _ => {
            let start = within(format!("cluster.local/ns/prefix-{number}-{rule}/"));
            Box::new(move |facts| principal(facts, &|text| text.starts_with(&start)))
        }
    };
    let path =
        |facts: &Facts<'_>, test: &dyn Fn(&[u8]) -> bool| facts.path().present().is_some_and(|path| test(path.path()));
    let operation: Box<dyn Fn(&Facts<'_>) -> bool> = match (kind, rule % 2) {
        (Kind::L4, _) => Box::new(|facts| facts.destination_port() == Known::Present(8080)),
        (Kind::L7, 0) => {
            let exact = within(format!("/service-{number}/method-{rule}"));
            Box::new(move |facts| path(facts, &|text| text == exact))
        }
        (Kind::L7, _) => {
            let start = within(format!("/service-{number}/tree-{rule}/"));
            Box::new(move |facts| path(facts, &|text| text.starts_with(&start)))
        }
    };
    Parsed { source, operation }
}
