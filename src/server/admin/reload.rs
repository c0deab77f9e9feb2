//! What a change of the configuration comes to, and how to have it put into force.

use std::fmt::Write as _;

use http::{Method, Request, StatusCode};

use super::{Answer, TEXT};
use crate::server::{ReloadControl, ReloadError, Reloaded};

/// Puts the configuration into force for a POST. For another method, says what that would do.
pub(super) async fn answer<B>(control: &ReloadControl, request: &Request<B>) -> Answer {
    let dry_run = request.method() != Method::POST;
    match control.reload(dry_run).await {
        Ok(reloaded) => (StatusCode::OK, TEXT, told(&reloaded, dry_run)),
        Err(error) => {
            let status = match error {
                ReloadError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
                ReloadError::Busy | ReloadError::NobodyReads => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, TEXT, format!("{error}\n"))
        }
    }
}

fn told(Reloaded { taken, needs_restart }: &Reloaded, dry_run: bool) -> String {
    let mut text = String::new();
    let in_force = if dry_run { "would be in force" } else { "in force" };
    for (what, keys) in [(in_force, taken), ("takes a restart", needs_restart)] {
        for key in keys {
            // Writing to a String cannot fail.
            let _written = writeln!(text, "{what}: {key}");
        }
    }
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}
