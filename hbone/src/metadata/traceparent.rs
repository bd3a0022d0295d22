//! The `traceparent` field: W3C Trace Context, section 3.2.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

/// The position of a tunnel in a distributed trace.
///
/// Reads version `00` and, as the standard asks, the fields that it knows of later versions; always
/// prints version `00`. Flags other than *sampled* and *random trace id* are dropped, because they
/// may not be passed on unknown.
///
/// # Examples
///
/// ```
/// use hbone::metadata::TraceParent;
///
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = text.parse()?;
/// assert!(parent.is_sampled());
/// assert_eq!(parent.to_string(), text);
/// # Ok::<(), hbone::metadata::TraceParentError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: NonZeroU128,
    parent_id: NonZeroU64,
    flags: u8,
}

impl TraceParent {
    /// Makes an unsampled trace context from the ids of the trace and of the calling span.
    ///
    /// The caller draws the ids at random.
    ///
    /// # Errors
    ///
    /// [`TraceParentError::ZeroId`] if an id is 0.
    pub fn new(trace_id: u128, parent_id: u64) -> Result<Self, TraceParentError> {
        Ok(Self {
            trace_id: NonZeroU128::new(trace_id).ok_or(TraceParentError::ZeroId)?,
            parent_id: NonZeroU64::new(parent_id).ok_or(TraceParentError::ZeroId)?,
            flags: 0,
        })
    }

    /// Says whether the caller may have recorded the trace. Default: no.
    #[must_use]
    pub fn with_sampled(mut self, sampled: bool) -> Self {
        self.flags = (self.flags & !SAMPLED) | if sampled { SAMPLED } else { 0 };
        self
    }

    /// The id of the whole trace.
    #[must_use]
    pub fn trace_id(&self) -> NonZeroU128 {
        self.trace_id
    }

    /// The id of the calling span.
    #[must_use]
    pub fn parent_id(&self) -> NonZeroU64 {
        self.parent_id
    }

    /// Whether the caller may have recorded the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let mut fields = text.splitn(5, '-');
        let version = parse_hex::<2>(fields.next())?;
        let trace_id = parse_hex::<32>(fields.next())?;
        let parent_id = parse_hex::<16>(fields.next())?;
        let flags = parse_hex::<2>(fields.next())?;
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return Err(TraceParentError::Version);
        }
        Ok(Self {
            trace_id: NonZeroU128::new(trace_id).ok_or(TraceParentError::ZeroId)?,
            parent_id: u64::try_from(parent_id)
                .ok()
                .and_then(NonZeroU64::new)
                .ok_or(TraceParentError::ZeroId)?,
            flags: u8::try_from(flags).map_err(|_| TraceParentError::Field)? & (SAMPLED | RANDOM),
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.parent_id, self.flags
        )
    }
}

/// Why a text cannot be a [`TraceParent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TraceParentError {
    /// The version is `ff`, or more than version `00` knows follows the flags.
    #[error("trace context has an invalid version or trailing fields")]
    Version,
    /// A field is missing, of the wrong length, or not lower-case hexadecimal.
    #[error("trace context has a field that is not lower-case hexadecimal of its fixed length")]
    Field,
    /// The trace id or the parent id is 0.
    #[error("trace context has an all-zero id")]
    ZeroId,
}

fn parse_hex<const LEN: usize>(field: Option<&str>) -> Result<u128, TraceParentError> {
    field
        .filter(|text| text.len() == LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or(TraceParentError::Field)
}

const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;
