//! What the configuration says about services outside.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hbone::Authority;
use mesh_policy::traffic::rate::Action;
use mesh_policy::traffic::{FieldName, HeaderMatch, HeaderTest, Pattern};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::keys::Block;
use super::names::Names;
use crate::proxy::config::{Server, parsed};

/// The section `external`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::waypoint) struct Config {
    pub(super) authorization: Vec<Authorization>,
    pub(super) limits: Option<Limits>,
    pub(super) keys: Keys,
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
    pub(super) allowed: Vec<Block>,
}

impl Config {
    /// All paths in it.
    pub(in crate::waypoint) fn paths(&mut self) -> Vec<&mut PathBuf> {
        let Self {
            authorization,
            limits,
            keys,
        } = self;
        let servers = authorization.iter_mut().map(|provider| &mut provider.server);
        let servers = servers.chain(limits.iter_mut().map(|limits| &mut limits.server));
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
