//! What the configuration says about services outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hbone::Authority;
use mesh_policy::Cidr;
use mesh_policy::traffic::rate::Action;
use mesh_policy::traffic::{FieldName, HeaderMatch, HeaderTest, Pattern};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::names::Names;
use crate::proxy::config::{Server, parsed};

/// The section `external`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::waypoint) struct Config {
    pub(super) authorization: Vec<Authorization>,
    pub(super) limits: Option<Limits>,
    pub(super) keys: Keys,
    pub(super) traces: Option<Traces>,
}

/// A service that is called over gRPC.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    #[serde(deserialize_with = "parsed")]
    address: Authority,
    roots: Option<PathBuf>,
    server_name: Option<String>,
}

/// A provider of CUSTOM policies (Envoy's `ext_authz`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authorization {
    pub(super) name: Box<str>,
    pub(super) server: Service,
    #[serde(
        default = "authorization_timeout",
        rename = "timeout_ms",
        deserialize_with = "milliseconds"
    )]
    pub(super) timeout: Duration,
    #[serde(default = "in_flight", deserialize_with = "counted")]
    pub(super) max_in_flight: usize,
    #[serde(default)]
    pub(super) failure_mode_allow: bool,
    #[serde(default = "forbidden", deserialize_with = "status")]
    pub(super) status_on_error: http::StatusCode,
    pub(super) with_request_body: Option<Body>,
    #[serde(default = "Names::all")]
    pub(super) allowed_headers: Names,
    #[serde(default)]
    pub(super) disallowed_headers: Names,
    #[serde(default)]
    pub(super) context_extensions: BTreeMap<String, String>,
}

/// How much of a request's body a provider is told.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    #[serde(rename = "max_request_bytes", deserialize_with = "body_bytes")]
    pub(super) max_bytes: usize,
    #[serde(default, rename = "allow_partial_message")]
    pub(super) allow_partial: bool,
    #[serde(default)]
    pub(super) pack_as_bytes: bool,
}

/// The service that counts requests (Envoy's `ratelimit`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) server: Service,
    pub(super) domain: String,
    #[serde(default = "limits_timeout", rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub(super) timeout: Duration,
    #[serde(default = "in_flight", deserialize_with = "counted")]
    pub(super) max_in_flight: usize,
    #[serde(default)]
    pub(super) failure_mode_deny: bool,
    #[serde(default = "internal", deserialize_with = "status")]
    pub(super) status_on_error: http::StatusCode,
    #[serde(default)]
    pub(super) x_ratelimit_headers: bool,
    pub(super) rules: Vec<Rule>,
}

/// A descriptor, and the services whose requests have it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// By `namespace/hostname`; none for all.
    #[serde(default)]
    pub(super) services: Vec<Box<str>>,
    pub(super) actions: Vec<Entry>,
}

/// What an entry of a descriptor is made of, under Envoy's names.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    SourceCluster,
    DestinationCluster,
    RemoteAddress,
    MaskedRemoteAddress {
        #[serde(default = "v4_bits")]
        v4_prefix_mask_len: u8,
        #[serde(default = "v6_bits")]
        v6_prefix_mask_len: u8,
    },
    RequestHeaders {
        header_name: Box<str>,
        descriptor_key: Box<str>,
        #[serde(default)]
        skip_if_absent: bool,
    },
    QueryParameters {
        query_parameter_name: Box<str>,
        descriptor_key: Box<str>,
        #[serde(default)]
        skip_if_absent: bool,
    },
    GenericKey {
        #[serde(default = "generic_key")]
        descriptor_key: Box<str>,
        descriptor_value: Box<str>,
    },
    /// One header that has exactly this value.
    HeaderValueMatch {
        #[serde(default = "header_match")]
        descriptor_key: Box<str>,
        descriptor_value: Box<str>,
        #[serde(deserialize_with = "field_name")]
        header_name: FieldName,
        exact: Box<str>,
    },
}

/// How keys of issuers are fetched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    /// The roots that servers of `https` addresses are known by; without them none is.
    pub(super) roots: Option<PathBuf>,
    /// Blocks of addresses that may be called although they are this machine's or the link's.
    #[serde(deserialize_with = "blocks")]
    pub(super) allowed: Vec<Cidr>,
}

/// The collector of spans.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "there is nobody to send them"))]
pub(super) struct Traces {
    pub(super) server: Service,
    #[serde(default = "service_name")]
    pub(super) service_name: String,
    #[serde(default = "sample_percent", deserialize_with = "percent")]
    pub(super) sample_percent: f64,
}

