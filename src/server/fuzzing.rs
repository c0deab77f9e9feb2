//! Readers of a caller's bytes, for the fuzz targets alone.

pub use super::{
    frame_budget::Sent,
    frames::Frames,
    message_frame::Framing,
    preface::{Beginning, PREFACE, beginning},
};
