//! A client that watches events.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{WatchEventsResponse, watch_events_response::What};
use tonic::{Status, Streaming};

/// A stream of events.
#[derive(Debug)]
pub struct Watching(Streaming<WatchEventsResponse>);

impl Watching {
    pub(crate) fn of(stream: Streaming<WatchEventsResponse>) -> Self {
        Self(stream)
    }

    /// The stream itself, to read it without time limits.
    pub fn into_stream(self) -> Streaming<WatchEventsResponse> {
        self.0
    }

    /// The next message.
    pub async fn next(&mut self) -> WatchEventsResponse {
        self.told().await.expect("the stream goes on")
    }

    /// The next message, or the status that ended the stream.
    pub async fn told(&mut self) -> Result<WatchEventsResponse, Status> {
        let told = tokio::time::timeout(Duration::from_secs(60), self.0.message()).await;
        told.expect("a message within a minute").map(|message| message.expect("no bare end"))
    }

    /// The next gateway event of this type; other messages are skipped.
    pub async fn event(&mut self, type_name: &str) -> WatchEventsResponse {
        loop {
            let message = self.next().await;
            if let Some(What::GatewayEvent(event)) = &message.what
                && event.type_name == type_name
            {
                return message;
            }
        }
    }
}