impl Config {
    /// Whether a service counts requests.
    pub(in crate::waypoint) fn asks_about_limits(&self) -> bool {
        self.limits.is_some()
    }

    /// All paths in it.
    pub(in crate::waypoint) fn paths(&mut self) -> Vec<&mut PathBuf> {
        let Self {
            authorization,
            limits,
            keys,
            traces,
        } = self;
        let servers = authorization.iter_mut().map(|provider| &mut provider.server);
        let servers = servers.chain(limits.iter_mut().map(|limits| &mut limits.server));
        let servers = servers.chain(traces.iter_mut().map(|traces| &mut traces.server));
        let roots = servers.filter_map(|server| server.roots.as_mut());
        roots.chain(&mut keys.roots).collect()
    }
}

impl Service {
    pub(super) fn address(&self) -> &Authority {
        &self.address
    }
}

impl From<Service> for Server {
    fn from(service: Service) -> Self {
        let Service {
            address,
            roots,
            server_name,
        } = service;
        Self {
            address,
            roots,
            server_name,
            token: None,
        }
    }
}

impl From<&Entry> for Action {
    fn from(entry: &Entry) -> Self {
        match entry.clone() {
            Entry::SourceCluster => Self::SourceCluster,
            Entry::DestinationCluster => Self::DestinationCluster,
            Entry::RemoteAddress => Self::RemoteAddress,
            Entry::MaskedRemoteAddress {
                v4_prefix_mask_len: v4,
                v6_prefix_mask_len: v6,
            } => Self::MaskedRemoteAddress { v4, v6 },
            Entry::RequestHeaders {
                header_name,
                descriptor_key: key,
                skip_if_absent: optional,
            } => Self::Header {
                name: header_name.to_ascii_lowercase().into(),
                key,
                optional,
            },
            Entry::QueryParameters {
                query_parameter_name: name,
                descriptor_key: key,
                skip_if_absent: optional,
            } => Self::QueryParameter { name, key, optional },
            Entry::GenericKey {
                descriptor_key: key,
                descriptor_value: value,
            } => Self::Generic { key, value },
            Entry::HeaderValueMatch {
                descriptor_key: key,
                descriptor_value: value,
                header_name: name,
                exact,
            } => Self::HeaderMatch {
                key,
                value,
                tests: vec![HeaderMatch {
                    name,
                    test: HeaderTest::Is(Pattern::Exact(exact)),
                }],
                expected: true,
            },
        }
    }
}

fn field_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
    let name = String::deserialize(deserializer)?;
    FieldName::new(&name).map_err(D::Error::custom)
}

fn blocks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cidr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let blocks = texts.iter().map(|text| {
        let wrong = |error| D::Error::custom(format_args!("`{}`: {error}", text.escape_debug()));
        text.parse().map_err(wrong)
    });
    blocks.collect()
}

fn authorization_timeout() -> Duration {
    Duration::from_millis(200)
}

fn limits_timeout() -> Duration {
    Duration::from_millis(20)
}

fn in_flight() -> usize {
    1024
}

fn forbidden() -> http::StatusCode {
    http::StatusCode::FORBIDDEN
}

fn internal() -> http::StatusCode {
    http::StatusCode::INTERNAL_SERVER_ERROR
}

fn v4_bits() -> u8 {
    32
}

fn v6_bits() -> u8 {
    128
}

fn generic_key() -> Box<str> {
    "generic_key".into()
}

fn header_match() -> Box<str> {
    "header_match".into()
}

fn service_name() -> String {
    "waypoint".to_owned()
}

fn sample_percent() -> f64 {
    1.0
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let percent = f64::deserialize(deserializer)?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok(percent),
        false => Err(D::Error::custom("not from 0.0 to 100.0")),
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    within(deserializer, 1, 60_000).map(|number| Duration::from_millis(number.into()))
}

fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1, 65_536).map(|number| number as usize)
}

