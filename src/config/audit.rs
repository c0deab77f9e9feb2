//! `[audit]`.

use std::path::PathBuf;

use super::reader::Section;

/// The audit log. `[audit]`.
#[derive(Debug)]
pub struct Audit {
    /// The file that it is appended to; `None`: there is none. `audit.file`.
    pub file: Option<PathBuf>,
}

pub(super) fn audit(section: &Section<'_>) -> Audit {
    Audit { file: section.unwatched_path("file") }
}
