//! Moments as single words, so that atomics can hold them.

use std::time::Duration;

/// Nanoseconds since the caller's epoch; 584 years are the end of time.
pub(super) fn nanos(moment: Duration) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}
