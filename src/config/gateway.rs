//! `[gateway]`.

use std::num::NonZeroUsize;

use super::reader::Section;

/// `gateway.host_in_flight`.
pub(super) fn host_in_flight(section: &Section<'_>) -> NonZeroUsize {
    section.count("host_in_flight", 128, 100_000)
}
