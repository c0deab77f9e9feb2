//! Errors that only an [`Untouched`] makes, for the fuzz targets alone.

use super::{CallError, Obstacle, Refusal, Untouched};

/// The error if `obstacle` kept a request from being sent, maybe after a refusal, and after some addresses had been
/// tried.
pub fn not_sent(obstacle: Obstacle, refused: Option<Refusal>, tried: Vec<String>) -> CallError {
    let mut untouched = refused.map_or_else(Untouched::at_the_start, Untouched::after);
    for cause in tried {
        untouched.tried(cause);
    }
    untouched.because(obstacle)
}
