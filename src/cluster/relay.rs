mod publisher;
mod queue;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use self::{publisher::Publisher, queue::Queue};
use super::RedisEvents;
use crate::{
    event::{Events, Relay, What},
    id::AgentId,
    telemetry::log::LogInterval,
};

/// Relays events between this replica and the others, through a stream in the store.
#[derive(Debug)]
pub struct StreamRelay {
    queue: Arc<Queue>,
    /// Whether the events that were there before this replica started have been read, or are not waited for any longer.
    ready: watch::Receiver<bool>,
}

/// How long the events from before this replica started are waited for.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// The shortest time between two warnings about the same.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// The pause before a store that failed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

impl StreamRelay {
    /// Makes a relay, and the future that does its work while it is polled.
    pub fn new(
        stream: RedisEvents,
        events: Arc<Events>,
        kept: usize,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let queue = Arc::new(Queue::default());
        let waiting = queue.clone();
        let (is_ready, ready) = watch::channel(false);
        let mut may_publish = is_ready.subscribe();
        let work = async move {
            let receiving = async {
                let mut reading = pin!(read_latest(&stream, &events, kept));
                if timeout(READY_WITHIN, reading.as_mut()).await.is_err() {
                    // Watches do not wait any longer. What is read later was before their time.
                    events.begin_now();
                    is_ready.send_replace(true);
                    reading.await;
                }
                is_ready.send_replace(true);
                receive(&stream, &events).await;
            };
            let publishing = async {
                // The sender lives as long as this future.
                let _ended = may_publish.wait_for(|ready| *ready).await.map(drop);
                Publisher::new(&stream, &events).run(&waiting).await;
            };
            tokio::join!(publishing, receiving);
        };
        (Self { queue, ready }, work)
    }
}

impl Relay for StreamRelay {
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // An error: the relay has ended.
            let _ended = self.ready.clone().wait_for(|ready| *ready).await.map(drop);
        })
    }

    fn told(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.queue.told())
    }

    fn publish(&self, agent: AgentId, what: What, fetched: Instant) -> Result<(), What> {
        self.queue.push(agent, what, fetched);
        Ok(())
    }
}

/// Reads the events from before this replica started.
async fn read_latest(stream: &RedisEvents, events: &Events, kept: usize) {
    loop {
        match stream.latest(kept).await {
            Ok(latest) => {
                events.append_all(latest);
                return;
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}

async fn receive(stream: &RedisEvents, events: &Events) {
    let warned = LogInterval::default();
    loop {
        match stream.next().await {
            Ok(news) => {
                let behind = events.append_all(news);
                if behind > 0 && warned.is_due(WARN_EVERY) {
                    warn!(
                        events = behind,
                        "the store has lost its events and numbers new ones below the old; this replica numbers them above the old, so other replicas may know them by other numbers"
                    );
                }
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}
