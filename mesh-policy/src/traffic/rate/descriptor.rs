//! What a rate limit service is asked about: Envoy's `rate_limits`, whose actions make descriptors
//! out of a request.

use std::net::IpAddr;

use crate::{
    facts::Facts,
    traffic::{
        header::{HeaderMatch, first_line},
        query::{first_value, query},
    },
};

/// The key and the value of one entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// What the value is.
    pub key: &'a str,
    /// The value. Bytes that are no UTF-8, which the protocol cannot carry, are replaced and not
    /// left out: a limit must not be escaped by them.
    pub value: Box<str>,
}

/// The names of the services at both ends, as the proxy calls them.
#[derive(Clone, Copy, Debug)]
pub struct Clusters<'a> {
    /// Where the proxy itself belongs (Envoy's `--service-cluster`).
    pub source: &'a str,
    /// Where the request goes.
    pub destination: &'a str,
}

/// One entry in the making. An action that finds nothing makes its whole descriptor void, unless it
/// says otherwise: the service is not asked about it, and so does not limit by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// `source_cluster`: the proxy's own.
    SourceCluster,
    /// `destination_cluster`: where the request goes.
    DestinationCluster,
    /// `request_headers`: the value of a header's first line; that of `host` is the authority.
    Header {
        /// The header, in lower case.
        name: Box<str>,
        /// The entry's key.
        key: Box<str>,
        /// Without the header there is only no entry (`skip_if_absent`).
        optional: bool,
    },
    /// `query_parameters`: a parameter's first value, as it is written.
    QueryParameter {
        /// The parameter.
        name: Box<str>,
        /// The entry's key.
        key: Box<str>,
        /// Without the parameter there is only no entry.
        optional: bool,
    },
    /// `remote_address`: the client's address, the original one where that is known.
    RemoteAddress,
    /// `masked_remote_address`: the block that the client's address is in.
    MaskedRemoteAddress {
        /// Bits of the block, for IPv4. Envoy's default is 32.
        v4: u8,
        /// The same for IPv6, where the default is 128.
        v6: u8,
    },
    /// `generic_key`: always the same.
    Generic {
        /// The entry's key; `generic_key` is Envoy's default.
        key: Box<str>,
        /// The entry's value.
        value: Box<str>,
    },
    /// `header_value_match`: a value, if all tests pass.
    HeaderMatch {
        /// The entry's key; `header_match` is Envoy's default.
        key: Box<str>,
        /// The entry's value.
        value: Box<str>,
        /// What is asked of headers.
        tests: Vec<HeaderMatch>,
        /// Whether all tests must pass, or not all of them may (`expect_match`).
        expected: bool,
    },
    /// `metadata`: text that another filter left.
    Metadata {
        /// The entry's key.
        key: Box<str>,
        /// The filter's name.
        filter: Box<str>,
        /// Under which name the filter left it.
        name: Box<str>,
        /// The value if there is none.
        default: Option<Box<str>>,
    },
}

/// The descriptors of a route: for each a list of actions, in the order of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    lists: Vec<Vec<Action>>,
}

impl Descriptors {
    /// None: nobody is asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more descriptor (`rate_limits[].actions`).
    #[must_use]
    pub fn with(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.lists.push(actions.into_iter().collect());
        self
    }

    /// Whether nobody is asked, whatever the request.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// The descriptors of a request, without those that are void or empty. If none is left there is
    /// nothing to ask.
    pub fn of<'a>(&'a self, facts: impl Into<Facts<'a>>, clusters: Clusters<'_>) -> Vec<Vec<Entry<'a>>> {
        let facts = facts.into();
        self.lists
            .iter()
            .filter_map(|actions| {
                let made = actions.iter().map(|action| action.entry(&facts, clusters));
                let entries: Vec<Entry<'a>> = made
                    .collect::<Result<Vec<_>, Void>>()
                    .ok()?
                    .into_iter()
                    .flatten()
                    .collect();
                (!entries.is_empty()).then_some(entries)
            })
            .collect()
    }
}

