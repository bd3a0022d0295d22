//! The `baggage` field: W3C Baggage, with the members that Istio's proxies exchange.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::token::is_token;

/// What a peer says about its workload: labels for telemetry, never a proof of identity.
///
/// The members that Istio's proxies exchange are read and set by [`BaggageKey`]; all others are
/// kept in their order. Printing puts Istio's members first, in the order that its proxies use.
///
/// The reader takes whitespace around members, keys and values, empty list elements,
/// percent-encoding, and properties after `;`, which it ignores. An Istio member without a value
/// counts as absent. The writer percent-encodes what the standard demands, and `=` because some
/// readers end a value there.
///
/// Limits: [`Baggage::MAX_MEMBERS`] and [`Baggage::MAX_BYTES`], the values of W3C Baggage, section
/// 3.3.2.
///
/// # Examples
///
/// ```
/// use hbone::metadata::{Baggage, BaggageKey, WorkloadKind};
///
/// let baggage = Baggage::new()
///     .with(BaggageKey::Workload(WorkloadKind::Deployment), "echo")?
///     .with(BaggageKey::Namespace, "default")?;
/// assert_eq!(baggage.to_string(), "k8s.namespace.name=default,k8s.deployment.name=echo");
/// # Ok::<(), hbone::metadata::BaggageError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baggage {
    cluster: Option<Box<str>>,
    namespace: Option<Box<str>>,
    workload: Option<(WorkloadKind, Box<str>)>,
    service_name: Option<Box<str>>,
    service_version: Option<Box<str>>,
    region: Option<Box<str>>,
    zone: Option<Box<str>>,
    others: Vec<(Box<str>, Box<str>)>,
}

impl Baggage {
    /// The most bytes of all members together, as printed and as read.
    pub const MAX_BYTES: usize = 8192;

    /// The most members, of all kinds together.
    pub const MAX_MEMBERS: usize = 180;

