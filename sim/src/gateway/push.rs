//! The older form of push mode: a sign-in names a URL, and each event is sent there (client). Time limits
//! and repetitions are not known: an event is sent once, and an answer is waited for a while.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::timeout;

use super::Gateway;
use crate::{agent::Event, push_client::PushClient, record::Ended, reply::Reply};

/// The receiver of a session's events.
struct Receiver {
    gateway: Weak<Gateway>,
    agent: u32,
    /// The number of the session.
    session: u64,
    url: String,
}

enum Step {
    Send(Event, String),
    Wait,
    Over,
}

/// How long the receiver may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

// === impl Gateway ===

impl Gateway {
    /// Sends the session's events to this URL until the session is over.
    pub(super) fn begin_to_push(self: &Arc<Self>, agent: u32, session: u64, url: String) {
        tokio::spawn(Receiver { gateway: Arc::downgrade(self), agent, session, url }.serve());
    }

    /// The next event of the session, with the Guid that is sent with it.
    fn next_to_push(&self, agent: u32, session: u64) -> Step {
        let mut records = self.lock();
        let record = records.record(agent);
        record.apply_due(&self.options);
        let present = record.session.as_ref().filter(|present| present.number == session);
        if let Some(present) = present {
            let guid = present.current().to_owned();
            return record.next_event().map_or(Step::Wait, |event| Step::Send(event, guid));
        }
        let last = record.final_event(Ended::Session(session), &self.options);
        last.map_or(Step::Over, |event| Step::Send(event, String::new()))
    }
}

// === impl Receiver ===

impl Receiver {
    async fn serve(self) {
        loop {
            let Some(gateway) = self.gateway.upgrade() else { return };
            let changed = gateway.lock().record(self.agent).changed.clone();
            // Waits for changes before it looks, so that no event is missed in between.
            let mut notified = std::pin::pin!(changed.notified());
            notified.as_mut().enable();
            match gateway.next_to_push(self.agent, self.session) {
                Step::Over => return,
                Step::Wait => {
                    drop(gateway);
                    notified.await;
                }
                Step::Send(event, guid) => {
                    let body = Reply::pushed(&gateway.options, self.agent, &event);
                    let client = gateway.push_client.clone();
                    drop(gateway);
                    self.send(&client, &event, &guid, &body).await;
                }
            }
        }
    }

    async fn send(&self, client: &PushClient, event: &Event, guid: &str, body: &[u8]) {
        let failure = match timeout(LIMIT, client.post(&self.url, guid, body)).await {
            Ok(Ok(status)) if status.contains(" 200 ") => return,
            Ok(Ok(status)) => status,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        tracing::warn!(agent = self.agent, event = %event.kind, failure, "an event was not taken");
    }
}
