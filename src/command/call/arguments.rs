//! Arguments that several methods have.

use std::time::Duration;

use clap::Args;
use prost_types::Duration as Span;

use super::time;

#[derive(Debug, Args)]
pub(super) struct Agent {
    /// The agent's id on the gateway.
    #[arg(long, value_name = "ID")]
    pub(super) agent: String,
}

#[derive(Debug, Args)]
pub(super) struct Confirm {
    /// Wait this long, such as 5s, for the event that confirms the change.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) confirm_within: Option<Duration>,
}

impl Confirm {
    pub(super) fn span(&self) -> Option<Span> {
        self.confirm_within.and_then(span)
    }
}

/// `None` if protobuf's `Duration` cannot hold it; no flag accepts such a long time.
pub(super) fn span(duration: Duration) -> Option<Span> {
    Span::try_from(duration).ok()
}
