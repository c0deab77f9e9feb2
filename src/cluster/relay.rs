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

/// Tells this replica's events to the others, and theirs to this one, by a stream in the store.
#[derive(Debug)]
pub struct StreamRelay {
    queue: mpsc::Sender<Waiting>,
    /// Whether the events that came before this replica have been read.
    ready: watch::Receiver<bool>,
}

/// An event that waits for the store, and when it was fetched.
type Waiting = (AgentId, What, Instant);

/// Events that wait for the store; more are only told here.
const QUEUE: usize = 4096;
/// For a caller who has come to watch.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// Between two warnings about the same.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Before a store that failed is asked again.
const PAUSE: Duration = Duration::from_millis(500);

impl StreamRelay {
    /// A relay, and what it does for as long as it is run.
    pub fn new(
        stream: RedisEvents,
        events: Arc<Events>,
        kept: usize,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (is_ready, ready) = watch::channel(false);
        let work = async move {
            let hearing = async {
                recall(&stream, &events, kept).await;
                is_ready.send_replace(true);
                hear(&stream, &events).await;
            };
            tokio::join!(tell(&stream, &events, waiting), hearing);
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

async fn tell(stream: &RedisEvents, events: &Events, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some((agent, what, fetched)) = waiting.recv().await {
        if stream.add(agent, what.clone(), fetched, events.newest()).await.is_err() {
            // Those who watch here still hear of it; the others cannot.
            events.publish(agent, what, fetched);
        }
    }
}

/// Reads what happened before.
async fn recall(stream: &RedisEvents, events: &Events, kept: usize) {
    loop {
        match stream.latest(kept).await {
            Ok(latest) => {
                if let Some(first) = latest.first() {
                    events.begin_after(first.sequence - 1);
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

async fn hear(stream: &RedisEvents, events: &Events) {
    let mut told = None::<Instant>;
    loop {
        match stream.after(events.newest()).await {
            Ok(news) => {
                let behind = events.append_all(news);
                if behind > 0 && told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                    told = Some(Instant::now());
                    warn!(
                        events = behind,
                        "the store has lost its events and numbers new ones below the old; they are numbered on here, and other replicas may know them by other numbers"
                    );
                }
            }
            Err(_unavailable) => sleep(PAUSE).await,
        }
    }
}
