//! `[gateway]`.

use std::num::NonZeroUsize;

use super::reader::Section;

/// `gateway.host_requests`.
pub(super) fn host_requests(section: &Section<'_>) -> NonZeroUsize {
    section.count("host_requests", 128, 100_000)
}
