//! Moments and lengths of time, as people and programs read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

/// A length of time in whole milliseconds; the highest number stands for all that are longer.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in milliseconds since 1970; 0 if it is earlier.
pub(crate) fn millis_of(moment: SystemTime) -> u64 {
    millis(moment.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Now, in milliseconds since 1970.
pub(crate) fn millis_now() -> u64 {
    millis_of(SystemTime::now())
}

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The same for serde.
///
/// # Errors
///
/// The serializer's.
pub fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

/// The same for what may not have been.
///
/// # Errors
///
/// The serializer's.
pub fn option_as_rfc3339<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => as_rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
