use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use super::RedisEvents;
use crate::{
    event::{Events, Relay, What},
    id::AgentId,
};

/// Relays events between this replica and the others, through a stream in the store.
#[derive(Debug)]
pub struct StreamRelay {
    queue: mpsc::Sender<Queued>,
    /// Whether the events that were there before this replica started have been read.
    ready: watch::Receiver<bool>,
}

/// An event that waits to be stored, and when it was fetched.
type Queued = (AgentId, What, Instant);

/// How many events may wait for the store. If there are more, they are published only here.
const QUEUE: usize = 4096;
/// How long a new watcher waits for the events from before this replica started.
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
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (is_ready, ready) = watch::channel(false);
        let work = async move {
            let receiving = async {
                read_latest(&stream, &events, kept).await;
                is_ready.send_replace(true);
                receive(&stream, &events).await;
            };
            tokio::join!(publish(&stream, &events, waiting), receiving);
        };
        (Self { queue, ready }, work)
    }
}

impl Relay for StreamRelay {
    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut ready = self.ready.clone();
            let _late = timeout(READY_WITHIN, ready.wait_for(|ready| *ready)).await;
        })
    }

    fn publish(&self, agent: AgentId, what: What, fetched: Instant) -> Result<(), What> {
        let waiting = (agent, what, fetched);
        self.queue.try_send(waiting).map_err(|error| error.into_inner().1)
    }
}

async fn publish(stream: &RedisEvents, events: &Events, mut waiting: mpsc::Receiver<Queued>) {
    while let Some((agent, what, fetched)) = waiting.recv().await {
        if stream.add(agent, what.clone(), fetched, events.newest()).await.is_err() {
            // The store has not taken it, or takes it later, for the others alone.
            events.publish(agent, what, fetched);
        }
    }
}

/// Reads the events from before this replica started.
async fn read_latest(stream: &RedisEvents, events: &Events, kept: usize) {
    loop {
        match stream.latest(kept).await {
            Ok(latest) => {
                if let Some(first) = latest.first() {
                    events.begin_after(first.sequence.saturating_sub(1));
                }
                for event in latest {
                    events.append(event);
                }
                return;
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}

async fn receive(stream: &RedisEvents, events: &Events) {
    let mut warned = None::<Instant>;
    loop {
        match stream.after(events.newest()).await {
            Ok(news) => {
                let behind = events.append_all(news);
                if behind > 0 && warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
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
