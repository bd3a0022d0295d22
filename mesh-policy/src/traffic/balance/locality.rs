//! Where endpoints are, and what Istio's `localityLbSetting` makes of it.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A place: region, zone and subzone, each perhaps unknown, which is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    parts: [Box<str>; 3],
}

impl Locality {
    /// A place by its three names.
    pub fn new(region: impl Into<Box<str>>, zone: impl Into<Box<str>>, subzone: impl Into<Box<str>>) -> Self {
        Self {
            parts: [region.into(), zone.into(), subzone.into()],
        }
    }

    /// The region.
    pub fn region(&self) -> &str {
        let [region, ..] = &self.parts;
        region
    }
}

impl FromStr for Locality {
    type Err = InvalidLocality;

    /// Reads `region/zone/subzone`, where the latter may be left out.
    fn from_str(text: &str) -> Result<Self, InvalidLocality> {
        let names = split(text)?;
        if names.iter().any(|name| name.contains('*')) {
            return Err(InvalidLocality { text: text.into() });
        }
        Ok(Self {
            parts: names.map(Into::into),
        })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [region, zone, subzone] = &self.parts;
        write!(f, "{region}/{zone}/{subzone}")
    }
}

/// Places: `region/zone/subzone` with `*` in place of names from some point on. Names that are left
/// out are stars.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalityPattern {
    names: Box<[Box<str>]>,
}

impl LocalityPattern {
    /// Whether a place is one of them.
    pub fn matches(&self, locality: &Locality) -> bool {
        self.names.iter().zip(&locality.parts).all(|(name, part)| name == part)
    }
}

impl FromStr for LocalityPattern {
    type Err = InvalidLocality;

    fn from_str(text: &str) -> Result<Self, InvalidLocality> {
        let parts = split(text)?;
        let names: Vec<Box<str>> = parts
            .iter()
            .take_while(|part| !matches!(**part, "*" | ""))
            .map(|part| (*part).into())
            .collect();
        let rest = parts.iter().skip(names.len());
        if names.iter().any(|name| name.contains('*')) || rest.clone().any(|part| !matches!(*part, "*" | "")) {
            return Err(InvalidLocality { text: text.into() });
        }
        Ok(Self { names: names.into() })
    }
}

fn split(text: &str) -> Result<[&str; 3], InvalidLocality> {
    let mut names = text.split('/');
    let parts = [(); 3].map(|()| names.next().unwrap_or_default());
    match (parts, names.next()) {
        (["", ..], _) | (_, Some(_)) => Err(InvalidLocality { text: text.into() }),
        _ => Ok(parts),
    }
}

/// A text is no locality, or no pattern of localities.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not of the form region/zone/subzone")]
#[non_exhaustive]
pub struct InvalidLocality {
    /// The text.
    pub text: Box<str>,
}

/// How many labels in a row are the same, from the first on: Istio's `failoverPriority`. An
/// endpoint's [priority](super::Endpoint::priority) is the number of labels less this one.
pub fn common_labels<T: PartialEq>(client: &[T], endpoint: &[T]) -> usize {
    client
        .iter()
        .zip(endpoint)
        .take_while(|(one, other)| one == other)
        .count()
}

/// Endpoints that share labels with the client first: Istio's failover priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelOrder {
    labels: Vec<(Box<str>, Option<Box<str>>)>,
}

impl LabelOrder {
    /// Labels, the most important one first. One may be written with the value that endpoints are to
    /// have, as `NAME=VALUE`; else it is the client's.
    pub fn new<'l>(labels: impl IntoIterator<Item = &'l str>) -> Self {
        let split = |label: &str| match label.split_once('=') {
            Some((name, value)) => (name.into(), Some(value.into())),
            None => (label.into(), None),
        };
        Self {
            labels: labels.into_iter().map(split).collect(),
        }
    }

    /// The names of the labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|(name, _)| &**name)
    }

    /// The priority of an endpoint for a client, by their labels: 0 for one that shares all. A label
    /// that both lack they share.
    pub fn priority<'v>(
        &'v self,
        client: impl Fn(&str) -> Option<&'v str>,
        endpoint: impl Fn(&str) -> Option<&'v str>,
    ) -> u32 {
        let wanted = self
            .labels
            .iter()
            .map(|(name, value)| value.as_deref().or_else(|| client(name)));
        let found = self.labels.iter().map(|(name, _)| endpoint(name));
        let wanted: Vec<_> = wanted.collect();
        let found: Vec<_> = found.collect();
        (self.labels.len() - common_labels(&wanted, &found)) as u32
    }
}

/// Endpoints nearby first: Istio's locality failover.
///
/// An endpoint in the client's subzone has priority 0, in its zone 1, in its region 2, in the region
/// that its own one fails over to 3, and anywhere else 4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    regions: Vec<(Box<str>, Box<str>)>,
}

impl Failover {
    /// Every region fails over to any other.
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients in region `from` turn to region `to` before others (`failover`).
    #[must_use]
    pub fn region(mut self, from: impl Into<Box<str>>, to: impl Into<Box<str>>) -> Self {
        self.regions.push((from.into(), to.into()));
        self
    }