/// A message of gRPC has 4 MiB at most, by default.
fn body_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1, 3 << 20).map(|number| number as usize)
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<http::StatusCode, D::Error> {
    let number = within(deserializer, 400, 599)?;
    http::StatusCode::from_u16(number as u16).map_err(D::Error::custom)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, least: u32, most: u32) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    match (least..=most).contains(&number) {
        true => Ok(number),
        false => Err(D::Error::custom(format_args!("not from {least} to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("config.toml");

    #[derive(Debug, Deserialize)]
    struct File {
        external: Config,
    }

    /// The example with its tables, which are comments, and without its sentences.
    fn example() -> String {
        let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix("# "));
        let is_sentence = |line: &&str| line.ends_with('.') || line.ends_with(':');
        lines.filter(|line| !is_sentence(line)).collect::<Vec<_>>().join("\n")
    }

    fn read(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str::<File>(text).map(|file| file.external)
    }

    #[test]
    fn what_is_commented_out_in_the_example_is_understood() {
        let mut config = read(&example()).unwrap();
        assert_eq!(config.paths().len(), 2);
        let [provider] = config.authorization.try_into().unwrap();
        assert!(provider.with_request_body.is_some());
        let limits = config.limits.unwrap();
        assert_eq!(limits.rules[0].actions.len(), 8);
        let actions: Vec<Action> = limits.rules[0].actions.iter().map(Action::from).collect();
        assert!(actions.contains(&Action::MaskedRemoteAddress { v4: 24, v6: 64 }));
        assert_eq!(config.keys.allowed.len(), 1);
        assert!(config.traces.is_some());
    }

    /// What the example says of defaults is so.
    #[test]
    fn the_example_has_the_defaults() {
        let given = read(&example()).unwrap();
        let least = "[[external.authorization]]\nname = 'opa'\nserver = { address = 'opa:1' }\n\
            [external.authorization.with_request_body]\nmax_request_bytes = 8192\n\
            [external.limits]\nserver = { address = 'limits:1' }\ndomain = 'mesh'\nrules = []\n\
            [external.traces]\nserver = { address = 'collector:1' }";
        let default = read(least).unwrap();
        let ([given_provider], [provider]) = (
            <[_; 1]>::try_from(given.authorization).unwrap(),
            <[_; 1]>::try_from(default.authorization).unwrap(),
        );
        let shown = |provider: Authorization| {
            let Authorization {
                name,
                server: _,
                timeout,
                max_in_flight,
                failure_mode_allow,
                status_on_error,
                with_request_body,
                allowed_headers,
                disallowed_headers,
                context_extensions,
            } = provider;
            let numbers = (name, timeout, max_in_flight, failure_mode_allow, status_on_error);
            let told = (
                with_request_body,
                allowed_headers,
                disallowed_headers,
                context_extensions,
            );
            format!("{numbers:?} {told:?}")
        };
        assert_eq!(shown(given_provider), shown(provider));
        let shown = |limits: Limits| {
            let Limits {
                server: _,
                domain,
                timeout,
                max_in_flight,
                failure_mode_deny,
                status_on_error,
                x_ratelimit_headers,
                rules: _,
            } = limits;
            let bounds = (domain, timeout, max_in_flight);
            format!("{bounds:?} {failure_mode_deny} {status_on_error} {x_ratelimit_headers}")
        };
        assert_eq!(shown(given.limits.unwrap()), shown(default.limits.unwrap()));
        let shown = |traces: Traces| (traces.service_name, traces.sample_percent);
        assert_eq!(shown(given.traces.unwrap()), shown(default.traces.unwrap()));
        assert!(default.keys.roots.is_none() && default.keys.allowed.is_empty());
    }

    #[test]
    fn mistakes_are_told() {
        let example = example();
        for (from, to, expected) in [
            ("timeout_ms = 200 ", "timeout_ms = 0 ", "not from 1 to 60000"),
            ("max_in_flight = 1024", "max_in_flight = 0", "not from 1 to 65536"),
            ("status_on_error = 403", "status_on_error = 200", "not from 400 to 599"),
            (
                "max_request_bytes = 8192",
                "max_request_bytes = 4000000",
                "not from 1 to 3145728",
            ),
            ("[\"*\"]", "[\"a*b\"]", "`a*b`"),
            ("[\"127.0.0.0/8\"]", "[\"127.0.0.0/33\"]", "not from 0 to 32"),
            (
                "sample_percent = 1.0",
                "sample_percent = 101.0",
                "not from 0.0 to 100.0",
            ),
            ("failure_mode_allow", "failure_mode", "unknown field"),
            ("\"source_cluster\"", "\"source\"", "unknown variant"),
            ("opa.shop.svc:9191", "opa.shop.svc", "address"),
        ] {
            assert!(example.contains(from), "{from}");
            let fault = read(&example.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(fault.contains(expected), "{from}: {fault}");
        }
    }
}
