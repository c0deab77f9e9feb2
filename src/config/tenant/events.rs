//! `[tenants.<id>.events]`.

use std::num::NonZeroUsize;

use crate::config::reader::Section;

/// How many events are kept for callers who ask for missed events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The most events that are kept. `events.kept`.
    pub kept: NonZeroUsize,
    /// The most bytes that they may take; if events are large, fewer are kept.
    pub kept_bytes: NonZeroUsize,
    /// The most concurrent watches of events. `events.watches`.
    pub watches: NonZeroUsize,
}

/// The size of a tenant's event log, in bytes. About two thousand events fit, with contents of the
/// usual size.
const EVENT_BYTES: NonZeroUsize = NonZeroUsize::new(8 * 1024 * 1024).unwrap();
pub(super) fn events(section: &Section<'_>) -> Events {
    Events {
        kept: section.count("kept", 4096, 1_000_000),
        kept_bytes: EVENT_BYTES,
        watches: section.count("watches", 64, 10_000),
    }
}
