//! Records of changes, for the fuzz targets alone.

pub use super::request_ids::fuzzing::{RecordedChange, read_change, record_change};
