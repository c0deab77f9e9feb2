//! `[tenants.<id>.events]`.

use std::num::NonZeroUsize;

use crate::config::reader::Section;

/// How many events are kept for callers who come back for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events kept. `events.kept`.
    pub kept: NonZeroUsize,
    /// Bytes that they may take; fewer events are kept where they are large.
    pub kept_bytes: NonZeroUsize,
    /// Callers who watch events at once. `events.watches`.
    pub watches: NonZeroUsize,
}

/// Of a tenant's event log: some two thousand events with the contents that gateways send, and a bound
/// for contents that are larger.
const EVENT_BYTES: NonZeroUsize = NonZeroUsize::new(8 * 1024 * 1024).unwrap();
pub(super) fn events(section: &Section<'_>) -> Events {
    Events {
        kept: section.count("kept", 4096, 1_000_000),
        kept_bytes: EVENT_BYTES,
        watches: section.count("watches", 64, 10_000),
    }
}
