//! `[tenants.<id>.request_ids]`.

use std::{num::NonZeroUsize, time::Duration};

use crate::config::{
    reader::Section,
    scalar::{HOUR, MINUTE, SECOND},
};

/// How long the bridge remembers what became of changes to which callers gave an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// From the end of a change. `request_ids.kept`.
    pub kept: Duration,
    /// The most changes; then the oldest ones are forgotten earlier. `request_ids.most`.
    pub most: NonZeroUsize,
}

pub(super) fn request_ids(section: &Section<'_>) -> RequestIds {
    RequestIds {
        kept: section.duration("kept", 10 * MINUTE, SECOND..=24 * HOUR),
        most: section.count("most", 20_000, 1_000_000),
    }
}