    /// Makes an empty baggage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads all lines of a `baggage` field, which together form one list.
    ///
    /// # Errors
    ///
    /// [`BaggageError`] for the first fault; nothing of a faulty baggage is used.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, BaggageError> {
        let mut baggage = Self::new();
        let mut bytes = 0;
        let mut members = 0;
        for line in lines {
            bytes += line.len();
            if bytes > Self::MAX_BYTES {
                return Err(BaggageError::TooLong);
            }
            for member in text(line)?.split(',').map(trim) {
                if member.is_empty() {
                    continue;
                }
                members += 1;
                if members > Self::MAX_MEMBERS {
                    return Err(BaggageError::TooManyMembers);
                }
                baggage.read_member(member)?;
            }
        }
        baggage.within_limits()
    }

    /// Sets one of Istio's members; an empty `value` removes it. There is one workload, whatever
    /// its kind.
    ///
    /// # Errors
    ///
    /// [`BaggageError::Control`] if `value` contains control characters, and the limits of the
    /// type.
    pub fn with(mut self, key: BaggageKey, value: &str) -> Result<Self, BaggageError> {
        self.set(key, checked(value)?);
        self.within_limits()
    }

    /// Adds another member.
    ///
    /// # Errors
    ///
    /// [`BaggageError::Key`] if `key` is no token of RFC 9110, [`BaggageError::Reserved`] if it is
    /// one of Istio's, [`BaggageError::Control`] if `value` contains control characters, and the
    /// limits of the type.
    pub fn with_other(mut self, key: &str, value: &str) -> Result<Self, BaggageError> {
        if !is_token(key) {
            return Err(BaggageError::Key);
        }
        if let Some(key) = BaggageKey::from_name(key) {
            return Err(BaggageError::Reserved { key });
        }
        self.others.push((key.into(), checked(value)?.into()));
        self.within_limits()
    }

    /// The value of one of Istio's members. A workload of another kind than that of `key` counts as
    /// absent.
    #[must_use]
    pub fn get(&self, key: BaggageKey) -> Option<&str> {
        match key {
            BaggageKey::Cluster => self.cluster.as_deref(),
            BaggageKey::Namespace => self.namespace.as_deref(),
            BaggageKey::Workload(kind) => self.workload().filter(|(of, _)| *of == kind).map(|(_, name)| name),
            BaggageKey::ServiceName => self.service_name.as_deref(),
            BaggageKey::ServiceVersion => self.service_version.as_deref(),
            BaggageKey::Region => self.region.as_deref(),
            BaggageKey::Zone => self.zone.as_deref(),
        }
    }

    /// Kind and name of the workload.
    #[must_use]
    pub fn workload(&self) -> Option<(WorkloadKind, &str)> {
        self.workload.as_ref().map(|(kind, name)| (*kind, &**name))
    }

    /// The members that are not Istio's, as keys and decoded values in the order of the list.
    pub fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.istio().next().is_none() && self.others.is_empty()
    }

    fn read_member(&mut self, member: &str) -> Result<(), BaggageError> {
        let pair = member.split_once(';').map_or(member, |(pair, _properties)| pair);
        let (key, value) = pair.split_once('=').ok_or(BaggageError::NoValue)?;
        let (key, value) = (trim(key), trim(value));
        if !is_token(key) {
            return Err(BaggageError::Key);
        }
        if let Some(byte) = value.bytes().find(|byte| matches!(byte, b' ' | b'\t' | b'"' | b'\\')) {
            return Err(BaggageError::Octet { byte });
        }
        // Section 3.3.1.3 asks for U+FFFD in place of octets that are not UTF-8.
        let value = percent_decode_str(value).decode_utf8_lossy();
        let value = checked(&value)?;
        match BaggageKey::from_name(key) {
            Some(key) if self.is_set(key) => return Err(BaggageError::Repeated { key }),
            Some(key) => self.set(key, value),
            None => self.others.push((key.into(), value.into())),
        }
        Ok(())
    }

    fn is_set(&self, key: BaggageKey) -> bool {
        match key {
            BaggageKey::Workload(_) => self.workload.is_some(),
            key => self.get(key).is_some(),
        }
    }

    fn set(&mut self, key: BaggageKey, value: &str) {
        let value = (!value.is_empty()).then(|| value.into());
        match key {
            BaggageKey::Cluster => self.cluster = value,
            BaggageKey::Namespace => self.namespace = value,
            BaggageKey::Workload(kind) => self.workload = value.map(|name| (kind, name)),
            BaggageKey::ServiceName => self.service_name = value,
            BaggageKey::ServiceVersion => self.service_version = value,
            BaggageKey::Region => self.region = value,
            BaggageKey::Zone => self.zone = value,
        }
    }

    fn istio(&self) -> impl Iterator<Item = (&str, &str)> {
        let workload = self.workload.as_ref().map_or(WorkloadKind::Pod, |(kind, _)| *kind);
        [
            BaggageKey::Cluster,
            BaggageKey::Namespace,
            BaggageKey::Workload(workload),
            BaggageKey::ServiceName,
            BaggageKey::ServiceVersion,
            BaggageKey::Region,
            BaggageKey::Zone,
        ]
        .into_iter()
        .filter_map(|key| Some((key.name(), self.get(key)?)))
    }

    fn within_limits(self) -> Result<Self, BaggageError> {
        if self.istio().count() + self.others.len() > Self::MAX_MEMBERS {
            return Err(BaggageError::TooManyMembers);
        }
        let encoded = |value| utf8_percent_encode(value, ENCODED).map(str::len).sum::<usize>();
        let bytes: usize = self
            .istio()
            .chain(self.others())
            .map(|(key, value)| key.len() + "=,".len() + encoded(value))
            .sum();
        if bytes.saturating_sub(",".len()) > Self::MAX_BYTES {
            return Err(BaggageError::TooLong);
        }
        Ok(self)
    }
}

impl FromStr for Baggage {
    type Err = BaggageError;

    fn from_str(text: &str) -> Result<Self, BaggageError> {
        Self::parse([text.as_bytes()])
    }
}

impl fmt::Display for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.istio().chain(self.others()).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={}", utf8_percent_encode(value, ENCODED))?;
        }
        Ok(())
    }
}