    /// The priority of an endpoint for a client.
    pub fn priority(&self, client: &Locality, endpoint: &Locality) -> u32 {
        match common_labels(&client.parts, &endpoint.parts) {
            3 => 0,
            2 => 1,
            1 => 2,
            _ => {
                let is_next =
                    |(from, to): &(Box<str>, Box<str>)| **from == *client.region() && **to == *endpoint.region();
                if self.regions.iter().any(is_next) { 3 } else { 4 }
            }
        }
    }
}

/// Requests divided among places: Istio's locality distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    from: LocalityPattern,
    to: Vec<(LocalityPattern, u32)>,
}

impl Distribution {
    /// Nothing is divided.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests of clients in `from` go to places `to`, by these weights; elsewhere goes none. Istio
    /// wants the weights to add up to 100. The first rule that fits a client counts, and the first
    /// of its places that fits an endpoint.
    #[must_use]
    pub fn rule(mut self, from: LocalityPattern, to: impl IntoIterator<Item = (LocalityPattern, u32)>) -> Self {
        let to = to.into_iter().collect();
        self.rules.push(Rule { from, to });
        self
    }

    /// The [share](super::Endpoint::locality_share) of each of these localities, given with its
    /// number of endpoints, for a client. A place that several localities fit is divided among them
    /// by these numbers. All are `None` if no rule is about the client.
    pub fn shares(&self, client: &Locality, localities: &[(Locality, u32)]) -> Vec<Option<u32>> {
        let Some(rule) = self.rules.iter().find(|rule| rule.from.matches(client)) else {
            return vec![None; localities.len()];
        };
        let place_of = |locality: &Locality| rule.to.iter().position(|(place, _)| place.matches(locality));
        let places: Vec<Option<usize>> = localities.iter().map(|(locality, _)| place_of(locality)).collect();
        let share = |place: usize, own: u32| {
            let weight = rule.to.get(place).map_or(0, |(_, weight)| *weight);
            let all: u64 = localities
                .iter()
                .zip(&places)
                .filter(|(_, other)| **other == Some(place))
                .map(|((_, endpoints), _)| u64::from(*endpoints))
                .sum();
            // A thousandth of a weight is the unit, so that small parts of a place remain some.
            let share = (u64::from(weight) * 1_000 * u64::from(own))
                .checked_div(all)
                .unwrap_or(0);
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        localities
            .iter()
            .zip(&places)
            .map(|((_, own), place)| place.map(|place| share(place, *own)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Locality {
        text.parse().unwrap()
    }

    #[test]
    fn nearer_endpoints_have_better_priorities() {
        let failover = Failover::new().region("us-east", "eu-west");
        let client = at("us-east/z1/a");
        for (endpoint, priority) in [
            ("us-east/z1/a", 0),
            ("us-east/z1/b", 1),
            ("us-east/z2/a", 2),
            ("eu-west/z1/a", 3),
            ("ap-south/z1/a", 4),
        ] {
            assert_eq!(failover.priority(&client, &at(endpoint)), priority, "{endpoint}");
        }
        assert_eq!(common_labels(&["v1", "a"], &["v1", "b"]), 1);
    }

    #[test]
    fn endpoints_that_share_more_labels_have_better_priorities() {
        let order = LabelOrder::new(["net", "version=v2", "zone"]);
        let client = |name: &str| (name == "net").then_some("n");
        for (labels, priority) in [
            (&[("net", "n"), ("version", "v2")][..], 0),
            (&[("net", "n"), ("version", "v2"), ("zone", "z")], 1),
            (&[("net", "n"), ("version", "v1")], 2),
            (&[("net", "m"), ("version", "v2")], 3),
        ] {
            let endpoint = |name: &str| labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value);
            assert_eq!(order.priority(client, endpoint), priority, "{labels:?}");
        }
    }

    #[test]
    fn patterns_end_in_stars() {
        let pattern: LocalityPattern = "us-east/z1/*".parse().unwrap();
        assert!(pattern.matches(&at("us-east/z1/a")) && !pattern.matches(&at("us-east/z2/a")));
        assert!("*".parse::<LocalityPattern>().unwrap().matches(&at("x")));
        for text in ["*/z1", "us*/z1/a", "a/b/c/d", "", "/z1"] {
            assert!(text.parse::<LocalityPattern>().is_err(), "{text}");
        }
        assert_eq!(
            "*".parse::<Locality>().unwrap_err().to_string(),
            "`*` is not of the form region/zone/subzone"
        );
        assert_eq!(at("a/b").to_string(), "a/b/");
    }

    #[test]
    fn a_place_is_divided_among_its_localities() {
        let distribution = Distribution::new().rule(
            "us-east/*".parse().unwrap(),
            [
                ("us-east/z1/*".parse().unwrap(), 80),
                ("us-east/z2".parse().unwrap(), 20),
            ],
        );
        let localities = ["us-east/z1/a", "us-east/z1/b", "us-east/z2/a", "eu/z/s"].map(at);
        let counted: Vec<_> = localities.into_iter().zip([3, 1, 5, 7]).collect();
        assert_eq!(
            distribution.shares(&at("us-east/z9"), &counted),
            [Some(60_000), Some(20_000), Some(20_000), None]
        );
        assert_eq!(distribution.shares(&at("eu/z"), &counted), [None; 4]);
    }
}
