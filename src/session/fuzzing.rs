//! A reader of rows of the file, for the fuzz targets alone.

pub use super::file::fuzzing::row_again;
