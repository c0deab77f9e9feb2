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

/// How a change is made.
#[derive(Debug, Args)]
pub(super) struct How {
    /// Wait this long, such as 5s, for the event that confirms the change.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) confirm_within: Option<Duration>,
    #[command(flatten)]
    pub(super) id: Id,
}

/// The id of a change.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// A UUID for this change, such as uuidgen makes: sent again with it, the change is made once.
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    pub(super) request_id: String,
}

impl How {
    pub(super) fn span(&self) -> Option<Span> {
        self.confirm_within.and_then(span)
    }
}

/// `None` if protobuf's `Duration` cannot hold it; no flag accepts such a long time.
pub(super) fn span(duration: Duration) -> Option<Span> {
    Span::try_from(duration).ok()
}