/// The descriptor is not to be asked about.
struct Void;

impl Action {
    /// The action's entry, or that it has none.
    fn entry(&self, facts: &Facts<'_>, clusters: Clusters<'_>) -> Result<Option<Entry<'_>>, Void> {
        let client = || facts.remote_ip().present().or(facts.source_ip().present()).ok_or(Void);
        let entry = match self {
            Self::SourceCluster => Entry::new("source_cluster", clusters.source.into()),
            Self::DestinationCluster => Entry::new("destination_cluster", clusters.destination.into()),
            Self::Header { name, key, optional } => {
                return or_none(key, first_line(facts, name, text), *optional);
            }
            Self::QueryParameter { name, key, optional } => {
                return or_none(key, parameter(facts, name.as_bytes()), *optional);
            }
            Self::RemoteAddress => Entry::new("remote_address", client()?.to_string().into()),
            Self::MaskedRemoteAddress { v4, v6 } => {
                Entry::new("masked_remote_address", block(client()?, *v4, *v6).into())
            }
            Self::Generic { key, value } => Entry::new(key, value.clone()),
            Self::HeaderMatch {
                key,
                value,
                tests,
                expected,
            } => {
                let pass = tests.iter().all(|test| test.matches(facts));
                if facts.headers().is_unavailable() || pass != *expected {
                    return Err(Void);
                }
                Entry::new(key, value.clone())
            }
            Self::Metadata {
                key,
                filter,
                name,
                default,
            } => {
                let value = metadata(facts, filter, name).or(default.clone()).ok_or(Void)?;
                Entry::new(key, value)
            }
        };
        Ok(Some(entry))
    }
}

impl<'a> Entry<'a> {
    fn new(key: &'a str, value: Box<str>) -> Self {
        Self { key, value }
    }
}

fn or_none(key: &str, value: Option<Box<str>>, optional: bool) -> Result<Option<Entry<'_>>, Void> {
    match value {
        Some(value) => Ok(Some(Entry::new(key, value))),
        None if optional => Ok(None),
        None => Err(Void),
    }
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn parameter(facts: &Facts<'_>, name: &[u8]) -> Option<Box<str>> {
    let query = query(&facts.path().present()?)?;
    first_value(query, name).map(text)
}

fn metadata(facts: &Facts<'_>, filter: &str, name: &str) -> Option<Box<str>> {
    let mut value = None;
    facts.metadata().present()?.is_text(filter, name, &mut |found| {
        value = Some(text(found));
        true
    });
    value.filter(|value| !value.is_empty())
}