/// The members that Istio's proxies exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BaggageKey {
    /// `k8s.cluster.name`.
    Cluster,
    /// `k8s.namespace.name`.
    Namespace,
    /// `k8s.deployment.name` and its like: the name of the workload.
    Workload(WorkloadKind),
    /// `service.name`: the canonical service.
    ServiceName,
    /// `service.version`: the canonical revision.
    ServiceVersion,
    /// `cloud.region`.
    Region,
    /// `cloud.availability_zone`.
    Zone,
}

impl BaggageKey {
    /// The key as it stands in the list.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "k8s.cluster.name",
            Self::Namespace => "k8s.namespace.name",
            Self::Workload(WorkloadKind::Deployment) => "k8s.deployment.name",
            Self::Workload(WorkloadKind::CronJob) => "k8s.cronjob.name",
            Self::Workload(WorkloadKind::Pod) => "k8s.pod.name",
            Self::Workload(WorkloadKind::Job) => "k8s.job.name",
            Self::ServiceName => "service.name",
            Self::ServiceVersion => "service.version",
            Self::Region => "cloud.region",
            Self::Zone => "cloud.availability_zone",
        }
    }

    /// The key with this name, in exactly this spelling.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "k8s.cluster.name" => Self::Cluster,
            "k8s.namespace.name" => Self::Namespace,
            "k8s.deployment.name" => Self::Workload(WorkloadKind::Deployment),
            "k8s.cronjob.name" => Self::Workload(WorkloadKind::CronJob),
            "k8s.pod.name" => Self::Workload(WorkloadKind::Pod),
            "k8s.job.name" => Self::Workload(WorkloadKind::Job),
            "service.name" => Self::ServiceName,
            "service.version" => Self::ServiceVersion,
            "cloud.region" => Self::Region,
            "cloud.availability_zone" => Self::Zone,
            _ => return None,
        })
    }
}

/// What kind of Kubernetes object a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkloadKind {
    /// A Deployment.
    Deployment,
    /// A CronJob.
    CronJob,
    /// A bare Pod.
    Pod,
    /// A Job.
    Job,
}

/// Why a field or member cannot be part of a [`Baggage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum BaggageError {
    /// The members take more than [`Baggage::MAX_BYTES`] bytes.
    #[error("baggage exceeds {} bytes", Baggage::MAX_BYTES)]
    TooLong,
    /// There are more than [`Baggage::MAX_MEMBERS`] members.
    #[error("baggage exceeds {} members", Baggage::MAX_MEMBERS)]
    TooManyMembers,
    /// A member has no `=`.
    #[error("baggage member has no value")]
    NoValue,
    /// A key is not a token.
    #[error("baggage key is not a token")]
    Key,
    /// A member contains a byte that must be percent-encoded.
    #[error("baggage member contains unencoded byte {byte:#04x}")]
    Octet {
        /// The first such byte.
        byte: u8,
    },
    /// A decoded value contains a control character, which must not reach logs and metric labels.
    #[error("baggage value contains a control character")]
    Control,
    /// One of Istio's members occurs twice, or two workloads do, so that readers may differ about
    /// it.
    #[error("baggage has `{}` more than once", key.name())]
    Repeated {
        /// The key of the second member.
        key: BaggageKey,
    },
    /// One of Istio's keys was given as another member.
    #[error("baggage key `{}` has its own setter", key.name())]
    Reserved {
        /// The key that was given.
        key: BaggageKey,
    },
}

fn checked(value: &str) -> Result<&str, BaggageError> {
    if value.chars().any(char::is_control) {
        return Err(BaggageError::Control);
    }
    Ok(value)
}

/// Checks the bytes of a line before anything else, so that every later step works on visible ASCII
/// and spaces.
fn text(line: &[u8]) -> Result<&str, BaggageError> {
    let allowed = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    match line.iter().find(|byte| !allowed(byte)) {
        Some(&byte) => Err(BaggageError::Octet { byte }),
        None => str::from_utf8(line).map_err(|_| BaggageError::NoValue),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'=')
    .add(b'\\');