/// An address's block, as `address/bits`.
fn block(address: IpAddr, v4: u8, v6: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let bits = v4.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from(address) & mask))
        }
        IpAddr::V6(address) => {
            let bits = v6.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            format!("{}/{bits}", std::net::Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{ConnectionFacts, Known, Metadata, RequestFacts},
        normalize::PathNormalization,
        traffic::{field::FieldName, header::HeaderTest, pattern::Pattern},
    };

    const CLUSTERS: Clusters<'static> = Clusters {
        source: "front",
        destination: "shop",
    };

    struct Found;

    impl Metadata for Found {
        fn is_text(&self, filter: &str, key: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            (filter, key) == ("jwt", "sub") && test(b"ann")
        }

        fn is_listed(&self, _: &str, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            false
        }
    }

    fn of(actions: Vec<Action>) -> String {
        let lines: Vec<(&str, &[u8])> = vec![
            ("X-User", b"ann"),
            ("x-user", b"bob"),
            ("x-n", b"7"),
            ("x-raw", b"\xff"),
        ];
        let mut buffer = Vec::new();
        let path = PathNormalization::None
            .normalize(b"/a?page=2&page=3", &mut buffer)
            .unwrap();
        let connection = ConnectionFacts::new()
            .source_ip("10.1.2.3".parse().unwrap())
            .metadata(Known::Present(&Found));
        let request = RequestFacts::new(connection, b"GET", &lines).path(Known::Present(path));
        let descriptors = Descriptors::new().with(actions);
        let made = descriptors.of(&request, CLUSTERS);
        let entries = made
            .iter()
            .flatten()
            .map(|entry| format!("{}={}", entry.key, entry.value));
        entries.collect::<Vec<_>>().join(" ")
    }

    fn header(name: &str, optional: bool) -> Action {
        Action::Header {
            name: name.into(),
            key: "h".into(),
            optional,
        }
    }

    fn generic() -> Action {
        Action::Generic {
            key: "generic_key".into(),
            value: "all".into(),
        }
    }

    #[test]
    fn every_action_makes_its_entry() {
        let parameter = |name: &str| Action::QueryParameter {
            name: name.into(),
            key: "q".into(),
            optional: false,
        };
        let metadata = |name: &str, default: Option<&str>| Action::Metadata {
            key: "m".into(),
            filter: "jwt".into(),
            name: name.into(),
            default: default.map(Into::into),
        };
        for (action, entry) in [
            (Action::SourceCluster, "source_cluster=front"),
            (Action::DestinationCluster, "destination_cluster=shop"),
            (header("x-user", false), "h=ann"),
            (header("x-raw", false), "h=\u{fffd}"),
            (header("x-none", false), ""),
            (parameter("page"), "q=2"),
            (parameter("p"), ""),
            (Action::RemoteAddress, "remote_address=10.1.2.3"),
            (
                Action::MaskedRemoteAddress { v4: 16, v6: 64 },
                "masked_remote_address=10.1.0.0/16",
            ),
            (
                Action::MaskedRemoteAddress { v4: 0, v6: 64 },
                "masked_remote_address=0.0.0.0/0",
            ),
            (generic(), "generic_key=all"),
            (metadata("sub", None), "m=ann"),
            (metadata("iss", None), ""),
            (metadata("iss", Some("x")), "m=x"),
        ] {
            assert_eq!(of(vec![action.clone()]), entry, "{action:?}");
        }
        assert_eq!(block("2001:db8::1".parse().unwrap(), 32, 32), "2001:db8::/32");
    }

    #[test]
    fn what_is_missing_makes_the_whole_void_unless_it_is_optional() {
        assert_eq!(of(vec![generic(), header("x-none", false)]), "");
        assert_eq!(of(vec![generic(), header("x-none", true)]), "generic_key=all");
        assert_eq!(of(vec![header("x-none", true)]), "");
        let both = Descriptors::new().with([header("x-none", false)]).with([generic()]);
        assert_eq!(both.of(&ConnectionFacts::new(), CLUSTERS).len(), 1);
        assert!(
            Descriptors::new()
                .with([Action::RemoteAddress])
                .of(&ConnectionFacts::new(), CLUSTERS)
                .is_empty()
        );
    }

    #[test]
    fn headers_are_tested_as_routes_test_them() {
        let matched = |name: &str, test: HeaderTest, expected: bool| {
            let name = FieldName::new(name).unwrap();
            !of(vec![Action::HeaderMatch {
                key: "header_match".into(),
                value: "v".into(),
                tests: vec![HeaderMatch { name, test }],
                expected,
            }])
            .is_empty()
        };
        let exact = |text: &str| Pattern::Exact(text.into());
        for (name, test, matches) in [
            ("X-User", HeaderTest::Is(exact("ann,bob")), true),
            ("x-user", HeaderTest::Is(exact("bob")), false),
            ("x-user", HeaderTest::IsNot(exact("bob")), true),
            ("x-user", HeaderTest::Is(Pattern::Prefix("an".into())), true),
            ("x-none", HeaderTest::Present, false),
            ("x-none", HeaderTest::Absent, true),
        ] {
            assert_eq!(matched(name, test.clone(), true), matches, "{name} {test:?}");
            assert_eq!(matched(name, test.clone(), false), !matches, "{name} {test:?}");
        }
    }
}
